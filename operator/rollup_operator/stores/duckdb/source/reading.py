"""The reading side of a run: what is due, in which order it lies, and one page after the other. Called in a worker.

If the source lies in time order, a page reads only its range. If not, each page would read all of it: then the first
page summarizes everything that is due once, and the pages are cut from that summary.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb

from rollup_operator.rollup.bounds import Bounds, Span
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.rollup.page_size import Pager
from rollup_operator.stores.base import Position, Source
from rollup_operator.stores.duckdb import claims
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.database.inspection import SCRATCH
from rollup_operator.stores.duckdb.source import digits, fitting, judging, order, sources, spelling
from rollup_operator.stores.duckdb.source.headers import Wanted
from rollup_operator.stores.duckdb.source.sources import SourceFiles
from rollup_operator.stores.duckdb.statements import plan, sql
from rollup_operator.stores.duckdb.statements.columns import LONG_TEXT, LONGEST_TEXTS
from rollup_operator.stores.duckdb.statements.plan import Plan
from rollup_operator.stores.errors import SourceInvalid

_REREADS = 0.3
"""How much of the source all pages together may read again, before it is summarized once instead."""
_REST = 0.25
"""The part of a page that is not worth a page of its own."""
_ROWS_PER_SECOND = 20_000_000
"""Assumed speed of reading in order, by which the number of pages of a run is estimated."""


@dataclass(frozen=True, slots=True)
class Range:
    """A page: a statement for the buckets of [start, end)."""

    start: int
    end: int
    key_from: int
    """The first bucket's key; before `start` where that is cut by 1970."""
    buckets: int
    rows: int
    last_key: Position
    select: str
    table: str | None
    """The scratch table of this page alone."""


