"""The lease goes by monotonic clocks: whatever the wall clocks of the replicas read, one leads, and goes on leading."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from rollup_operator.kube.client import Body, Conflict, NotFound
from rollup_operator.kube.lease import LeaseClient
from rollup_operator.lifecycle.leader.election import Election, Followers
from rollup_operator.lifecycle.leader.gate import Gate, Terms
from support.turned_clock import TurnedLoop, turned

YEARS = timedelta(days=4 * 365)


class Server:
    """One Lease, with versions and a watch."""

    def __init__(self) -> None:
        self.body: Body | None = None
        self.version = 0
        self.holders: list[str] = []
        self.changed = asyncio.Condition()
        self.held: asyncio.Future[None] | None = None
        """What a renewal waits for, if anything."""
        self.waits = asyncio.Event()

    async def get(self, _: str) -> Body:
        if self.body is None:
            raise NotFound(404, "NotFound", "no lease")
        return self.body

    async def post(self, _: str, body: Body) -> Body:
        if self.body is not None:
            raise Conflict(409, "AlreadyExists", "there is one")
        return await self._store(body)

    async def put(self, _: str, body: Body) -> Body:
        if self.held is not None:
            self.waits.set()
            await self.held
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
        self.looked_again = self.led = self.stood_down = 0
        self.wall = datetime(2026, 1, 1, tzinfo=UTC)
        client: Any = server
        self.gate = Gate(asyncio.get_running_loop().time)
        followers = Followers(self._lead, self._look_again, self._stand_down)
        lease = LeaseClient(client, "n", "lease", lambda: self.wall)
        self.election = Election(lease, name, self.gate, followers, Terms())
        self.task = self.election.start()

    def _lead(self) -> None:
        self.led += 1

    def _stand_down(self) -> None:
        self.stood_down += 1

    def _look_again(self) -> None:
        self.looked_again += 1


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


def test_who_has_drained_by_the_clock_alone_looks_again_once_the_lease_is_renewed() -> None:
    async def scene() -> None:
        server, loop = Server(), asyncio.get_running_loop()
        assert isinstance(loop, TurnedLoop)
        replica = Replica(server, "only")
        await asyncio.sleep(1)
        server.held = loop.create_future()
        await server.waits.wait()
        loop.freeze(10)  # the renewal goes through meanwhile, and its answer is the first thing that is heard
        assert (replica.gate.open, replica.gate.draining) == (True, True)
        server.held.set_result(None)
        await asyncio.sleep(0.1)
        assert (replica.gate.open, replica.gate.draining) == (True, False)
        assert replica.looked_again > 0
        await replica.election.release()

    turned(scene())


def test_who_has_ceased_by_the_clock_alone_leads_anew_though_the_lease_was_renewed() -> None:
    async def scene() -> None:
        server, loop = Server(), asyncio.get_running_loop()
        assert isinstance(loop, TurnedLoop)
        replica = Replica(server, "only")
        await asyncio.sleep(1)
        server.held = loop.create_future()
        await server.waits.wait()
        candidacy: Any = replica.election._candidacy
        wrote = candidacy.wrote

        def frozen(*args: Any, **times: Any) -> None:
            """Take the answer in, in time; what follows from it is asked only after a while."""
            wrote(*args, **times)
            candidacy.wrote = wrote
            loop.freeze(2)
            assert not replica.gate.open, "whatever asks now ends, and nobody would begin it again"

        candidacy.wrote = frozen
        loop.freeze(10)
        server.held.set_result(None)
        await asyncio.sleep(0.1)
        assert (replica.gate.open, replica.led, replica.stood_down) == (True, 2, 1)
        await asyncio.sleep(60)
        assert (replica.led, replica.stood_down) == (2, 1)
        await replica.election.release()

    turned(scene())
