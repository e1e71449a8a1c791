"""Kubernetes Events, for people: one for each transition or problem, not one for every write.

Events are posted in the background, one after the other, so that a slow API server never delays a job. Namespaces
take turns. Warnings go first and at once, the newest of each namespace first. Normal events give way to the work that
they report: they go once no job has changed for QUIET, those of a namespace in order, at a pace at which a thousand
of them cost the API server little.

If the API server hangs, a post ends after POST_SECONDS, and an event is dropped once it has waited for STALE: a new
warning does not wait behind old ones, and nothing waits for hours. Events that still wait when the process ends are
dropped, too: the status shows how things are, an event only how they came to be so.
"""

import asyncio
import contextlib
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from rollup_operator.freed_memory import lasting
from rollup_operator.kube.client import KubeClient, KubeError
from rollup_operator.kube.paths import events_path
from rollup_operator.model.base import API_VERSION
from rollup_operator.model.conditions import Reason
from rollup_operator.model.event_reasons import EVENTS, EventType
from rollup_operator.model.job_view import JobView
from rollup_operator.model.times import micro_time

log = structlog.get_logger(__name__)

CONTROLLER = "rollup-operator"
"""The reporting controller of the events."""

QUEUE = 1000
"""How many events of each type may wait. If there are more, the namespace with the most loses its oldest warning, or
its newest Normal event."""

POST_SECONDS = 5.0
"""How long the API server may take for one event."""

STALE = 300.0
"""Seconds after which an event that still waits is dropped: longer than a restart of the API server takes."""

QUIET = 0.5
"""Seconds without another Normal event before one is posted: beside the write of the next stop it would delay that."""

LATE = 30.0
"""How long a Normal event gives way while jobs change all the time: a stop beside an event takes a quarter longer, and
one in twenty of them almost twice as long."""

BURST = 20
"""How many Normal events are posted without a pause."""

PAUSE = 0.1
"""Seconds between two Normal events after that."""

REST = 10.0
"""Seconds between two Normal events that say the same of the same object; what comes meanwhile becomes one."""


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object that an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    @classmethod
    def job(cls, job: JobView) -> "Regarding":
        """Return what an event about a job regards."""
        return cls(API_VERSION, "RollupJob", job.namespace, job.name, job.uid)

    @classmethod
    def store(cls, namespace: str, name: str, uid: str) -> "Regarding":
        """Return what an event about a store regards."""
        return cls(API_VERSION, "RollupStore", namespace, name, uid)


@dataclass(slots=True)
class Event:
    """What happened, once or several times."""

    about: Regarding
    reason: Reason
    note: str
    first: datetime
    last: datetime
    count: int = 1
    since: float = 0.0
    """When it was queued, a warning last, by the queue's clock."""

    @property
    def type(self) -> EventType:
        """The type in Kubernetes."""
        return EVENTS[self.reason].type

    @property
    def key(self) -> "Key":
        """The common part of events that are merged into one."""
        return f"{self.about.uid} {self.reason} {self.note}"


Key = str

_Queues = OrderedDict[str, OrderedDict[Key, Event]]
"""By namespace, the one whose turn it is first; each has events, oldest first."""


class EventQueue:
    """The events that wait to be posted. No asyncio and no clock of its own: times are seconds of any clock."""

    def __init__(self) -> None:
        self._warnings: _Queues = OrderedDict()
        self._normals: _Queues = OrderedDict()
        self._resting: OrderedDict[Key, float] = OrderedDict()
        """Normal events taken a short while ago, oldest first, and when."""
        self._paid_until = self._changed_at = -math.inf

    def put(self, event: Event, now: float) -> Event | None:
        """Add an event, merged into a waiting one that says the same. Returns an event that has no room."""
        warning = event.type is EventType.WARNING
        if not warning:
            self._changed_at = now
        queues = self._warnings if warning else self._normals
        queue = queues.setdefault(event.about.namespace, OrderedDict())
        if (same := queue.get(event.key)) is not None:
            same.last = event.last
            same.count += 1
            if warning:
                same.since = now
                queue.move_to_end(event.key)
            return None
        event.since = now
        queue[event.key] = event
        if sum(map(len, queues.values())) > QUEUE:
            most = max(queues, key=lambda name: len(queues[name]))
            return _pop(queues, most, next(reversed(queues[most]) if not warning else iter(queues[most])))
        return None

    def stale(self, now: float) -> list[Event]:
        """Remove events that have waited for too long."""
        found = []
        for queues in (self._warnings, self._normals):
            for namespace in tuple(queues):
                while (queue := queues.get(namespace)) and next(iter(queue.values())).since <= now - STALE:
                    found.append(_pop(queues, namespace, next(iter(queue))))
        return found

    def take(self, now: float) -> tuple[Event | None, float | None]:
        """Return the event to post now; without one, after how many seconds to ask again (None: once one was put)."""
        if self._warnings:
            namespace, queue = next(iter(self._warnings.items()))
            return _in_turn(self._warnings, namespace, next(reversed(queue))), 0.0
        if not self._normals:
            return None, None
        if (pause := self._paid_until - (BURST - 1) * PAUSE - now) > 1e-6:  # sums of PAUSE are not exact
            return None, pause
        while self._resting and self._longest_rest() <= now:
            self._resting.popitem(last=False)
        awake = [
            (namespace, key, max(now, min(self._changed_at + QUIET, queue[key].since + LATE)))
            for namespace, queue in self._normals.items()
            if (key := next((key for key in queue if key not in self._resting), None)) is not None
        ]
        if not awake:
            return None, self._longest_rest() - now
        namespace, key, due = min(awake, key=lambda one: one[2])  # of those that are due the first
        if due > now:
            return None, due - now
        self._resting[key] = now
        self._paid_until = max(self._paid_until, now) + PAUSE
        return _in_turn(self._normals, namespace, key), 0.0

    def _longest_rest(self) -> float:
        """Return when the event that rests longest is due."""
        return next(iter(self._resting.values())) + REST


