"""The events about a job, as its page shows them. Who may not list the events of the namespace sees none."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rollup_operator.explaining.cures import cure_of
from rollup_operator.explaining.summary import Mood
from rollup_operator.explaining.text import ago, capital, event_time, sentence
from rollup_operator.http.ports import Reads
from rollup_operator.kube.answer_cache import ShortMemory
from rollup_operator.kube.client import KubeError
from rollup_operator.kube.paths import events_about_path
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import shortened

READ_SECONDS = 5.0
"""How long the API server may take."""

SHARED_SECONDS = 5.0
"""How long an answer counts for all who look at the job: the API server goes through all events of a namespace."""

JOBS = 500
"""Whose events are kept for that long."""

KEPT = 100
"""Events of a job that are kept, the newest ones."""

MOST = 20
"""Events that are shown, the newest ones."""

LONGEST, LONGEST_REASON = 1_000, 128
"""Characters of an event's message, and of its reason: the API server has no limit for either."""

Event = Mapping[str, Any]


class JobEvents:
    """Reads events."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._known: ShortMemory[Sequence[Event] | None] = ShortMemory(lambda _: SHARED_SECONDS, size=JOBS)

    async def about(self, job: JobView) -> Sequence[Event] | None:
        """Return the events about a job, oldest first; None: the API server does not give them now."""
        return await self._known.get(job.uid.encode(), lambda: self._read(job))

    async def _read(self, job: JobView) -> Sequence[Event] | None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                found = await self._reads.get(
                    events_about_path(job.namespace), fieldSelector=f"involvedObject.uid={job.uid}", limit="500"
                )
        except (KubeError, TimeoutError):
            return None
        items: Sequence[Event] = found["items"]
        newest = sorted(items, key=lambda event: int(event["metadata"]["resourceVersion"]))[-KEPT:]
        return [_kept(event) for event in newest]


def _kept(event: Event) -> Event:
    """Return what is shown of an event, and no more."""
    series, meta = event.get("series") or {}, event["metadata"]
    return {
        "metadata": {"creationTimestamp": meta.get("creationTimestamp")},
        "type": "Warning" if event.get("type") == "Warning" else "Normal",
        "reason": shortened(str(event.get("reason") or "-"), LONGEST_REASON),
        "message": shortened(str(event.get("message") or ""), LONGEST),
        "count": event.get("count"),
        "series": {key: series.get(key) for key in ("count", "lastObservedTime")},
        "lastTimestamp": event.get("lastTimestamp"),
        "eventTime": event.get("eventTime"),
    }


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """An event, with what to do about it."""

    reason: str
    mood: str
    when: str
    times: int
    message: str
    cure: str


def shown_events(events: Sequence[Event], job: JobView, now: datetime) -> Sequence[ShownEvent]:
    """Return the newest events, the newest first."""
    return [_shown(event, job, now) for event in reversed(events[-MOST:])]


def _shown(event: Event, job: JobView, now: datetime) -> ShownEvent:
    warns, reason = event["type"] == "Warning", event["reason"]
    return ShownEvent(
        reason=reason,
        mood=(Mood.CHANGING if warns else Mood.RESTING).value,
        when=ago(event_time(event), now),
        times=event["series"]["count"] or event["count"] or 1,
        message=capital(sentence(event["message"])),
        cure=cure_of(reason, job) if warns else "",
    )
