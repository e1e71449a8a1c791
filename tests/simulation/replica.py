"""One process of the operator: the product's own parts, wired as `wiring.py` does, on a simulated world.

Not here are kopf (see `kube.Watch`), HTTP itself (see `endpoint`), metrics and the recorder of Events.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from rollup_operator.kube.client import Body, KubeError
from rollup_operator.kube.lease import LeaseClient
from rollup_operator.lifecycle.jobs.actors import Actors
from rollup_operator.lifecycle.jobs.index import Index
from rollup_operator.lifecycle.jobs.relist import Relisting
from rollup_operator.lifecycle.jobs.run_facts import RunKind
from rollup_operator.lifecycle.jobs.run_task import Work, Worker
from rollup_operator.lifecycle.leader.election import Election, Followers
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.stores.book import StoreBook
from rollup_operator.model.conditions import Reason
from rollup_operator.model.job_view import JobView
from rollup_operator.model.store import RollupStoreSpec
from rollup_operator.stores.base import Store
from simulation.api_server import JOBS, STORES
from simulation.clock import ProcessLoop
from simulation.endpoint import Endpoint
from simulation.kube import KubeDouble, Link, Watch
from simulation.store import StoreDouble, Wire

if TYPE_CHECKING:
    from simulation.world import World

SWEEP_SECONDS = 20.0
GRACE_SECONDS = 10.0
CLOCK_SKEW = timedelta(seconds=3)
"""Less than jobs wait for late rows, so that a clock that is ahead by less does no harm."""

LEASE_NAMESPACE, LEASE_NAME = "system", "rollup-operator"


@dataclass
class _Worker(Worker):
    """Says when a run task begins."""

    begins: Callable[[RunKind, JobView], None] = lambda kind, job: None

    def begin(self, kind: RunKind, job: JobView, **known: Any) -> Work:
        self.begins(kind, job)
        return super().begin(kind, job, **known)


class Replica:
    """A process from its start to its end. `name` is what it calls itself in the lease and in claims."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        self.loop = ProcessLoop(world.clock, lambda problem: world.fail(f"{name}: {problem}"))
        self.link = Link(world.api, world.clock, self.loop, world.api_way, name)
        self.wire = Wire(world.cluster, self.loop, lambda doing: world.promises.sends(name, doing))
        self.ending = self.ended = False
        self.sessions = 0
        self.disturbed_at = 0.0
        """Until when it was frozen or cut off."""
        self.tasks: list[asyncio.Task[Any]] = []
        self.loop.run(self._make)

    def _make(self) -> None:
        world = self.world
        kube: Any = KubeDouble(self.link, self._about_to_write, world.promises.applied)
        events: Any = self
        self.gate = Gate(self.loop.time)
        self.index = Index(gate=self.gate, cluster="cluster")
        self.books = StoreBook(
            kube=kube,
            make=self._store,
            now=self._now,
            gate=self.gate,
            holder=self.name,
            went_back=self._begin_again,
        )
        self.worker = _Worker(self.books, self.name, "cluster", self._now, self.gate, clock_skew=CLOCK_SKEW)
        self.actors = Actors(
            self.index,
            kube=kube,
            books=self.books,
            events=events,
            worker=self.worker,
            gate=self.gate,
            now=self._now,
            went_back=self._begin_again,
        )
        self.relisting = Relisting(
            self.index, self.actors, kube=kube, books=self.books, gate=self.gate, went_back=self._begin_again
        )
        lease = LeaseClient(kube, LEASE_NAMESPACE, LEASE_NAME, self._now)
        followers = Followers(self._lead, self.actors.recheck, self._stand_down, self._begin_again)
        self.election = Election(lease, self.name, self.gate, followers)
        self.endpoint = Endpoint(self.index, kube, events, self.loop)
        self.worker.begins = partial(world.promises.begins, self.name)
        self._kube = kube

    # The life of a process

    def start(self) -> None:
        """Begin, as the operator does when kopf calls its startup handler."""
        self.spawn(self._begin())

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Run a coroutine in this process."""
        task: asyncio.Task[Any] = self.loop.create_task(work)
        task.add_done_callback(self._done)
        self.tasks.append(task)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.fail(f"{self.name}: {type(error).__name__}: {error}")

    def terminate(self) -> None:
        """SIGTERM: end in order."""
        if not self.ending:
            self.ending = True
            self.spawn(self._end())

    def kill(self) -> None:
        """SIGKILL, or a machine that fails. What was sent is on its way."""
        self.ended = True
        self.loop.kill()
        for watch in self.link.watches:
            watch.end()
        self.wire.connections_end()

    async def _begin(self) -> None:
        await _until_listed(partial(self.books.sweep, whole=True))
        await _until_listed(self.relisting.list_jobs)
        self.index.synced = True
        self.election.start()
        self.spawn(self.relisting.keep_sweeping(SWEEP_SECONDS))
        Watch(self.link, STORES, self._store_event).begin()
        Watch(self.link, JOBS, self._job_event).begin()

    async def _end(self) -> None:
        await asyncio.gather(self.endpoint.drain(GRACE_SECONDS), self._hand_over())
        await self.endpoint.settle()
        self.world.ended(self)

    async def _hand_over(self) -> None:
        self.world.promises.ends(self.name)
        self.gate.end()
        await self.actors.drain(GRACE_SECONDS)
        self.gate.close()
        self.relisting.stand_down()
        self.actors.stand_down()
        await self.books.stand_down()
        await self.election.release()

    # What the parts are given

    def _now(self) -> datetime:
        return self.world.clock.wall(self.loop.wall_offset)

    def _lead(self) -> None:
        self.world.story(self.name, "leads")
        self.world.promises.leads()
        self.books.lead()
        self.relisting.catch_up()
        self.actors.lead()

    def _stand_down(self) -> None:
        self.world.story(self.name, "stands by")
        if not self.ending:
            self.world.promises.stands_by(self.name)
        self.relisting.stand_down()
        self.actors.stand_down()
        self.books.stand_down()

    def _begin_again(self, why: str) -> None:
        if not self.ending:
            self.world.story(self.name, f"begins again: {why}")
            self.world.restart(self)

    def _store(self, namespace: str, spec: RollupStoreSpec, read_secret: object) -> Store:
        return StoreDouble(self.wire, self.loop, lambda: self.gate.open, self.index.is_alive, self._session)

    def _session(self, opened: int) -> None:
        self.sessions += opened
        if opened > 0:
            self.world.promises.opened(self.name, self.sessions)

    def record(self, about: Any, reason: Any, note: str) -> None:
        """Take an Event. Nobody posts it."""
        if reason is Reason.DRAIN_SKIPPED:
            self.world.promises.skipped(about.uid)
        self.world.story(self.name, f"event on {about.uid}: {reason}: {note}")

    def _about_to_write(self, method: str, path: str) -> None:
        self.world.promises.sends(self.name, f"{method} {path}")

    def _job_event(self, type_: str, body: Body) -> None:
        if type_ == "DELETED":
            self.actors.gone(body["metadata"]["uid"])
        else:
            self.actors.observe(body)

    def _store_event(self, type_: str, body: Body) -> None:
        if type_ == "DELETED":
            self.books.gone(body["metadata"]["uid"])
        else:
            self.books.observe(body)


async def _until_listed(take_in: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await take_in()
            return
        except KubeError:
            await asyncio.sleep(0.3)
