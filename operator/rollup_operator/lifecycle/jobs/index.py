"""The index of all jobs: the newest view of each, by uid, name and id, and the listeners for newer ones.

Only `Actors` changes it. Code that looks a job up, or waits for one, reads it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from rollup_operator.freed_memory import lasting
from rollup_operator.kube.sweep import Gone
from rollup_operator.lifecycle.jobs.actor import Actor
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.telemetry import JobObserver, NoObserver
from rollup_operator.model.job_ids import meant
from rollup_operator.model.job_view import JobView
from rollup_operator.rollup.identity import Owner
from rollup_operator.stores.errors import StoreUnavailable

log = structlog.get_logger(__name__)

Listener = Callable[[JobView | None], None]
"""Called with each newer view of a job; None: it is gone."""


class Index:
    """The actors of all jobs, as others may see them. All methods belong to one event loop."""

    def __init__(
        self, *, gate: Gate, cluster: str, namespaces: Sequence[str] = (), observer: JobObserver | None = None
    ) -> None:
        """`cluster`: the name of this cluster in claims. No namespaces: the jobs of all are watched."""
        self._gate, self._cluster, self._namespaces = gate, cluster, namespaces
        self._observer = observer or NoObserver()
        self._actors: dict[str, Actor] = {}
        self._gone = Gone()
        self._names: dict[tuple[str, str], str] = {}
        self._ids: dict[tuple[str, str], set[str]] = {}
        self._spaces: dict[str, dict[str, Actor]] = {}
        """The actors of each namespace."""
        self._listeners: dict[str, set[Listener]] = {}
        self.synced = False
        """The first list has been taken in."""

    # Look-up

    def meant(self, namespace: str, job_id: str) -> Sequence[JobView]:
        """Return the job that has that Elasticsearch id, or several if it is ambiguous."""
        actors = (self._actors[uid] for uid in self._ids.get((namespace, job_id), ()))
        return meant(job_id, (actor.view for actor in actors if not actor.gone))

    def find(self, namespace: str, job_id: str) -> JobView | None:
        """Return the first of `meant`."""
        return next(iter(self.meant(namespace, job_id)), None)

    def namespaces(self) -> Sequence[str]:
        """Return the namespaces that have jobs."""
        return tuple(self._spaces)

    def in_namespace(self, namespace: str) -> Iterator[JobView]:
        """Yield the namespace's jobs in the order in which they came, each in its newest view."""
        return (actor.view for actor in tuple(self._spaces.get(namespace, {}).values()) if not actor.gone)

    def views(self) -> Sequence[JobView]:
        """Return the newest view of every job, in the order in which they came."""
        return [actor.view for actor in self._actors.values()]

    @property
    def size(self) -> int:
        """How many jobs are known."""
        return len(self._actors)

    @property
    def busy(self) -> int:
        """How many jobs have a turn or a run in progress."""
        return sum(actor.busy for actor in self._actors.values())

    @property
    def left(self) -> int:
        """How many jobs this process leaves to another operator."""
        return sum(actor.left for actor in self._actors.values())

    def others_act(self, key: tuple[str, str]) -> bool:
        """Whether another operator acts on a job of this store, given by namespace and name."""
        namespace, name = key
        of_store = (a for a in self._spaces.get(namespace, {}).values() if a.view.store_name == name)
        return any(actor.is_others() for actor in of_store)

    @property
    def leads(self) -> bool:
        """Whether this process decides about the jobs, and knows what its predecessor did."""
        return self._gate.open and not self._gate.behind

    def is_writing(self, uid: str) -> bool:
        """Whether this process may be writing to the job just now."""
        actor = self._actors.get(uid)
        return actor is not None and actor.is_writing

    def explain(self, uid: str) -> str:
        """Say in a few words what this process does for the job now, and for how long."""
        actor = self._actors.get(uid)
        return "this process does not know the job" if actor is None else actor.explain()

    def is_alive(self, owner: Owner) -> bool:
        """Whether the resource that owns a claim still exists. If that cannot be known here, it does.

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

    def subscribe(self, uid: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each newer view of the job. Returns what ends that."""
        listeners = self._listeners.setdefault(uid, set())
        listeners.add(listener)

        def unsubscribe() -> None:
            listeners.discard(listener)
            if not listeners and self._listeners.get(uid) is listeners:
                del self._listeners[uid]

        return unsubscribe

    @contextmanager
    def reading(self, uid: str) -> Iterator[None]:
        """Keep the job from being shown as stopped by this process during a block that reads its source."""
        if (actor := self._actors.get(uid)) is None:
            yield
            return
        actor.readers += 1
        try:
            yield
        finally:
            actor.readers -= 1
            actor.wake()

    # For `Actors` and for lists

    def actor(self, uid: str) -> Actor | None:
        """Return the actor of a job; None: it is unknown."""
        return self._actors.get(uid)

    def actors(self) -> Sequence[Actor]:
        """Return the actors of all jobs, in the order in which they came."""
        return tuple(self._actors.values())

    def namesake(self, view: JobView) -> Actor | None:
        """Return the actor of the job that has this one's name now."""
        return self._actors.get(self._names.get(view.key, ""))

    def is_gone(self, view: JobView) -> bool:
        """Whether a job was deleted, and has no actor any more: that is known, or a later one has its name."""
        if view.uid in self._actors:
            return False
        if view.uid in self._gone:
            return True
        namesake = self.namesake(view)
        return namesake is not None and namesake.view.version > view.version

    def versions(self, namespace: str | None) -> Mapping[str, int]:
        """Return uid and resourceVersion of each job in a namespace; None: in all."""
        return {uid: a.view.version for uid, a in self._actors.items() if namespace in (None, a.view.namespace)}

    def version(self, uid: str) -> int | None:
        """Return the resourceVersion of a job; None: it is unknown."""
        actor = self._actors.get(uid)
        return None if actor is None else actor.view.version

    def dead(self) -> Collection[str]:
        """Return the uids of deleted jobs, as far as they are remembered."""
        return frozenset(self._gone)

    def enter(self, actor: Actor) -> None:
        """Add a job, and show its first view."""
        view = actor.view
        self._actors[view.uid] = actor
        self._spaces.setdefault(view.namespace, {})[view.uid] = actor
        self._names[view.key] = view.uid
        self._ids.setdefault((view.namespace, view.job_id), set()).add(view.uid)
        self.show(view)

    @lasting
    def show(self, view: JobView) -> None:
        """Call those who wait for a newer view of this job."""
        self._observer.seen(view)
        self._call_listeners(view.uid, view)

    def forget(self, uid: str) -> None:
        """Drop a job that is gone, and remember that."""
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

    def _call_listeners(self, uid: str, view: JobView | None) -> None:
        for listener in tuple(self._listeners.get(uid, ())):
            try:
                listener(view)
            except Exception:  # the next listener must be called all the same
                log.exception("listener failed", uid=uid)
