"""The data of a job as a picture: its time line, and a chart of what a search finds, rolled up and live.

Who sees it needs the right to search. The search is the API's own, by its planner, in its turn and within its limits.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from rollup_operator.explaining.text import ago
from rollup_operator.http.access.authentication import Route, namespace_of
from rollup_operator.http.access.permits import CALLER, PERMIT, EndpointAction
from rollup_operator.http.access.store_errors import StoreTrouble, discreet
from rollup_operator.http.api.first_row import first_row
from rollup_operator.http.api.search import Scope, Searches
from rollup_operator.http.jobs.lookup import Lookup
from rollup_operator.http.protocol import errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.ui import rendering
from rollup_operator.http.ui.guard import PART
from rollup_operator.http.ui.pages import ListPages
from rollup_operator.http.ui.pictures.charts import chart
from rollup_operator.http.ui.pictures.time_line import SourceStretch, StretchKind, time_line
from rollup_operator.http.ui.questions import COUNT, PERIODS, ChartQuestion, cut, shifted
from rollup_operator.http.ui.rows import trail
from rollup_operator.http.ui.verified import LastFindings, SeenFindings
from rollup_operator.kube.answer_cache import ShortMemory
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import LastVerification, State, newest_bucket
from rollup_operator.model.time_values import epoch_ms, parse_time_value
from rollup_operator.query.answering.answer import Style
from rollup_operator.query.sources import IndexOptions, Logical
from rollup_operator.rollup.bounds import Bounds
from rollup_operator.stores.search import Tier

FIRST_ROW_SECONDS = 3.0
"""How long a store may take to find a source's first row. A time line without it does not show what is gone."""

FIRST_ROW_COUNTS = 30.0
"""Seconds for which that row counts for all who look at the job."""

JOBS = 500
"""Whose first rows are kept for that long."""

_KINDS: Mapping[str, tuple[StretchKind, str]] = {
    "extra": (StretchKind.GONE, "the source has fewer rows than are rolled up"),
    "differs": (StretchKind.DIFFERS, "other numbers than the source gives"),
    "duplicate": (StretchKind.DIFFERS, "buckets are stored twice"),
    "missing": (StretchKind.MISSING, "the source has rows of buckets that are not rolled up"),
}
"""How findings of a verification are shown."""


@dataclass(frozen=True, slots=True)
class SourceBegin:
    """Where a source begins now."""

    first: datetime | None
    """Its first row; None: it has none."""


@dataclass(frozen=True, slots=True)
class DataPage:
    """The page reads its request and answers. It raises ApiError."""

    pages: ListPages
    lookup: Lookup
    searches: Searches
    last_findings: LastFindings
    begins: ShortMemory[SourceBegin | None] = field(
        default_factory=lambda: ShortMemory(lambda _: FIRST_ROW_COUNTS, size=JOBS)
    )

    def routes(self) -> Iterator[Route]:
        """Return the one page."""
        yield Route("GET", "/ui/namespaces/{namespace}/jobs/{id:[^/]+}/data", EndpointAction.SEARCH, self.show)

    async def show(self, request: web.Request) -> web.Response:
        """Show the time line and a chart of a job."""
        job_id, permit = request.match_info["id"], request[PERMIT]
        job = await self.lookup.existing(namespace_of(request), job_id, permit)
        now = self.pages.now()
        values: dict[str, Any] = {"title": f"Data of {job.job_id}", **trail(job)}
        status, question = 200, None
        try:
            question = _question(job, request.query, now)
            answer, tiers, begin = await self._search(job, question, request)
        except ApiError as e:
            # What can be chosen stays on the page: something else may be answered.
            status, values["problem"] = e.status, e.reason
        else:
            values["problem"] = ""
            found = self.last_findings.of(request[CALLER].name, job)
            values["time_line"] = time_line(stretches(job, tiers, now, begin, found), now=now)
            values["chart"] = _drawn(question, answer)
        values |= {"question": question, "periods": PERIODS, "count": COUNT}
        if request.query.get(PART) == "data":
            return rendering.page("data_part.html", status=status, **values)
        return rendering.page("data.html", status=status, **values, **self.pages.session(request))

    async def _search(
        self, job: JobView, question: ChartQuestion, request: web.Request
    ) -> tuple[Mapping[str, Any], Sequence[Tier], SourceBegin | None]:
        """Return the answer, what is rolled up of the job, and where its source begins. Raises ApiError."""
        permit = request[PERMIT]
        scope = await self.searches.scope(job.namespace, permit)
        with closing(scope):
            async with discreet(permit):
                named = await self.searches.sources(scope, [job.rollup_index], IndexOptions(), "search")
                # Other jobs may write to the same index what they make of other sources.
                sources = [source for source in named if any(each.name == job.name for each in source.jobs)]
                tiers = await self.searches.rolled_up(scope, sources)
                answer = await self.searches.search(scope, sources, question.body(), "search", Style())
                begin = await self.begins.get(job.uid.encode(), lambda: self._begin(scope, sources))
        return answer, [tier for tier in tiers if tier.key == (job.rollup_index, job.job_id)], begin

    async def _begin(self, scope: Scope, sources: Sequence[Logical]) -> SourceBegin | None:
        """Return where the source begins now; None: that cannot be found out quickly."""
        try:
            async with asyncio.timeout(FIRST_ROW_SECONDS):
                rows = [await first_row(self.searches, scope, source) for source in sources]
        except (TimeoutError, ApiError, StoreTrouble):
            return None
        first = min((ms for ms in rows if ms is not None), default=None)
        if first is None:
            return SourceBegin(None)
        at = _instant(max(first, 0))  # nothing is rolled up of what is before 1970
        return None if at is None else SourceBegin(at)


