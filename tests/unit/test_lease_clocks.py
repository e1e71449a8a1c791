"""The lease goes by monotonic clocks: whatever the wall clocks of the replicas read, one leads, and goes on leading."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from rollup_operator.kube.client import Body, Conflict, NotFound
from rollup_operator.kube.lease import LeaseClient
from rollup_operator.lifecycle.election import Election, Followers
from rollup_operator.lifecycle.leadership import Gate, Terms
from support.turned_clock import turned

YEARS = timedelta(days=4 * 365)


class Server:
    """One Lease, with versions and a watch."""

    def __init__(self) -> None:
        self.body: Body | None = None
        self.version = 0
        self.holders: list[str] = []
        self.changed = asyncio.Condition()

    async def get(self, _: str) -> Body:
        if self.body is None:
            raise NotFound(404, "NotFound", "no lease")
        return self.body

    async def post(self, _: str, body: Body) -> Body:
        if self.body is not None:
            raise Conflict(409, "AlreadyExists", "there is one")
        return await self._store(body)

    async def put(self, _: str, body: Body) -> Body:
        if body["metadata"]["resourceVersion"] != str(self.version):
            raise Conflict(409, "Conflict", "it has changed")
        return await self._store(body)

    async def _store(self, body: Body) -> Body:
        self.version += 1
        self.body = body | {"metadata": body["metadata"] | {"resourceVersion": str(self.version)}}
        holder = body["spec"]["holderIdentity"]
        if self.holders[-1:] != [holder]:
            self.holders.append(holder)
        async with self.changed:
            self.changed.notify_all()
        return self.body

    async def watch(self, *_: object, **__: object) -> AsyncIterator[tuple[str, Body]]:
        while True:
            if self.body is not None:
                yield "MODIFIED", self.body
            async with self.changed:
                await self.changed.wait()


class Replica:
    """A candidate whose wall clock is what the test says."""

    def __init__(self, server: Server, name: str) -> None:
        self.wall = datetime(2026, 1, 1, tzinfo=UTC)
        client: Any = server
        self.gate = Gate(asyncio.get_running_loop().time)
        told = Followers(lambda: None, lambda: None, lambda: None)
        lease = LeaseClient(client, "n", "lease", lambda: self.wall)
        self.election = Election(lease, name, self.gate, told, Terms())
        self.task = self.election.start()


def test_steps_of_wall_clocks_change_nothing_about_who_leads() -> None:
    async def scene() -> None:
        server, chance = Server(), random.Random(1)
        first = Replica(server, "first")
        await asyncio.sleep(1)
        second = Replica(server, "second")
        for _ in range(600):
            for replica in (first, second):
                replica.wall += chance.choice((-YEARS, timedelta(), timedelta(), timedelta(), YEARS))
            await asyncio.sleep(1)
            assert (first.gate.open, first.gate.draining, second.gate.open) == (True, False, False)
        assert server.holders == ["first"]
        first.task.cancel()  # it dies without a word
        silent = asyncio.get_running_loop().time()
        while not second.gate.open:
            second.wall += YEARS
            await asyncio.sleep(0.1)
            second.wall -= YEARS
            assert not (first.gate.open and second.gate.open)
        assert Terms().lasts - Terms().renew <= asyncio.get_running_loop().time() - silent <= Terms().lasts + 1
        await second.election.release()
        await asyncio.gather(first.task, return_exceptions=True)

    turned(scene())
