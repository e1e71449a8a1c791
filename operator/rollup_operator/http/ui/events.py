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

MOST = 20
"""Events that are shown, the newest ones."""

LONGEST = 1_000
"""Characters of an event's message."""

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
        return sorted(items, key=lambda event: int(event["metadata"]["resourceVersion"]))


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
    warns, reason = event.get("type") == "Warning", str(event.get("reason") or "-")
    return ShownEvent(
        reason=reason,
        mood=(Mood.CHANGING if warns else Mood.RESTING).value,
        when=ago(event_time(event), now),
        times=(event.get("series") or {}).get("count") or event.get("count") or 1,
        message=capital(sentence(shortened(str(event.get("message") or ""), LONGEST))),
        cure=cure_of(reason, job) if warns else "",
    )
