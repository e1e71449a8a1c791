"""The wall clock is set back or ahead while an actor waits for its job's next tick."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollup_operator.indexer.progress import Progress
from rollup_operator.lifecycle.jobs.actor import Actor
from rollup_operator.lifecycle.jobs.context import JobContext
from rollup_operator.lifecycle.jobs.run_facts import RunKind
from rollup_operator.lifecycle.jobs.run_task import Ended, Work
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.telemetry import NoObserver
from rollup_operator.model.base import DRAIN_FINALIZER
from rollup_operator.model.job_view import JobView
from support.bodies import job
from support.turned_clock import turned
from unit.test_actor import ready

NOW = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
NOTICED = timedelta(minutes=10)
"""How long after a step each job has noticed it, at the latest."""


@dataclass
class Outside:
    """A wall clock that can be stepped, an API server that takes each write, stores whose runs end at once."""

    step: timedelta = timedelta()
    body: dict[str, Any] = field(default_factory=dict)
    runs: list[datetime] = field(default_factory=list)

    def now(self) -> datetime:
        return NOW + self.step + timedelta(seconds=asyncio.get_running_loop().time() - self.began)

    def begin_now(self) -> None:
        self.began = asyncio.get_running_loop().time()

    def trouble(self, _: object) -> None:
        """All stores can be used."""

    def edition(self, _: object) -> tuple[str, int]:
        """The store never changes."""
        return "s", 1

    def held(self, _: object) -> bool:
        """No store tells of a claim."""
        return False

    def record(self, *_: object) -> None:
        """Nobody reads events."""

    async def put(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        metadata = self.body["metadata"]
        metadata = metadata | {"resourceVersion": str(int(metadata["resourceVersion"]) + 1)}
        self.body = self.body | {"metadata": metadata, "status": body["status"]}
        return self.body

    def begin(self, kind: RunKind, view: JobView, **_: object) -> Work:
        self.runs.append(self.now())
        return Work(kind, 0.0, view.deleting, Progress(), asyncio.ensure_future(self._ended()), lambda: None)

    async def _ended(self) -> Ended:
        return Ended(settled=True)

    def actor(self, cron: str) -> Actor:
        self.body = job(desiredState="started", cron=cron)
        self.body["metadata"] |= {
            "uid": "u", "namespace": "n", "generation": 1, "resourceVersion": "1", "finalizers": [DRAIN_FINALIZER],
        }  # fmt: skip
        self.body["status"] = {"state": "started", "observedGeneration": 1, "conditions": ready(1)}
        parts: Any = self
        self.gate = Gate(asyncio.get_running_loop().time)
        self.gate.lead()
        return Actor(
            JobView.of(self.body),
            JobContext(
                kube=parts,
                books=parts,
                events=parts,
                worker=parts,
                gate=self.gate,
                now=self.now,
                published=lambda _: None,
                forget=lambda _: None,
                observer=NoObserver(),
            ),
        )


@pytest.mark.parametrize("step", [-timedelta(hours=5), -timedelta(days=4 * 365), timedelta(days=4 * 365)])
def test_a_step_of_the_clock_delays_no_run_for_long_and_status_shows_the_tick_to_come(step: timedelta) -> None:
    async def scene() -> None:
        outside = Outside()
        outside.begin_now()
        actor = outside.actor("0 0 * * * ?")
        actor.wake()
        await asyncio.sleep(1.0)
        assert outside.body["status"]["nextRunTime"] == "2026-01-01T13:00:00Z"
        outside.step = step
        await asyncio.sleep(NOTICED.total_seconds() + 1)
        now = outside.now()
        due = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        assert outside.body["status"]["nextRunTime"] == f"{due:%Y-%m-%dT%H:%M:%SZ}"
        before = len(outside.runs)
        await asyncio.sleep((due - now).total_seconds() + 1)
        assert [run.replace(microsecond=0) for run in outside.runs[before:]] == [due]
        actor.stand_down()

    turned(scene())