@dataclass
class Reading:
    """Reads the source of one run."""

    bounds: Bounds
    plan: Plan
    source: Source
    spread: float
    """Part of the source's time that one block of its rows covers: near 0 in order, 1 without any order.

    Infinite where blocks cannot be skipped.
    """
    span: Span
    types: Mapping[str, str] = field(default_factory=dict)
    """The types of the source's columns, by name."""
    found: SourceFiles = field(default_factory=lambda: SourceFiles(()))
    notes: Sequence[str] = ()
    """What users should know of the source although it can be read."""
    pager: Pager = field(default_factory=lambda: Pager(1.0, 1.0))
    _stage: str | None = None
    _tables: set[str] = field(default_factory=set)

    @classmethod
    def begin(cls, lane: Lane, config: JobConfig, span: Span) -> "Reading":
        """Find, check and measure the source within a span. Raises the errors of a source."""
        spec = config.spec
        written = claims.columns_written(lane, config.key)
        found = sources.find(spec.index_pattern, spec.rollup_index, lane, Wanted.of(spec, written or {}))
        sources.check_columns(lane, found)
        spelling.check(lane, spec, found)
        judging.check_names(spec, found.dialects)
        note = fitting.check(lane, spec, found)
        catalog = str(lane.execute("SELECT current_database()")[0][0])
        relation = found.relation(catalog)
        types = {str(r[0]): str(r[1]) for r in lane.execute(f"DESCRIBE SELECT * FROM {relation}")}
        if (wrong := fitting.wrong_texts(found, types)) is not None:
            raise SourceInvalid(f"spec.indexPattern: {wrong}")
        digits.check(lane, spec, found, types)
        made = plan.make_plan(spec, relation, types, written)
        if written is None and spec.start is None:
            judging.check_unit(lane, made)
        source = _measured(lane, made, span, found.count)
        spread = order.spread(lane, found, catalog, made, source)
        bounds = Bounds.of(spec.groups.date_histogram)
        return cls(bounds, made, source, spread, span, types, found, [note] if note else [])

    def part(self, lane: Lane, span: Span) -> "Reading":
        """Return a reading of a part of the span, of the same files."""
        return replace(self, span=span, source=_measured(lane, self.plan, span, self.source.shards))

    @property
    def last_ms(self) -> int:
        """Time of the last row found at the beginning."""
        return self.source.last_ms if self.source.last_ms is not None else -1

    @property
    def span_ms(self) -> float:
        """What the pager has learned."""
        return self.pager.span_ms

    def pace(self, aim_s: float, hint: float | None) -> None:
        """Size pages to take `aim_s` seconds."""
        first, last = self.source.first_ms or 0, self.source.last_ms or 0
        self.pager = Pager.begin(aim_s, hint, self.source.rows, first, last)

    def covered(self, page: Range) -> int:
        """Return how much of the source's time a page covers: after the last row there was nothing to read."""
        return max(1, min(page.end, self.last_ms + 1) - page.start)

    def learn(self, read_ms: int, took_s: float) -> None:
        """Size the next page after one of `read_ms`."""
        self.pager = self.pager.learn(read_ms, took_s)

    def next(self, lane: Lane, start: int, say: Callable[[int, int], None]) -> Range | None:
        """Read the first page at or after `start` that has any bucket; None: nothing is left of the span."""
        bound = self.span.end_ms
        if start == self.span.start_ms:
            if self.source.first_ms is None:
                return None
            start = max(start, self.bounds.round_down(self.source.first_ms))
        while start < bound:
            end = self.pager.end(self.bounds, start, bound)
            # A rest that is not worth its own page joins the last one.
            if end + self.pager.span_ms * _REST > self.last_ms:
                end = bound
            say(start, end)
            if (page := self._read(lane, start, end)) is not None:
                return page
            ((_, first, _),) = lane.execute(self.plan.measure(max(0, end), bound)) if end < bound else [(0, None, None)]
            if not isinstance(first, int):
                return None
            start = max(end, self.bounds.round_down(first))
        return None

    def drop(self, lane: Lane, page: Range) -> None:
        """Forget a page's buckets."""
        if page.table is not None:
            self.forget(lane, page.table)

    def forget(self, lane: Lane, table: str) -> None:
        """Drop one of the scratch tables."""
        if table in self._tables:
            lane.execute(f"DROP TABLE IF EXISTS {table}")
            self._tables.discard(table)

    def drop_all(self, lane: Lane) -> None:
        """Forget everything that was read and not written."""
        for table in self._tables:
            lane.execute(f"DROP TABLE IF EXISTS {table}")
        self._tables.clear()

    def scratch(self, lane: Lane, select: str) -> str:
        """Keep the result of a statement as a table of the scratch catalog, until `forget` or `drop_all`.

        Raises SourceInvalid if a sum is too large.
        """
        table = f"{SCRATCH}.{sql.name(uuid.uuid4().hex)}"
        try:
            lane.execute(f"CREATE TABLE {table} AS {select}")
        except duckdb.OutOfRangeException as e:
            if not (summed := self.plan.summed_exactly):
                raise
            raise SourceInvalid(
                f"spec.metrics: the sum of column {' or '.join(map(repr, summed))} is too large: whole numbers and "
                "decimals are summed up exactly, up to 128 bits. Have the source hold the column as DOUBLE, or create "
                "the job again without sum and avg of it"
            ) from e
        self._tables.add(table)
        return table

    def _read(self, lane: Lane, start: int, end: int) -> Range | None:
        table = None
        if self._stage is not None or self._is_better_staged():
            select = self._from_stage(lane, start, end)
        else:
            table = self.scratch(lane, self.plan.select(plan.segments(self.bounds, start, end)))
            select = f"SELECT * FROM {table}"
        # Two small statements take half as long as one that joins their answers.
        ((buckets, rows, last, longest),) = lane.execute(self.plan.totals(select))
        assert isinstance(buckets, int)
        assert isinstance(longest, int)
        if longest > LONGEST_TEXTS:
            raise SourceInvalid(f"spec.groups.terms.fields: {LONG_TEXT}")
        if not buckets:
            if table is not None:
                self.forget(lane, table)
            return None
        assert isinstance(rows, int)
        assert isinstance(last, int)
        position: dict[str, Any] = {self.plan.date_key: last}
        if self.plan.groups:
            (values,) = lane.execute(self.plan.last(select, last))
            position |= zip((g.name for g in self.plan.groups), values, strict=True)
        return Range(start, end, min(start, self.bounds.round_down(start)), buckets, rows, position, select, table)

    def _is_better_staged(self) -> bool:
        pages = self.source.rows / (self.pager.aim_s * _ROWS_PER_SECOND)
        return pages * self.spread > _REREADS

    def _from_stage(self, lane: Lane, start: int, end: int) -> str:
        key = sql.name(self.plan.date_key)
        if self._stage is None:
            due = self.plan.select(plan.segments(self.bounds, start, self.span.end_ms))
            self._stage = self.scratch(lane, f"{due} ORDER BY {key}")
        first = min(start, self.bounds.round_down(start))
        return f"SELECT * FROM {self._stage} WHERE {key} >= {first} AND {key} < {end}"


def _measured(lane: Lane, plan: Plan, span: Span, shards: int) -> Source:
    measured = [(0, None, None)] if span.empty else lane.execute(plan.measure(span.start_ms, span.end_ms))
    ((rows, first, last),) = measured
    assert isinstance(rows, int)
    return Source(
        shards=shards,
        rows=rows,
        first_ms=first if isinstance(first, int) else None,
        last_ms=last if isinstance(last, int) else None,
    )