def _pop(queues: _Queues, namespace: str, key: Key) -> Event:
    """Take out an event."""
    event = queues[namespace].pop(key)
    if not queues[namespace]:
        del queues[namespace]
    return event


def _in_turn(queues: _Queues, namespace: str, key: Key) -> Event:
    """Take out an event of the namespace whose turn it is: the others come next."""
    event = _pop(queues, namespace, key)
    if namespace in queues:
        queues.move_to_end(namespace)
    return event


class EventRecorder:
    """Posts events one after the other. `run` is its task."""

    def __init__(
        self,
        kube: KubeClient,
        *,
        instance: str,
        now: Callable[[], datetime],
        leading: Callable[[], bool],
        normal: bool = True,
        observe: Callable[[str, str], None] = lambda *_: None,
        clock: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        """`leading` says whether this process acts on the jobs: Normal events report what it did, and end with that.

        `normal`: whether they are posted at all. `observe` gets the type of each event and its outcome:
        `posted`, `failed` or `dropped`.
        """
        self._kube, self._instance, self._now = kube, instance, now
        self._leading, self._normal, self._observe, self._clock = leading, normal, observe, clock
        self._queue = EventQueue()
        self._more = asyncio.Event()
        self._count = 0

    @lasting
    def record(self, about: Regarding, reason: Reason, note: str) -> None:
        """Queue an event that happens now. Never blocks and never raises."""
        now = self._now()
        event = Event(about, reason, note[:1024], now, now)
        if event.type is EventType.NORMAL and not self._normal:
            return
        if (dropped := self._queue.put(event, self._clock())) is not None:
            self._drop(dropped)
        self._more.set()

    async def run(self) -> None:
        """Post what is queued, until cancelled."""
        while True:
            if stale := self._queue.stale(self._clock()):
                log.warning("events dropped: the API server was too slow", events=len(stale))
                for old in stale:
                    self._observe(old.type, "dropped")
            event, wait = self._queue.take(self._clock())
            if event is None:
                self._more.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._more.wait()
            elif event.type is EventType.NORMAL and not self._leading():
                self._drop(event)
            else:
                await self._post(event)

    async def _post(self, event: Event) -> None:
        namespace, result = event.about.namespace, "failed"
        # A Normal event needs no attention, posted or not.
        report = log.warning if event.type is EventType.WARNING else log.info
        try:
            async with asyncio.timeout(POST_SECONDS):
                await self._kube.post(events_path(namespace), self._body(event))
            result = "posted"
        except (KubeError, TimeoutError) as e:
            why = str(e) or f"no answer within {POST_SECONDS:g} s"
            report("event not posted", namespace=namespace, job=event.about.name, reason=event.reason, error=why)
        except Exception:  # nor may one that cannot be posted hold back those after it
            log.exception("event not posted", namespace=namespace, job=event.about.name, reason=event.reason)
        self._observe(event.type, result)

    def _drop(self, event: Event) -> None:
        tell = log.warning if event.type is EventType.WARNING else log.debug
        tell("event dropped", namespace=event.about.namespace, job=event.about.name, reason=event.reason)
        self._observe(event.type, "dropped")

    def _body(self, event: Event) -> dict[str, Any]:
        self._count += 1
        about = event.about
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{about.name[:200]}.{int(event.first.timestamp() * 1e6):x}.{self._count:x}",
                "namespace": about.namespace,
            },
            "eventTime": micro_time(event.first),
            "type": event.type,
            "reason": event.reason,
            "note": event.note,
            "action": "Reconcile",
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance[:128],
            "regarding": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
        }
        if event.count > 1:
            body["series"] = {"count": event.count, "lastObservedTime": micro_time(event.last)}
        return body
