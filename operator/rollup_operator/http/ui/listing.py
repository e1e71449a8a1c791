"""Finds, filters and sorts what a list of jobs shows. Pure; long lists are worked on in portions.

What a list goes by is read of each version of a job once and remembered: with ten thousand jobs, a page that is kept
up to date would read all their statuses every few seconds. Only what comes up to the page that is shown is sorted.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any

from rollup_operator.concurrency.portions import Work, sorted_by
from rollup_operator.explaining.summary import Mood, summary, trouble
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import State
from rollup_operator.model.times import instant_of

JOBS_OF_A_PAGE = 50

LONGEST_SEARCH = 100
"""Characters of a text that is searched for."""

REMEMBERED = 20_000
"""Jobs, of some 500 bytes each."""

AT_ONCE = 20
"""Jobs that are read without an interruption: in less than a millisecond, even where nothing is remembered of them."""

CHOSEN_AT_ONCE = 500
"""Jobs that are compared without an interruption with those of the page, in about 0.3 ms."""

FEW = 1_000
"""Jobs of which the first are chosen in one pass. A page further down needs more: all are sorted for it."""

_NEVER = math.inf


class Group(StrEnum):
    """What the state of a job is filtered by."""

    TROUBLE = "trouble"
    RUNNING = "running"
    CHANGING = "changing"
    STARTED = "started"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What a list goes by of one version of a job. Times in seconds since the epoch, infinite where there is none."""

    version: int
    group: Group
    mood: Mood
    words: str
    """The state in words."""
    watermark: float
    next_run: float
    last_run: float
    names: str
    """What a search compares, in one case."""

    @classmethod
    def of(cls, job: JobView) -> "JobFacts":
        """Read a job."""
        said, status = summary(job), job.status
        last = status.last_run.end_time if status.last_run is not None else None
        watermark, next_run, last_run = (_seconds(text) for text in (status.watermark, status.next_run_time, last))
        names = "\n".join((job.job_id, job.name, job.index_pattern, job.rollup_index)).casefold()
        return cls(job.version, _group(job, said.mood), said.mood, said.text, watermark, next_run, last_run, names)


class KnownFacts:
    """The facts of the jobs that lists have shown."""

    def __init__(self) -> None:
        self._of: dict[str, JobFacts] = {}

    def of(self, job: JobView) -> JobFacts:
        """Return the facts of this version of a job."""
        known = self._of.get(job.uid)
        if known is None or known.version != job.version:
            known = self._of[job.uid] = JobFacts.of(job)
            if len(self._of) > REMEMBERED:
                del self._of[next(iter(self._of))]
        return known


_RANKS: Mapping[Group, int] = {group: rank for rank, group in enumerate(Group)}

SORTS: Mapping[str, Callable[[JobView, JobFacts], tuple[Any, ...]]] = {
    "name": lambda job, facts: (job.namespace, job.job_id),
    "state": lambda job, facts: (_RANKS[facts.group], facts.words),
    "lag": lambda job, facts: (facts.watermark,),
    "next": lambda job, facts: (facts.next_run,),
    "last": lambda job, facts: (facts.last_run == _NEVER, -facts.last_run),
}
"""What a list can be sorted by, in its natural order: trouble, the largest lag, the next and the latest run first."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What is asked of a list."""

    text: str = ""
    """Part of a job's id, of its name, its source or its rollup index; case makes no difference."""
    group: Group | None = None
    sort: str = "name"
    backwards: bool = False
    page: int = 1

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "ListQuery":
        """Read the parameters of a request. What cannot be read counts as not given: the page shows what counts."""
        sort = given.get("sort", "")
        state, number = given.get("state", ""), given.get("page", "")
        return cls(
            text=given.get("q", "").strip()[:LONGEST_SEARCH],
            group=Group(state) if state in list(Group) else None,
            sort=name if (name := sort.removeprefix("-")) in SORTS else "name",
            backwards=sort.startswith("-"),
            page=int(number) if number.isascii() and number.isdecimal() and len(number) < 7 else 1,
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What a list shows."""

    jobs: Sequence[JobView]
    """Those of the page."""
    page: int
    pages: int
    matching: int
    """How many jobs the whole list has."""
    counts: Mapping[Group, int]
    """How many jobs with the text are in each state."""
    total: int
    """How many jobs the caller may see here."""


def find(jobs: Iterable[JobView], query: ListQuery, known: KnownFacts) -> Work[Found]:
    """Return what a list shows of these jobs."""
    text = query.text.casefold()
    counts, total = dict.fromkeys(Group, 0), 0
    chosen: list[tuple[JobView, JobFacts]] = []
    for job in jobs:
        total += 1
        if not total % AT_ONCE:
            yield
        facts = known.of(job)
        if text in facts.names:
            counts[facts.group] += 1
            if query.group in (None, facts.group):
                chosen.append((job, facts))
    pages = max(1, math.ceil(len(chosen) / JOBS_OF_A_PAGE))
    number = min(max(query.page, 1), pages)
    first = yield from _first(chosen, number * JOBS_OF_A_PAGE, query)
    shown = first[(number - 1) * JOBS_OF_A_PAGE :]
    return Found(shown, number, pages, len(chosen), counts, total)


def _first(chosen: Sequence[tuple[JobView, JobFacts]], count: int, query: ListQuery) -> Work[list[JobView]]:
    """Return the first jobs in the order asked for."""
    key = SORTS[query.sort]
    if count > FEW:
        ordered = yield from sorted_by(chosen, lambda one: _place(key, *one))
        return [job for job, _ in (reversed(ordered) if query.backwards else ordered)][:count]
    pick = heapq.nlargest if query.backwards else heapq.nsmallest
    first: list[tuple[Any, ...]] = []
    for begin in range(0, len(chosen), CHOSEN_AT_ONCE):
        more = ((*_place(key, job, facts), job) for job, facts in chosen[begin : begin + CHOSEN_AT_ONCE])
        first = pick(count, chain(first, more))
        yield
    return [job for *_, job in first]


def _place(key: Callable[[JobView, JobFacts], tuple[Any, ...]], job: JobView, facts: JobFacts) -> tuple[Any, ...]:
    """Return where a job belongs; no two are equal."""
    return (*key(job, facts), job.namespace, job.name, job.uid)


def _group(job: JobView, mood: Mood) -> Group:
    if trouble(job) is not None and not job.deleting:
        return Group.TROUBLE
    if job.status.state is State.INDEXING and not job.deleting:
        return Group.RUNNING
    if mood is Mood.CHANGING:
        return Group.CHANGING
    return Group.STARTED if job.status.state is State.STARTED else Group.STOPPED


def _seconds(text: str | None) -> float:
    instant = instant_of(text)
    return _NEVER if instant is None else instant.timestamp()
