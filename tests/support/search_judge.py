"""Judges answers to searches by what a node says of all rows, and refusals by what is known of the jobs."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rollup_operator.query.aggregations import Aggregation
from rollup_operator.query.errors import SearchRefused
from rollup_operator.rollup.bounds import Bounds
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.errors import SearchAnswerTooLong, SearchTooLarge, SearchTooWide, StoreError
from support.random_worlds import TIME
from support.rounding import ms
from support.search_comparing import Answered, also, as_answered, counted, counting_all, differences, with_sizes
from support.search_places import LATE, Copy
from support.search_reasons import is_true

Body = dict[str, Any]

DEBUG = os.environ.get("SEARCH_DEBUG")

_NOTHING: Body = {"bool": {"must_not": [{"match_all": {}}]}}

Part = Literal["all", "documents", "rows"]
"""What was searched: what is rolled up and what is live, or one of the two."""


@dataclass(frozen=True)
class Found:
    """An answer of ours."""

    aggregations: Sequence[Aggregation]
    """With the intervals that are answered."""
    body: Body


Reply = Found | SearchRefused | StoreError


@dataclass
class Judge:
    """Knows what is right of one world, or of several together."""

    copies: Sequence[Copy]
    jobs: Mapping[str, JobConfig]
    homes: Mapping[str, Copy]
    """By a job's id: the copy of its source."""
    tolerance: float
    """How far apart numbers may be that are alike, where no bucket has them."""
    late: dict[str, str] = field(default_factory=dict)
    """By the id of a job that has not read them: what is written in LATE of rows that came late."""
    several: set[str] = field(default_factory=set)
    """Fields of which a row has several values."""
    gone: bool = False
    """Whether rows were deleted."""
    seen: Counter[str] = field(default_factory=Counter)

    def together(self, other: "Judge") -> "Judge":
        """Return the judge of both worlds."""
        return Judge(
            [*self.copies, *other.copies],
            {**self.jobs, **other.jobs},
            {**self.homes, **other.homes},
            self.tolerance + other.tolerance,
            {**self.late, **other.late},
            self.several | other.several,
            self.gone or other.gone,
            self.seen,
        )

    async def differences(
        self,
        bodies: Sequence[Body],
        replies: Sequence[Reply],
        parameters: Mapping[str, Any],
        part: Part = "all",
        *,
        total: bool = True,
    ) -> list[list[str]]:
        """Return how answers differ from what is right, for each search. `parameters` are those of the calls."""
        found: list[list[str]] = [[] for _ in bodies]
        asked: dict[int, Body] = {}
        for i, (body, reply) in enumerate(zip(bodies, replies, strict=True)):
            if isinstance(reply, SearchTooLarge | SearchAnswerTooLong | SearchTooWide):
                self.seen["too large"] += 1
            elif isinstance(reply, StoreError):
                found[i] = [f"our store raises {type(reply).__name__}: {reply}"]
            elif isinstance(reply, SearchRefused):
                self._refused(body, reply.reason, asked, i, found[i], part)
            elif (same := self._same(body, reply, part, found[i])) is not None:
                asked[i] = same
            await asyncio.sleep(0)
        sized = [with_sizes(counting_all(body)) for body in asked.values()]
        answers = await asyncio.to_thread(Copy.ask, self.copies, sized, **parameters)
        for i, (status, theirs) in zip(asked, answers, strict=True):
            reply = replies[i]
            if isinstance(reply, SearchRefused):
                found[i] += [f"refused without reason: {reply.reason}"] if status < 400 else []
            elif "too_many_buckets_exception" in str(theirs.get("error")):
                self.seen["too many for the node"] += 1
            elif status >= 400:
                found[i].append(f"the node answers {status}: {json.dumps(theirs)[:600]}")
            else:
                assert isinstance(reply, Found)
                names = ("hits", "aggregations") if total else ("aggregations",)
                ours = {name: reply.body[name] for name in names if name in reply.body}
                right = {name: theirs[name] for name in names if name in theirs}
                if total:
                    right["hits"] = counted(bodies[i], theirs["hits"])
                found[i] += differences(ours, right, self.tolerance)
            await asyncio.sleep(0)
        return found

    def _same(self, body: Body, reply: Found, part: Part, found: list[str]) -> Body | None:
        """Return what the node is to be asked; None: nothing, since it would be asked for something else."""
        report = reply.body.get("_rollup", {})
        chosen = report.get("jobs", ())
        jobs = {each["job_id"]: self.jobs[each["job_id"]] for each in chosen}
        times = [job.spec.groups.date_histogram for job in jobs.values()]
        if "rounded" in report and any(time != times[0] for time in times):
            self.seen["rounded by several jobs"] += 1
            return None
        bounds = Bounds.of((times or [next(iter(self.jobs.values())).spec.groups.date_histogram])[0])
        asked = as_answered(body, Answered(reply.aggregations, report, bounds, self._rolled(chosen)))
        if asked is None:
            self.seen["date_range rounded"] += 1
            return None
        self.seen["answered"] += 1
        self.seen["rolled"] += bool(chosen)
        reasons = [each["reason"] for each in report.get("not_used", ())]
        found += [f"not used without reason: {r}" for r in reasons if self._is_true(r, body, part) is False]
        if part == "documents":
            return also(asked, must=[{"bool": {"should": [_NOTHING, *map(self._of_job, chosen)]}}])
        old = [self._came_late(each) for each in chosen if each["job_id"] in self.late]
        return also(asked, must_not=old) if old else asked

    def _rolled(self, chosen: Sequence[Body]) -> dict[Sequence[str], list[tuple[int, int]]]:
        """Return which time of each source is answered by what is rolled up; nothing: there is one source."""
        if len(self.copies) == 1:
            return {}
        found: dict[Sequence[str], list[tuple[int, int]]] = {copy.indices: [] for copy in self.copies}
        for each in chosen:
            stretch = ms(each["from"].rstrip("Z")), ms(each["to"].rstrip("Z"))
            found[self.homes[each["job_id"]].indices].append(stretch)
        return found

    def _is_true(self, reason: str, body: Body, part: Part) -> bool | None:
        return is_true(reason, body, self.jobs, None if self.gone else self.several, alone=part == "documents")

    def _of_job(self, stretch: Body) -> Body:
        """Return the condition that a row is summarised in this stretch of a job's documents."""
        gone = [self._came_late(stretch)] if stretch["job_id"] in self.late else []
        return {"bool": {"filter": [self._within(stretch)], "must_not": gone}}

    def _came_late(self, stretch: Body) -> Body:
        """Return the condition that a row is not summarised there, since it came late."""
        return {"bool": {"filter": [{"term": {LATE: self.late[stretch["job_id"]]}}, self._within(stretch)]}}

    def _within(self, stretch: Body) -> Body:
        """Return the condition that a row is in a bucket that begins in the stretch, whose end may be within it."""
        bounds = Bounds.of(self.jobs[stretch["job_id"]].spec.groups.date_histogram)
        end = bounds.next_edge(ms(stretch["to"].rstrip("Z")) - 1)
        return {"range": {TIME: {"gte": ms(stretch["from"].rstrip("Z")), "lt": end, "format": "epoch_millis"}}}

    def _refused(self, body: Body, reason: str, asked: dict[int, Body], i: int, found: list[str], part: Part) -> None:
        """Note what is wrong with the reason of a refusal. Where only the node can tell, it is to be asked."""
        self.seen["refused"] += 1
        if DEBUG:
            self.seen[f"refused: {reason[:150]}"] += 1
        true = self._is_true(reason, body, part)
        if true is None:
            asked[i] = body
        elif not true:
            found.append(f"refused without reason: {reason}")
