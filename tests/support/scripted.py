"""A store in memory that does as a test tells it, and runs of a job on it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from rollup_operator.indexer.run import Run, RunResult
from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.model.status import JobStats
from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.base import Claim, Page, Source
from support.embedded import config

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Scripted:
    """A store and its session in one, which does as it is told."""

    failing: dict[str, Exception] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    search: Callable[[], Any] = asyncio.Event().wait
    stats: JobStats = field(default_factory=JobStats)
    """What the job's record says when it is claimed."""
    pages: int = 1
    is_ours: bool = True
    """Nobody else has taken the claim when it is released."""

    def session(self, *_: object) -> "Scripted":
        return self

    async def _do(self, what: str) -> None:
        self.events.append(what)
        if what in self.failing:
            raise self.failing[what]

    async def open(self) -> None:
        """Nothing to wait for."""

    async def claim(self) -> Claim:
        await self._do("claim")
        return Claim(config().key, "me", 1, None, None, self.stats)

    async def describe(self, claim: Claim, span: Span) -> Source:
        await self._do("describe")
        return Source(1, 1, 0, 1)

    async def read(self, claim: Claim, span: Span) -> Page:
        try:
            await self.search()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.events.append("search over")
            raise
        await self._do("read")
        self.pages -= 1
        return Page(1, 1, {"ts.date_histogram": 0}, exhausted=self.pages <= 0, took_s=0.0)

    async def write(self, claim: Claim, page: Page) -> Claim:
        await self._do("write")
        return replace(claim, position=page.last_key)

    async def commit_watermark(self, claim: Claim, watermark_ms: int | None, stats: JobStats) -> Claim:
        await self._do("commit")
        return replace(claim, watermark_ms=watermark_ms, stats=stats)

    async def publish(self, claim: Claim) -> Claim:
        await self._do("publish")
        return claim

    def halt(self) -> None:
        self.events.append("halt")

    async def release(self, claim: Claim) -> bool:
        await self._do("release")
        return self.is_ours

    async def close(self) -> None:
        await self._do("close")

    def notes(self) -> tuple[str, ...]:
        return ()

    def in_flight(self) -> None:
        return None


async def at_once() -> None:
    """A search that has its answer."""


async def ended(store: Scripted, known: JobStats | None = None) -> RunResult:
    """How a run of a job ends that has shown these counters."""
    return await beginning(store, known).index()


def beginning(store: Scripted, known: JobStats | None = None) -> Run:
    async def opened() -> Any:
        return store

    return Run(config(), "me", opened, RunSlots(1), lambda: NOW, known=known or JobStats())
