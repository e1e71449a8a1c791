"""All jobs of the cluster: one actor a uid, look-up for the endpoint, listeners for those who wait.

Watches: RollupJob, through `observe` and `gone`, and by a sweep for what no event announced. After an expired watch the
list that follows shows what exists, never what went; and a watch that begins too late misses what came.

Bodies come from several sources in any order. Two rules keep a dead job from replacing a living one: of two uids with
one name, the one with the higher resourceVersion lives; and a uid that is gone never comes back. Both hold as long as
the API server's revisions only grow. They go back when etcd is restored from a backup; then everything known here is
worthless, and `went_back` is called.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from rollup_operator.background import keep_running, spawn
from rollup_operator.kube.client import KubeClient, KubeError
from rollup_operator.kube.events import EventRecorder
from rollup_operator.kube.paths import jobs_path
from rollup_operator.kube.sweep import Gone, Sweep
from rollup_operator.kube.watching import Watches
from rollup_operator.lifecycle.actor import Actor
from rollup_operator.lifecycle.environment import Environment
from rollup_operator.lifecycle.leadership import Gate
from rollup_operator.lifecycle.observer import NoObserver, Observer
from rollup_operator.lifecycle.store_watch import StoreKey
from rollup_operator.lifecycle.stores import StoreBook
from rollup_operator.lifecycle.work import Worker
from rollup_operator.model.job_ids import meant
from rollup_operator.model.reader import JobView
from rollup_operator.portions import Spreader, chosen_of, in_portions
from rollup_operator.stores.base import Owner
from rollup_operator.stores.errors import StoreUnavailable

log = structlog.get_logger(__name__)

Listener = Callable[[JobView | None], None]
"""Called with each newer view of a job; None: it is gone."""


class Registry:
    """The jobs that this process knows. All methods belong to one event loop."""

    def __init__(
        self,
        *,
        kube: KubeClient,
        books: StoreBook,
        events: EventRecorder,
        worker: Worker,
        gate: Gate,
        watches: Watches,
        now: Callable[[], datetime],
        namespaces: Sequence[str] = (),
        observer: Observer | None = None,
        went_back: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`went_back` is called, with what showed it, when the API server's revisions are lower than they were."""
        self._sweep = Sweep(kube, jobs_path, self, namespaces=namespaces, went_back=went_back)
        self._observer = observer or NoObserver()
        self._books, self._cluster, self._namespaces = books, worker.cluster, namespaces
        self._gate, self._watches = gate, watches
        self._environment = Environment(
            kube=kube,
            books=books,
            events=events,
            worker=worker,
            gate=gate,
            now=now,
            published=self._tell,
            forget=self._forget,
            observer=self._observer,
            went_back=went_back,
        )
        self._actors: dict[str, Actor] = {}
        self._gone = Gone()
        self._names: dict[tuple[str, str], str] = {}
        self._ids: dict[tuple[str, str], set[str]] = {}
        self._spaces: dict[str, dict[str, Actor]] = {}
        """The actors of each namespace."""
        self._listeners: dict[str, set[Listener]] = {}
        self._sweep_problem: str | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._spreader = Spreader()
        self._telling: set[asyncio.Task[None]] = set()
        self.synced = False
        """The first list has been taken in."""

    # What the watch brings

    def observe(self, body: Mapping[str, Any]) -> None:
        """Take in a RollupJob as an event, a list or an answer shows it. One that is known to be gone stays gone."""
        view = JobView.of(body)
        actor = self._actors.get(view.uid)
        if actor is not None:
            if actor.observe(view):
                self._tell(view)
        elif not self._is_gone(view):
            self._enter(view)

    def gone(self, uid: str) -> None:
        """Take in that the object of that uid no longer exists."""
        if (actor := self._actors.get(uid)) is not None:
            actor.vanish()

    def store_changed(self, key: StoreKey) -> None:
        """Wake the jobs of a store, soon."""

        async def wake() -> None:
            actors = tuple(self._actors.values())
            of_store = chosen_of(actors, lambda actor: (actor.view.namespace, actor.view.store_name) == key)
            await self._spreader.spread(Actor.store_changed, await in_portions(of_store))

        self._soon("waking the jobs of a store", wake())

    def versions(self, namespace: str | None) -> Mapping[str, int]:
        """Return uid and resourceVersion of each job in a namespace; None: in all."""
        return {uid: a.view.version for uid, a in self._actors.items() if namespace in (None, a.view.namespace)}

    def dead(self) -> Collection[str]:
        """Return the uids of deleted jobs, as far as they are remembered."""
        return frozenset(self._gone)

    def version(self, uid: str) -> int | None:
        """Return the resourceVersion of a job; None: it is unknown."""
        actor = self._actors.get(uid)
        return None if actor is None else actor.view.version

    async def sweep(self, *, whole: bool = False) -> None:
        """List the jobs and stores that exist. Drop the others, and read those that the watch has not brought.

        `whole`: list whole bodies of jobs, and take them in. Raises KubeError, after both were tried.
        """
        try:
            await self._sweep.run(whole=whole)
        finally:
            await self._books.sweep()

    async def keep_sweeping(self, every: float) -> None:
        """Sweep for as long as the process lives."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.sweep()
                self._sweep_problem = None
            except KubeError as e:
                self._sweep_problem = f"the last list failed: {e}"
                log.warning("sweep failed", error=str(e))
            except Exception as e:  # nor may what nobody foresaw end it in silence
                self._sweep_problem = f"the last list could not be taken in: {type(e).__name__}: {e}"
                log.exception("sweep failed")

    # Look-up

    def meant(self, namespace: str, job_id: str) -> Sequence[JobView]:
        """Return the job that has that Elasticsearch id, or several where nobody can tell which is meant."""
        actors = (self._actors[uid] for uid in self._ids.get((namespace, job_id), ()))
        return meant(job_id, (actor.view for actor in actors if not actor.gone))

    def find(self, namespace: str, job_id: str) -> JobView | None:
        """Return the first of `meant`."""
        return next(iter(self.meant(namespace, job_id)), None)

    @property
    def leads(self) -> bool:
        """Whether this process decides over the jobs, and knows what the one before it did."""
        return self._gate.open and not self._gate.behind

    def is_writing(self, uid: str) -> bool:
        """Whether this process may be writing to the job just now."""
        actor = self._actors.get(uid)
        return actor is not None and actor.is_writing

    def explain(self, uid: str) -> str:
        """Tell in a few words what the job does in this process now, and for how long."""
        actor = self._actors.get(uid)
        return "this process does not know the job" if actor is None else actor.explain()

    def in_namespace(self, namespace: str) -> Iterator[JobView]:
        """Return the namespace's jobs in the order in which they came, each as it is when it is taken."""
        return (actor.view for actor in tuple(self._spaces.get(namespace, {}).values()) if not actor.gone)

    def subscribe(self, uid: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each newer view of the job. Returns what ends that."""
        listeners = self._listeners.setdefault(uid, set())
        listeners.add(listener)

        def unsubscribe() -> None:
            listeners.discard(listener)
            if not listeners and self._listeners.get(uid) is listeners:
                del self._listeners[uid]

        return unsubscribe

    def is_alive(self, owner: Owner) -> bool:
        """Whether the resource that owns a claim still exists. Where nobody here can know, it does.

        Raises StoreUnavailable until all jobs have been listed.
        """
        elsewhere = owner.cluster != self._cluster or (self._namespaces and owner.namespace not in self._namespaces)
        actor = self._actors.get(owner.uid)
        # An actor outlives its job for as long as its last run takes to end.
        if elsewhere or (actor is not None and not actor.gone):
            return True
        if not self.synced:
            raise StoreUnavailable(f"whether the job {owner.namespace}/{owner.name} exists is not known yet")
        return False

    def is_healthy(self) -> Mapping[str, bool | str]:
        """Tell of each part that must work: True, or what is wrong with it."""
        return {"api_server": self._sweep_problem or True, "watch": self._watches.problem() or True}

    @property
    def size(self) -> int:
        """How many jobs are known."""
        return len(self._actors)

    def views(self) -> Sequence[JobView]:
        """Return the newest view of every job, in the order in which they came."""
        return [actor.view for actor in self._actors.values()]

    @property
    def busy(self) -> int:
        """How many jobs have a turn or a run under way."""
        return sum(actor.busy for actor in self._actors.values())

    # Leading, and the end

    def lead(self, *, listed: bool = False) -> None:
        """The gate has opened: every job is decided anew.

        Nothing begins before all jobs are listed, unless they are `listed` just now: the watch may lag, and a run that
        an older body asks for could be of a job that the leader before has shown as stopped.
        """
        if not listed:
            self._gate.behind = True
            self._catching_up = keep_running("catching up with the jobs", self._catch_up)
        actors = tuple(self._actors.values())
        for actor in actors:
            actor.lead()  # before any of them has a turn
        self._soon("waking all jobs", self._spreader.spread(Actor.wake, actors))

    def look_again(self) -> None:
        """The gate has begun to drain, or has ceased to: let every job have a turn, soon."""
        self._soon("waking all jobs", self._look_again())

    def stand_down(self) -> None:
        """The gate is shut: end every run and write at once."""
        if self._catching_up is not None:
            self._catching_up.cancel()
        for actor in tuple(self._actors.values()):
            actor.stand_down()

    async def drain(self, grace: float) -> bool:
        """Let every run finish its page and release; begin nothing. Returns whether all ended in time (seconds)."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        self._gate.end()
        await self._look_again()
        while self._gate.open and any(actor.busy for actor in self._actors.values()):
            if loop.time() >= end:
                log.warning("runs abandoned at shutdown", busy=self.busy)
                return False
            await asyncio.sleep(0.01)
        return True

    def close(self) -> None:
        """End every actor at once, for good."""
        self._gate.close()
        self.stand_down()

    # Inside

    async def _look_again(self) -> None:
        first_busy = sorted(self._actors.values(), key=lambda actor: not actor.busy)  # a run may have to halt
        await self._spreader.spread(Actor.look_again, first_busy)

    def _soon(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = spawn(name, work, follows="jobs that have not heard of it hear of it with their next change")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _catch_up(self) -> None:
        while True:
            try:
                if not await self._sweep.run(whole=True):
                    return  # another operator takes this one's place: nothing begins here any more
                break
            except KubeError as e:
                log.warning("nothing begins yet: the jobs cannot be listed", error=str(e))
            except Exception:  # nor may what nobody foresaw keep all jobs from running for good
                log.exception("nothing begins yet: the jobs cannot be listed")
            await asyncio.sleep(random.uniform(0.5, 1.0))  # noqa: S311  # jitter
        self._gate.behind = False
        self.look_again()

    def _is_gone(self, view: JobView) -> bool:
        """Whether a job without an actor was deleted: it is known to be, or a later one has its name."""
        if view.uid in self._gone:
            return True
        namesake = self._actors.get(self._names.get(view.key, ""))
        return namesake is not None and namesake.view.version > view.version

    def _enter(self, view: JobView) -> None:
        if (old := self._actors.get(self._names.get(view.key, ""))) is not None:
            old.vanish()  # deleted and created again, and no event has said so yet
        actor = self._actors[view.uid] = Actor(view, self._environment)
        self._spaces.setdefault(view.namespace, {})[view.uid] = actor
        self._names[view.key] = view.uid
        self._ids.setdefault((view.namespace, view.job_id), set()).add(view.uid)
        self._tell(view)
        actor.wake()

    def _tell(self, view: JobView) -> None:
        self._observer.seen(view)
        self._call_listeners(view.uid, view)

    def _call_listeners(self, uid: str, view: JobView | None) -> None:
        for listener in tuple(self._listeners.get(uid, ())):
            try:
                listener(view)
            except Exception:  # the next listener must hear of it all the same
                log.exception("listener failed", uid=uid)

    def _forget(self, uid: str) -> None:
        actor = self._actors.pop(uid, None)
        if actor is None:
            return
        view = actor.view
        self._gone.add(uid)
        space = self._spaces[view.namespace]
        del space[uid]
        if not space:
            del self._spaces[view.namespace]
        if self._names.get(view.key) == uid:
            del self._names[view.key]
        uids = self._ids.get((view.namespace, view.job_id), set())
        uids.discard(uid)
        if not uids:
            self._ids.pop((view.namespace, view.job_id), None)
        self._observer.gone(view)
        self._call_listeners(uid, None)
