"""Random schedules of runs, halts, crashes, rivals and faults on a real node: nothing is lost, nothing is double.

Whatever a seed brings, one that says that it released is quiet, and a last run without faults comes to exactly what the
rows say. A seed is repeated by `-k "[7]"`; more of them are tried by `--schedules 200`.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from rollup_operator.indexer.run import RunResult
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.errors import StoreError
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.errors import Unanswered
from support.clustered import Clustered
from support.store_drill import Drill
from support.store_faults import Answer, CutAfter, CutBefore, CutInside, CutSent, HalfBulk, Hold, HoldAnswer
from support.store_http import StoreHttp
from support.store_jobs import connected, slow_down
from support.store_proxy import Fault, Request, StoreProxy
from support.store_steps import STEPS, Trouble, on_steps

ROUNDS = 4
OFTEN = ("page", "bulk", "commit", "release", "tasks", "claim")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("seed", range(metafunc.config.getoption("--schedules")))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollup_operator.stores.opensearch.transport.retry.SECONDS", 0.3)


class Mortal(Cluster):
    """The client of a process that may die: its connections break, and nothing more is sent."""

    dead = False

    async def call(self, method: str, path: str, **more: Any) -> Any:
        if self.dead:
            raise Unanswered("dead", sent=False)
        return await super().call(method, path, **more)

    async def die(self) -> None:
        self.dead = True
        await self.close()


@dataclass
class Process:
    """An operator that runs the job, in the same event loop as its rivals."""

    name: str
    cluster: Mortal
    at: Clustered
    results: list[tuple[RunResult, float]] = field(default_factory=list)
    """What its runs said, and when they had ended."""


@dataclass
class Schedule:
    """What one seed brings."""

    drill: Drill
    chance: random.Random
    troubles: list[Trouble] = field(default_factory=list)
    """All that there have been."""
    held: list[Hold | HoldAnswer] = field(default_factory=list)

    @asynccontextmanager
    async def process(self, name: str) -> AsyncIterator[Process]:
        """A process with a client of its own."""
        async with connected(self.drill.proxy.url) as like:
            cluster = Mortal(like.hosts, like.make_session, timeout=1.0)
            of = self.drill.at
            try:
                yield Process(name, cluster, Clustered(of.node, cluster, of.source, of.target))
            finally:
                await cluster.close()

    def job(self) -> JobConfig:
        return self.drill.at.job(pageSize=self.chance.randint(3, 16), parallelism=self.chance.choice((1, 1, 4)))

    def trouble(self) -> None:
        """Let some things go wrong, in place of what went wrong before."""
        self.drill.proxy.heal()
        troubles = []
        for _ in range(self.chance.choice((0, 1, 1, 2, 3))):
            step = self.chance.choice(self.chance.choice((STEPS, OFTEN)))
            troubles.append(
                Trouble(step, self.fault(step), self.chance.randint(1, 3), self.chance.choice((1, 1, 2, None)))
            )
        print("  troubles:", *troubles, sep="\n    ")
        self.troubles += troubles
        on_steps(self.drill.proxy, *troubles)

    def fault(self, step: str) -> Fault:
        """One fault; what is held goes on a while later."""
        kind = self.chance.randrange(9)
        if kind == 0 and step == "bulk":
            return HalfBulk(lambda i: i % 3 > 0, type_="es_rejected_execution_exception")
        if kind <= 1:
            held = Hold(outlives_client=self.chance.random() < 0.5)
            self.held.append(held)
            asyncio.get_running_loop().call_later(self.chance.uniform(0.01, 1.5), held.release)
            return held
        if kind == 2:
            answer = HoldAnswer()
            self.held.append(answer)
            asyncio.get_running_loop().call_later(self.chance.uniform(0.01, 1.5), answer.release)
            return answer
        made: list[Fault] = [CutBefore(), CutSent(), CutAfter(), CutInside(), Answer(503), Answer(429)]
        return made[kind - 3]

    async def round(self, processes: list[Process]) -> None:
        """One process runs; perhaps it is halted or dies, or another one runs as well."""
        if self.chance.random() < 0.6:
            self.drill.grow(self.chance.randint(1, 5))
        self.trouble()
        runs = [self.run(processes[0])]
        if self.chance.random() < 0.3:
            runs.append(self.run(processes[1], after=self.chance.randint(1, 20)))
        await asyncio.gather(*runs)

    async def run(self, process: Process, *, after: int = 0) -> None:
        """Run the job once some requests have been made, and until it ends, is halted or dies."""
        proxy, begun = self.drill.proxy, len(self.drill.proxy.requests)
        end, moment = self.chance.choice(("end", "halt", "halt", "die")), self.chance.randint(1, 30)
        run = process.at.begin(self.job(), holder=process.name)
        print(f"  {process.name}: {end} at {moment}, begun at {after}; parallelism {run.config.spec.parallelism}")
        if after:
            await reached(proxy, begun + after)
        task = asyncio.ensure_future(run.index())
        if end != "end":
            moments = asyncio.ensure_future(reached(proxy, begun + after + moment))
            await asyncio.wait({task, moments}, return_when=asyncio.FIRST_COMPLETED)
            moments.cancel()
            if end == "halt":
                run.halt()
            elif not task.done():
                await process.cluster.die()
        result = await task
        ended = time.monotonic()
        print(
            f"  {process.name}: {result.outcome} released={result.released} dead={process.cluster.dead} {result.error}"
        )
        assert result.error is None or isinstance(result.error, StoreError)
        if result.released and result.claim is not None and not process.cluster.dead:
            word = f"rollup/{run.config.owner.uid}/{result.claim.epoch}"
            assert self.drill.at_work(word, but=self.late_ids()) == []
            process.results.append((result, ended))

    def hold_to_its_word(self, process: Process) -> None:
        """Assert that nothing of its runs came after they had said that they are over."""
        for result, ended in process.results:
            assert result.claim is not None
            busy = self.drill.proxy.busy_since(ended, opaque_id=f"rollup/1/{result.claim.epoch}")
            assert [str(r) for r in busy if r not in self.late() and not is_rivals(r, process.name)] == []

    def late(self) -> list[Request]:
        """What was held up on the way, where nobody can call it back."""
        return [r for t in self.troubles if t.fault.outlives_client for r in t.wrong]

    def late_ids(self) -> set[str]:
        """Of which runs something may arrive just now."""
        return {r.opaque_id for r in self.late() if r.ended is None}


def is_rivals(request: Request, name: str) -> bool:
    """Whether it is to claim the same epoch for somebody else, which only one of them can."""
    if request.method != "PUT" or "/claim" not in request.target:
        return False
    return json.loads(request.body)["holder"] not in (name, None)


async def reached(proxy: StoreProxy, count: int) -> None:
    """Wait until so many requests have arrived, or for a while."""
    with suppress(TimeoutError):
        await proxy.until(lambda: len(proxy.requests) >= count, seconds=0.5)


async def test_whatever_happens_nothing_is_lost_and_nothing_is_double(seed: int, opensearch: StoreHttp) -> None:
    async with StoreProxy(opensearch.url) as proxy, connected(proxy.url) as cluster:
        schedule = Schedule(Drill(Clustered(opensearch, cluster), proxy, []), random.Random(seed))
        schedule.drill.grow(schedule.chance.randint(4, 12))
        first_epoch = int(time.time())
        for number in range(ROUNDS):
            print(f"round {number}")
            if seed % 4 == 3 and number == 1 and opensearch.exists(schedule.drill.at.target):
                slow_down(opensearch, schedule.drill.at.target)  # so that what is cut off goes on for a while
            async with schedule.process("first") as first, schedule.process("second") as second:
                await schedule.round([first, second])
                if schedule.chance.random() < 0.5:
                    await stop(schedule)
                for process in (first, second):
                    schedule.hold_to_its_word(process)
        for held in schedule.held:
            held.release()
        proxy.heal()
        await stop(schedule)
        job = schedule.job()
        result = await schedule.drill.run(job)
        assert (result.outcome, result.released) == ("Completed", True), result
        schedule.drill.complete(job, result)
        assert result.claim is not None
        hits = opensearch.search(schedule.drill.at.target, {"version": True, "size": 1000})["hits"]["hits"]
        assert all(first_epoch <= hit["_version"] <= result.claim.epoch for hit in hits)


async def stop(schedule: Schedule) -> None:
    """Settle as the operator does before it shows `stopped`, however often that takes; then all is quiet."""
    drill, tries = schedule.drill, 0
    while True:
        try:
            await drill.at.store.settle(drill.at.job(), "stopping", delete_documents=False)
        except StoreError as e:
            print(f"  stop: {e}")
            tries += 1
            if tries == 3:
                drill.proxy.heal()
            assert tries < 10
        else:
            break
    stopped = time.monotonic()
    assert drill.at_work(but=schedule.late_ids()) == []
    drill.proxy.heal()
    for held in schedule.held:
        held.release()
    for request in schedule.late():
        await drill.proxy.ended(request)
    assert not drill.held(drill.at.job())
    await drill.at.store.known_jobs()  # time for whatever might come
    busy = [r for r in drill.proxy.busy_since(stopped, opaque_id="rollup/") if r not in schedule.late()]
    assert [str(r) for r in busy] == []