def stretches(
    job: JobView,
    tiers: Sequence[Tier],
    now: datetime,
    source: SourceBegin | None = None,
    findings: SeenFindings | None = None,
) -> Sequence[SourceStretch]:
    """Return what became of the source's time so far, as far as it is known. Pure."""
    found = []
    for tier in tiers:
        begin, end = _instant(tier.begin_ms), _instant(tier.end_ms)
        if begin is None or end is None or begin >= end:
            continue
        found.append(SourceStretch(begin, end, StretchKind.ROLLED))
        if source is not None and (gone := _gone(tier, source.first)) is not None and begin < gone:
            note = "the source begins later" if source.first is not None else "the source has no rows"
            found.append(SourceStretch(begin, min(gone, end), StretchKind.GONE, note))
        last = job.status.last_run
        if last is not None and last.rewritten:
            back = max(begin, shifted(end, -_lookback(job)))
            found.append(SourceStretch(back, end, StretchKind.LATE, f"{last.rewritten:,} documents by the last run"))
        if end < now:
            runs = job.status.state is State.INDEXING
            progress = job.status.progress
            note = f"{progress.percent} % done" if runs and progress is not None else ""
            found.append(SourceStretch(end, now, StretchKind.RUNNING if runs else StretchKind.WAITING, note))
    return [*found, *_of_findings(_newest(findings, job.status.last_verification), now)]


def _newest(findings: SeenFindings | None, last: LastVerification | None) -> SeenFindings | None:
    """Return the newer one of what somebody has verified, and what the operator has by the job's schedule."""
    of_schedule = None if last is None else SeenFindings.of_report(last)
    if findings is None or of_schedule is None:
        return findings or of_schedule
    return max(findings, of_schedule, key=lambda each: each.ended)


def _gone(tier: Tier, first: datetime | None) -> datetime | None:
    """Return up to where the rows are gone of which a job's documents were made; None: none are."""
    if first is None:
        return _instant(tier.end_ms)
    edge = Bounds.of(tier.spec.groups.date_histogram).round_down(epoch_ms(first))
    return _instant(edge) if edge > tier.begin_ms else None


def _of_findings(findings: SeenFindings | None, now: datetime) -> Iterator[SourceStretch]:
    if findings is None:
        return
    for begin, end, kind in findings.stretches:
        shown, note = _KINDS[kind]
        yield SourceStretch(begin, end, shown, f"{note}, as verified {ago(findings.ended, now)}")


def _question(job: JobView, given: Mapping[str, str], now: datetime) -> ChartQuestion:
    try:
        return ChartQuestion.of(job.spec(), given, newest_bucket(job.status.position), now)
    except ValidationError:
        raise errors.illegal_argument(f"The spec of job [{job.job_id}] cannot be read") from None


def _drawn(question: ChartQuestion, answer: Mapping[str, Any]) -> Any:
    return chart(
        question.series(answer),
        interval=question.interval.length,
        cut=cut(answer),
        unit=question.words,
        title=f"{question.words}, every {question.interval.text}",
        bars=question.metric == COUNT,
    )


def _instant(ms: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _lookback(job: JobView) -> timedelta:
    text = job.raw_spec.get("lookback")
    try:
        return timedelta(milliseconds=parse_time_value(str(text), "lookback").milliseconds)
    except (ValueError, OverflowError):
        return timedelta()
