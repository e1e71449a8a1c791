"""Creates and ends the actors of jobs, and acts on all of them at once.

Watches: RollupJob, through `observe` and `gone`, in any order, from any source. Two rules keep a dead job from
replacing a living one: of two uids with one name, the one with the higher resourceVersion lives; and a uid that is
gone never comes back. Both hold as long as the API server's revisions only grow. Revisions go back when etcd is
restored from a backup; then everything known here is worthless, and `went_back` is called.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from datetime import datetime
from typing import Any

import structlog

from rollup_operator.concurrency.background import spawn
from rollup_operator.concurrency.portions import Spreader, chosen_of, in_portions
from rollup_operator.freed_memory import lasting
from rollup_operator.kube.client import KubeClient
from rollup_operator.kube.events import EventRecorder
from rollup_operator.lifecycle.jobs.actor import Actor
from rollup_operator.lifecycle.jobs.context import JobContext
from rollup_operator.lifecycle.jobs.index import Index
from rollup_operator.lifecycle.jobs.run_task import Worker
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.stores.book import StoreBook
from rollup_operator.lifecycle.stores.known_store import StoreKey
from rollup_operator.lifecycle.telemetry import NoObserver, Observer
from rollup_operator.model.base import GITOPS_MANAGERS
from rollup_operator.model.job_view import JobView

log = structlog.get_logger(__name__)

VERIFICATION_SECONDS = 2.0
"""How long a process that is ending waits for its verifications: the next leader waits for what is left of them before
it shows a job as stopped, and a cluster that is away must not keep all jobs without a leader."""


class Actors:
    """One actor for each job of the index. All methods belong to one event loop."""

    def __init__(
        self,
        index: Index,
        *,
        kube: KubeClient,
        books: StoreBook,
        events: EventRecorder,
        worker: Worker,
        gate: Gate,
        now: Callable[[], datetime],
        observer: Observer | None = None,
        operator: str | None = None,
        gitops_managers: Collection[str] = GITOPS_MANAGERS,
        went_back: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`operator` is what statuses call this one.

        `went_back` is called, with what showed it, when the API server's revisions are lower than they were.
        """
        self._index, self._gate = index, gate
        self._environment = JobContext(
            kube=kube,
            books=books,
            events=events,
            worker=worker,
            gate=gate,
            now=now,
            published=index.show,
            forget=index.forget,
            observer=observer or NoObserver(),
            operator=operator,
            gitops_managers=gitops_managers,
            went_back=went_back,
        )
        self._spreader = Spreader()
        self._telling: set[asyncio.Task[None]] = set()
        books.subscribe(self._store_changed)

    def observe(self, body: Mapping[str, Any]) -> None:
        """Take in a RollupJob from an event, a list or an answer. A job that is known to be gone stays gone."""
        actor = self._index.actor(body["metadata"]["uid"])
        with lasting:
            view = JobView.of(body, None if actor is None else actor.view)
            if actor is not None:
                if actor.observe(view):
                    self._index.show(view)
            elif not self._index.is_gone(view):
                self._enter(view)

    def gone(self, uid: str) -> None:
        """Take in that the object of that uid no longer exists."""
        if (actor := self._index.actor(uid)) is not None:
            actor.vanish()

    def _store_changed(self, key: StoreKey) -> None:
        """Wake the jobs of a store, soon."""

        async def wake() -> None:
            of_store = chosen_of(
                self._index.actors(), lambda actor: (actor.view.namespace, actor.view.store_name) == key
            )
            await self._spreader.spread(Actor.store_changed, await in_portions(of_store))

        self._soon("waking the jobs of a store", wake())

    def lead(self) -> None:
        """The gate has opened: decide every job again."""
        actors = self._index.actors()
        for actor in actors:
            actor.lead()  # before any of them has a turn
        self._soon("waking all jobs", self._spreader.spread(Actor.wake, actors))

    def recheck(self) -> None:
        """The gate has begun or ceased to drain: give every job a turn soon."""
        self._soon("waking all jobs", self._recheck())

    def stand_down(self) -> None:
        """The gate is shut: end every run and write at once."""
        for actor in self._index.actors():
            actor.stand_down()

    async def drain(self, grace: float) -> bool:
        """Let every run finish its page and release: the gate drains. Returns whether all ended in time (seconds)."""
        loop = asyncio.get_running_loop()
        end, hurry_at = loop.time() + grace, loop.time() + VERIFICATION_SECONDS
        await self._recheck()
        while self._gate.open and (busy := self._index.busy):
            if not self._gate.hurries and loop.time() >= hurry_at:
                self._gate.hurries = True
                await self._recheck()
            if loop.time() >= end:
                log.warning("runs abandoned at shutdown", busy=busy)
                return False
            await asyncio.sleep(0.01)
        return True

    async def _recheck(self) -> None:
        first_busy = sorted(self._index.actors(), key=lambda actor: not actor.busy)  # a run may have to halt
        await self._spreader.spread(Actor.recheck, first_busy)

    def _soon(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = spawn(name, work, follows="jobs that were not notified learn of it with their next change")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _enter(self, view: JobView) -> None:
        if (old := self._index.namesake(view)) is not None:
            old.vanish()  # deleted and created again, and no event has said so yet
        actor = Actor(view, self._environment)
        self._index.enter(actor)
        actor.wake()
