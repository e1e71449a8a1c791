"""An actor whose process comes to lead, ceases to, and leads again."""

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Any

from rollup_operator.indexer.progress import Progress
from rollup_operator.kube.client import Unreachable
from rollup_operator.lifecycle.actor import Actor
from rollup_operator.lifecycle.environment import Environment
from rollup_operator.lifecycle.leadership import Gate
from rollup_operator.lifecycle.observer import NoObserver
from rollup_operator.lifecycle.states import RunKind
from rollup_operator.lifecycle.work import Ended, Work
from rollup_operator.model.base import DRAIN_FINALIZER
from rollup_operator.model.reader import JobView
from support.bodies import job


class Outside:
    """Stores, events and an API server that takes no write. Runs settle; those that index go on until `end`."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[RunKind] = asyncio.Queue()
        self.tried, self.busy, self.end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def trouble(self, _: object) -> None:
        """All stores can be used."""

    def record(self, *_: object) -> None:
        """Nobody reads events."""

    async def put(self, *_: object, **__: object) -> None:
        self.tried.set()
        raise Unreachable("away", sent=False)

    def begin(self, kind: RunKind, view: JobView, **_: object) -> Work:
        self.begun.put_nowait(kind)
        task = asyncio.ensure_future(self._settled() if kind is RunKind.SETTLE else self._stubborn())
        return Work(kind, 0.0, view.deleting, Progress(), task, lambda: None)

    async def _settled(self) -> Ended:
        return Ended(settled=True)

    async def _stubborn(self) -> Ended:
        self.busy.set()
        while not self.end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.end.wait()
        return Ended(settled=None)


def body(generation: int, asked: str, *, request: str = "") -> JobView:
    whole: dict[str, Any] = job(desiredState=asked)
    whole["metadata"] |= {
        "uid": "u",
        "namespace": "n",
        "generation": generation,
        "resourceVersion": str(generation),
        "finalizers": [DRAIN_FINALIZER],
        "annotations": {"rollup-operator.dev/run-requested-at": request} if request else {},
    }
    return JobView.of(whole | {"status": {"state": "started", "observedGeneration": generation}})


async def test_how_a_run_ends_that_outlives_its_leadership_settles_nothing() -> None:
    outside, gate = Outside(), Gate()
    parts: Any = outside
    actor = Actor(
        body(1, "stopped"),
        Environment(
            kube=parts,
            books=parts,
            events=parts,
            worker=parts,
            gate=gate,
            now=lambda: datetime.now(UTC),
            published=lambda _: None,
            forget=lambda _: None,
            observer=NoObserver(),
        ),
    )
    async with asyncio.timeout(10):
        gate.lead()
        actor.lead()
        assert await outside.begun.get() is RunKind.SETTLE
        await outside.tried.wait()
        actor.observe(body(2, "started", request="now"))
        assert await outside.begun.get() is RunKind.INDEX
        await outside.busy.wait()
        gate.shut()
        actor.stand_down()
        # Whoever led meanwhile may have left a claim.
        gate.lead()
        actor.lead()
        actor.observe(body(3, "stopped"))
        outside.end.set()
        assert await outside.begun.get() is RunKind.SETTLE
    gate.shut()
    actor.stand_down()
