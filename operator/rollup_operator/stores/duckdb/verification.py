"""Compares a job's result with its source, by pages of the run's own reading.

The engine joins both sides, and only buckets that are not alike become Python's values: those are judged one by one.
The source is summarized by the statement of the job's own pages, so the comparison shows what a run would write.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from rollup_operator.model.times import minute
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.comparison import BucketNumbers, Findings, Judge, bucket_of, with_reach
from rollup_operator.rollup.documents import layout_of
from rollup_operator.rollup.due import rolled_up_to
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.stores.duckdb import claims
from rollup_operator.stores.duckdb.claims import ClaimRow
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.session import judge as judge_record
from rollup_operator.stores.duckdb.source.reading import Range, Reading
from rollup_operator.stores.duckdb.statements import columns, plan, sql
from rollup_operator.stores.duckdb.statements.columns import is_summed_exactly
from rollup_operator.stores.duckdb.statements.plan import COUNT
from rollup_operator.stores.duckdb.target import writing
from rollup_operator.stores.duckdb.target.export import columns_of, document_of
from rollup_operator.stores.duckdb.target.writing import DOCUMENTS
from rollup_operator.stores.verification import DayCount, Extent

T = TypeVar("T")

_BATCH = 100
"""Rows of an answer that are taken at once: meanwhile nothing else of this process goes on. Keys may be long."""
_NOTHING = Extent(Span(0, 0), 0)


class DuckDBVerification:
    """One comparison, over a connection of its own."""

    def __init__(
        self,
        lane: Lane,
        config: JobConfig,
        fields: Collection[str] | None,
        *,
        page_seconds: float,
        is_alive: Callable[[Owner], bool],
    ) -> None:
        """`fields`: whose metrics are compared; None: all. Pages aim to take `page_seconds`."""
        self._lane, self._config, self._page_seconds, self._is_alive = lane, config, page_seconds, is_alive
        self._extended = replace(config, spec=with_reach(config.spec))
        """The job with what is read beside its own metrics."""
        self._layout = layout_of(config.job_id, config.spec)
        self._wide_layout = layout_of(config.job_id, self._extended.spec)
        self.judge = Judge(self._layout, fields=None if fields is None else frozenset(fields))
        self._record: ClaimRow | None = None
        self._whole: Reading | None = None
        self._written: Collection[str] = ()

    async def begin(self, span: Span) -> Extent:
        """Read the record and measure the source. Raises IdentityConflict, and the errors of a source."""
        config, key = self._config, self._config.key

        def read(lane: Lane) -> tuple[ClaimRow | None, str | None, bool]:
            record = claims.read(lane, key) if claims.exists(lane) else None
            if record is None:
                return None, None, True
            stands = record.target is None or claims.target_stands(lane, key, record.target)
            return record, claims.pattern(lane, key), stands

        record, pattern, stands = await self._run("reading the claim", read)
        if record is None:
            return _NOTHING
        judge_record(config, record, pattern, stands, self._is_alive)
        self._record = record
        of = record.claim
        end = rolled_up_to(config.spec, of.position, of.watermark_ms, last_is_whole=True)
        within = Span(span.start_ms, max(span.start_ms, min(span.end_ms, end)))
        return await self._run("inspecting the source", lambda lane: self._begin(lane, within, end))

    def _begin(self, lane: Lane, span: Span, end: int) -> Extent:
        reading = self._whole = Reading.begin(lane, self._extended, span)
        self._written = claims.columns_written(lane, self._config.key) or {}
        exact = {m.field for m in self._config.spec.metrics if is_summed_exactly(reading.types[m.field])}
        self.judge = replace(self.judge, exact=frozenset(exact))
        firsts = [reading.source.first_ms, self._first(lane, span)]
        begin = min((reading.bounds.round_down(ms) for ms in firsts if ms is not None), default=span.end_ms)
        span = Span(max(span.start_ms, begin), span.end_ms)
        return Extent(span, end, reading.source.rows, reading.notes)

    def _first(self, lane: Lane, span: Span) -> int | None:
        """Return where the first bucket of the result begins."""
        if (target := self._target) is None:
            return None
        key = sql.name(self._reading.plan.date_key)
        where = f"{key} >= {self._reading.bounds.round_down(span.start_ms)} AND {key} < {span.end_ms}"
        ((first,),) = lane.execute(f"SELECT min({key}) FROM {target} WHERE {where}")
        return first if isinstance(first, int) else None

    async def count(self, days: Sequence[Span]) -> Sequence[DayCount]:
        """Count in one statement for each side."""
        return await self._run("counting", lambda lane: self._count(lane, days))

    def _count(self, lane: Lane, days: Sequence[Span]) -> list[DayCount]:
        begin, end, of = days[0].start_ms, days[-1].end_ms, self._reading.plan
        key = sql.name(of.date_key)
        # A row counts once in each of its buckets, and has several where a group is a list.
        of = replace(of, groups=of.groups if any(c.many for c in of.groups) else (), aggregates=())
        there = f"SELECT greatest({key}, {begin}) AS k, {COUNT} AS n FROM ({of.select(self._segments(begin, end))})"
        written = "SELECT 0::BIGINT AS k, 0::BIGINT AS n WHERE false"
        if (target := self._target) is not None:
            first = self._reading.bounds.round_down(begin)  # before `begin` where a bucket is cut by 1970
            written = f"SELECT greatest({key}, {begin}) AS k, {COUNT} AS n FROM {target} "
            written += f"WHERE {key} >= {first} AND {key} < {end}"
        rows, stored = (self._by_day(lane, side, days) for side in (there, written))
        return [DayCount(rows.get(day.start_ms, 0), stored.get(day.start_ms, 0)) for day in days]

    @staticmethod
    def _by_day(lane: Lane, counts: str, days: Sequence[Span]) -> dict[Any, Any]:
        starts = ", ".join(str(day.start_ms) for day in days)
        found = lane.execute(
            f"SELECT day, sum(n)::BIGINT FROM (SELECT k, sum(n) AS n FROM ({counts}) GROUP BY k) c "
            f"ASOF JOIN (SELECT unnest([{starts}]::BIGINT[]) AS day) d ON c.k >= d.day GROUP BY day"
        )
        return dict(found)  # type: ignore[arg-type]  # its rows are pairs

    def _segments(self, begin: int, end: int) -> Sequence[Any]:
        return plan.segments(self._reading.bounds, begin, end)

    async def compare(self, span: Span, into: Findings, reached: Callable[[int], None]) -> None:
        """Compare page by page."""
        reading = await self._run("inspecting the source", lambda lane: self._reading.part(lane, span))
        record = self._record
        reading.pace(self._page_seconds, record.claim.page_hint if record is not None else None)
        begin = span.start_ms
        try:
            while begin < span.end_ms:
                page = partial(self._page, reading=reading, begin=begin, into=into)
                begin = await self._run("comparing", page)
                reached(begin)
        finally:
            await self._run("ending", reading.drop_all)

    def _page(self, lane: Lane, reading: Reading, begin: int, into: Findings) -> int:
        """Compare the next page, and what the result has before it. Returns where the following one begins."""
        began = time.monotonic()

        def say(start: int, end: int) -> None:
            if (doing := lane.doing) is not None:
                lane.doing = (f"comparing {minute(start)}..{minute(end)}", doing[1])

        page = reading.next(lane, begin, say)
        end = page.end if page is not None else reading.span.end_ms
        alike = page.buckets if page is not None else 0
        for stored, recomputed in self._unlike(lane, reading, page, reading.bounds.round_down(begin), end):
            into.take(stored, recomputed)
            alike -= recomputed is not None
        into.compared += alike
        if page is not None:
            reading.drop(lane, page)
            reading.learn(reading.covered(page), time.monotonic() - began)
        return end

    def _unlike(
        self, lane: Lane, reading: Reading, page: Range | None, begin: int, end: int
    ) -> Iterator[tuple[BucketNumbers | None, BucketNumbers | None]]:
        """Yield both sides of the buckets of [begin, end) that are not the same to the last digit."""
        of, target = reading.plan, self._target
        there = page.select if page is not None else _no_rows(of.columns)
        written = (
            writing.stored(target, of, self._written, begin, end)
            if target is not None
            else _no_rows([*of.columns, (DOCUMENTS, "BIGINT")])
        )
        compared = [c for c in of.aggregates if target is None or c.name in self._written]
        exact = {f"{field}.sum" for field in self.judge.exact}
        keys = [sql.name(n) for n in (of.date_key, *(c.name for c in of.groups))]
        given_keys = [f"CASE WHEN b.{COUNT} IS NOT NULL THEN b.{k} ELSE r.{k} END" for k in keys]
        texts = [False, *(c.type == "VARCHAR" for c in of.groups)]
        wide, narrow = (columns_of(layout)[len(keys) :] for layout in (self._wide_layout, self._layout))
        parts = [
            f"b.{COUNT} IS NOT NULL",
            f"r.{DOCUMENTS}",
            *(columns.short(given) if text else given for given, text in zip(given_keys, texts, strict=True)),
            *(f"b.{expression}" for _, expression in wide),
            *(f"r.{expression}" for _, expression in narrow),
        ]
        statement = (
            f"SELECT {', '.join(parts)} FROM ({there}) b FULL JOIN ({written}) r ON {writing.same_key(of)} "
            f"WHERE b.{COUNT} IS NULL OR r.{DOCUMENTS} IS NULL OR {writing.differences(compared, exact)}"
        )
        middle = 2 + len(keys) + len(wide)
        for batch in lane.batches(statement, _BATCH):
            for row in batch:
                has, documents, *rest = row[:middle]
                key = rest[: len(keys)]
                recomputed = stored = None
                if has:
                    recomputed = bucket_of(self._wide_layout, document_of(self._wide_layout, tuple(rest))[1])
                if isinstance(documents, int):
                    found = document_of(self._layout, (*key, *row[middle:]))[1]
                    stored = bucket_of(self._layout, found, documents)
                yield stored, recomputed

    @property
    def _reading(self) -> Reading:
        assert self._whole is not None
        return self._whole

    @property
    def _target(self) -> str | None:
        """The result's table; None: there is none."""
        record = self._record
        return None if record is None or record.target is None else claims.table(record.target)

    async def _run(self, what: str, work: Callable[[Lane], T]) -> T:
        return await self._lane.run(what, work, interruptible=True)


def _no_rows(columns: Sequence[tuple[str, str]]) -> str:
    return f"SELECT {', '.join(f'NULL::{kind} AS {sql.name(n)}' for n, kind in columns)} WHERE false"
