"""Bodies under way: bounded in all, a share for each caller, and nobody waits for a slow one of somebody else."""

import asyncio
import itertools
import json
import time

import pytest

from rollup_operator.http.access import bodies
from rollup_operator.http.protocol.positioned_json import Node, read_json
from rollup_operator.sharing.memory import MIB, Budgets
from support.bodies import sensor
from support.http_double import Cluster
from support.serving import served

SMALL = Budgets.of(16 * MIB)
"""Half a MiB for bodies."""


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


class Caller:
    """A connection of one user."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user: str) -> None:
        self._reader, self._writer, self._user = reader, writer, user

    @classmethod
    async def connect(cls, port: int, user: str) -> "Caller":
        return cls(*await asyncio.open_connection("127.0.0.1", port), user)

    def begin(self, length: int, body: bytes = b"", job: str = "sensor") -> None:
        """Send the head of a creation, and a part of its body."""
        lines = [f"PUT /_rollup/job/{job} HTTP/1.1", "Host: x", f"Authorization: Bearer {self._user}"]
        lines += ["Content-Type: application/json", f"Content-Length: {length}", "", ""]
        self._writer.write("\r\n".join(lines).encode() + body)

    def go_on(self, body: bytes) -> None:
        self._writer.write(body)

    async def status(self) -> int:
        async with asyncio.timeout(10):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            await self._reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
        return int(head.split()[1])

    def leave(self) -> None:
        self._writer.close()


async def test_slow_bodies_of_one_caller_hold_up_no_other(cluster: Cluster) -> None:
    body = json.dumps(sensor()).encode()
    async with served(cluster, budgets=SMALL, http_body_seconds=60) as endpoint:
        slow = [await Caller.connect(endpoint.port, "greedy") for _ in range(20)]
        for number, each in enumerate(slow):
            each.begin(262_144, b"{", job=f"job-{number}")
        await asyncio.sleep(0.1)
        ben = await Caller.connect(endpoint.port, "ben")
        ben.begin(len(body), body)
        assert await ben.status() == 200
        for each in (*slow, ben):
            each.leave()


async def test_who_has_no_more_room_for_bodies_is_answered_so(cluster: Cluster) -> None:
    body = json.dumps(sensor()).encode()
    async with served(cluster, budgets=SMALL, http_body_seconds=0.2) as endpoint:
        slow, more = await Caller.connect(endpoint.port, "greedy"), await Caller.connect(endpoint.port, "greedy")
        slow.begin(262_144, b"{")
        await asyncio.sleep(0.05)
        more.begin(262_144, b"{")
        assert await slow.status() == 408
        assert await more.status() in (408, 429)
        ann = await Caller.connect(endpoint.port, "ann")
        ann.begin(len(body), body)
        assert await ann.status() == 200
        for each in (slow, more, ann):
            each.leave()


async def test_all_the_room_comes_back(cluster: Cluster) -> None:
    body = json.dumps(sensor()).encode()
    async with served(cluster, budgets=SMALL) as endpoint:
        for number in range(40):
            one = await Caller.connect(endpoint.port, "ann")
            if number % 2:
                one.begin(200_000, b"{" * 1_000)
                one.leave()
            else:
                one.begin(len(body), body, job=f"job-{number}")
                assert await one.status() in (200, 400)
                one.leave()
        last = await Caller.connect(endpoint.port, "ann")
        last.begin(len(body), body)
        assert await last.status() == 200
        last.leave()


async def test_bodies_that_take_long_to_parse_are_taken_in_turn_by_callers(cluster: Cluster) -> None:
    """One at a time: in Python more threads than one are no quicker, and each keeps the event loop waiting."""
    large = json.dumps({"groups": [[]] * 40_000}).encode()
    async with served(cluster) as endpoint:
        greedy = [await Caller.connect(endpoint.port, "greedy") for _ in range(8)]
        ben = await Caller.connect(endpoint.port, "ben")
        over: list[str] = []

        async def ask(one: Caller, name: str) -> None:
            one.begin(len(large), large)
            assert await one.status() == 400
            over.append(name)

        async with asyncio.TaskGroup() as group:
            for each in greedy:
                group.create_task(ask(each, "greedy"))
            await asyncio.sleep(0.1)
            group.create_task(ask(ben, "ben"))
        assert over.index("ben") < 5
        for each in (*greedy, ben):
            each.leave()


async def test_the_thread_that_parses_bodies_leaves_most_of_the_time_to_others(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever computes in Python makes the event loop wait at each of its reads and writes."""
    long = json.dumps({"metrics": [{"field": f"f{n}"} for n in range(1_000)]}).encode()
    times: list[tuple[float, float]] = []

    def timed(data: bytes) -> Node:
        began = time.monotonic()
        try:
            return read_json(data)
        finally:
            times.append((began, time.monotonic()))

    monkeypatch.setattr(bodies, "read_json", timed)
    async with served(cluster) as endpoint:
        callers = [await Caller.connect(endpoint.port, name) for name in ("ann", "ben", "cem", "dora")]
        for each in callers:
            each.begin(len(long), long)
        for each in callers:
            assert await each.status() == 400
            each.leave()
    assert len(times) == len(callers)
    for (began, ended), (next_began, _) in itertools.pairwise(times):
        assert next_began - ended > 0.9 * bodies.REST * (ended - began)
