"""Splits a search: which part of the time is read of which job's documents, and which of the source's rows. Pure.

    request      |-------------------------------------------------|
    1d job       |==============|                                         the coarsest that can answer comes first
    1h job       |..............|=====================|                   then the next, for what is left
    rows         |....................................|============|      the rest is live
                                Wd                    Wh

No stretch of time is read twice, so the answers are added. A part that the request's own range of time does not meet
is not read at all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rollup_operator.query.aggregations import Aggregation, DateHistogramAggregation
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.binding import FieldNotKept
from rollup_operator.query.planning.doubts import Doubt, UncertainTime, UncertainValues, whole_buckets, with_missing
from rollup_operator.query.planning.intervals import Refusals, changed_intervals, length, widened
from rollup_operator.query.planning.rolled import Rolled
from rollup_operator.query.planning.shape import FieldNotKnown, Reader, Shape, flat
from rollup_operator.query.reading.request import SearchRequest
from rollup_operator.query.times.formats import iso
from rollup_operator.query.times.grids import EARLIEST, LATEST, floor
from rollup_operator.rollup.bounds import Bounds
from rollup_operator.stores.search import (
    AtLeast,
    Between,
    ByPredicate,
    ByTime,
    Exists,
    Fetch,
    FieldKind,
    Grouping,
    Instant,
    Level,
    Not,
    Number,
    Partials,
    Predicate,
    Rows,
    Tier,
    time_range,
)

Stretch = tuple[int | None, int | None]
"""A stretch of time, [begin, end) in epoch milliseconds; None: without end."""

MOST_STRETCHES = 5_000
"""Of time, in one fetch: a cluster is asked for each apart. Within ±8,000 years, clocks are changed 500 times."""


@dataclass(frozen=True, slots=True)
class Live:
    """The rows of the source, where it still exists."""

    rows: Rows
    kinds: Mapping[str, FieldKind]
    """What its fields hold."""


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What to read for a search, and how the answer is built of it."""

    request: SearchRequest
    """With the intervals that are answered."""
    fetches: tuple[Fetch, ...]
    shapes: tuple[Shape, ...]
    numbers: tuple[Number, ...]
    """Of all documents together: those of each fetch, in this order."""
    kinds: Mapping[str, FieldKind]
    report: Mapping[str, Any] | None
    """What the answer says of how it was found: which job answers for which time, and what was rounded."""
    doubts: tuple[Doubt, ...] = ()

    @property
    def reads(self) -> tuple[Fetch, ...]:
        """All that is to be read, at once: the fetches, and what settles the doubts."""
        return (*self.fetches, *(fetch for doubt in self.doubts for fetch in doubt.reads))

    def joined(self, other: "SearchPlan", source: str) -> "SearchPlan":
        """Return the plan of two sources that are answered together. Raises SearchRefused that names the other one."""
        if other.request != self.request:
            raise SearchRefused(
                f"The source {source} is rolled up by an interval that does not fit what the others are answered by: "
                "search them apart, or ask for an interval that is a multiple of all"
            )
        if other.shapes != self.shapes:
            raise SearchRefused(
                f"The fields that the search groups by hold values of other kinds in the source {source} than in the "
                "others: search them apart"
            )
        report = dict(self.report or {})
        for name, value in (other.report or {}).items():
            report[name] = [*report.get(name, ()), *value] if isinstance(value, list) else value
        return replace(self, fetches=(*self.fetches, *other.fetches), report=report or None)

    def checked(self, parts: Sequence[Partials]) -> Sequence[Partials]:
        """Return the answers to the fetches of those to all reads. Raises SearchRefused where a doubt is right."""
        at = len(self.fetches)
        for doubt in self.doubts:
            doubt.check(parts[at : at + len(doubt.reads)])
            at += len(doubt.reads)
        return parts[: len(self.fetches)]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A job that may answer."""

    rolled: Rolled
    reader: Reader
    where: Predicate
    """The query's condition on rows, by the fields that the job has."""
    refusal: SearchRefused | None
    """Why the job cannot answer, as far as its groups say."""

    @classmethod
    def of(cls, rolled: Rolled, request: SearchRequest, everything: Reader) -> "_Candidate":
        reader = replace(everything, fields=rolled.tier.kinds, kinds={**everything.kinds, **rolled.tier.kinds})
        try:
            return cls(rolled, reader, reader.predicate(request.query), None)
        except FieldNotKept as e:
            refusal = rolled.not_kept(e)
        try:
            return cls(rolled, reader, everything.predicate(request.query), refusal)
        except FieldNotKept:
            raise refusal from None

    @property
    def read(self) -> tuple[int, int] | None:
        """The stretch of the job's buckets that the request's own range meets; None: it meets none."""
        met = _met([(self.rolled.tier.begin_ms, self.rolled.tier.end_ms)], *_asked(self.rolled, self.where))
        return met[0] if met else None

    def why_not(self, request: SearchRequest, begin: int, end: int) -> SearchRefused | None:
        """Return why buckets that begin in [begin, end) cannot answer; None: they can."""
        if self.refusal is not None:
            return self.refusal
        try:
            self.rolled.predicate(self.where)
            self.rolled.check(request.aggregations, self.reader.shapes(request.aggregations), begin, end)
        except (FieldNotKept, FieldNotKnown) as e:
            return self.rolled.not_had(e)
        except SearchRefused as e:
            return e
        return None

    def reads_like(self, other: "_Candidate", request: SearchRequest) -> bool:
        """Whether the request means the same for both jobs: what they call by one name holds values of one kind."""
        if self.rolled.date != other.rolled.date or self.where != other.where:
            return False
        return self.reader.shapes(request.aggregations) == other.reader.shapes(request.aggregations)


def plan(request: SearchRequest, tiers: Sequence[Tier], live: Live | None, now_ms: int) -> SearchPlan:
    """Split a search. The tiers are of jobs of one source. Raises SearchRefused where no exact answer can be given."""
    kinds: dict[str, FieldKind] = dict(live.kinds) if live is not None else {}
    for tier in tiers:
        kinds |= tier.kinds
    everything = Reader(kinds, kinds, now_ms)
    if live is not None:
        tiers = [_credible(t, now_ms) for t in tiers]
    ordered = sorted((Rolled.of(t, request.door) for t in tiers), key=_fineness)
    # If all of them refuse, the finest job says why: it keeps the most.
    candidates = [_Candidate.of(r, request, everything) for r in reversed(ordered)][::-1]
    if request.door == "rollup_search" and candidates:
        _some_job_can(request, candidates)
    relevant = [c for c in candidates if c.read is not None]
    if not relevant:
        try:
            return _plan(request, [], live, everything, everything.predicate(request.query))
        except (FieldNotKept, FieldNotKnown) as e:
            if not candidates:
                raise
            raise candidates[-1].rolled.not_had(e) from None
    asked = request.aggregations
    able, refusals = _able(request, relevant)
    if not able and request.door == "search":
        for wider in widened(request, refusals):
            able, still = _able(wider, relevant)
            if able:
                request, refusals = wider, still
                break
    if not able:
        raise refusals[-1][1]
    first = able[0]
    chosen: list[Rolled] = []
    for c in able:
        if c is first or c.reads_like(first, request):
            chosen.append(c.rolled)
        else:
            refusals = [*refusals, (c.rolled, c.rolled.unlike(first.rolled))]
    if live is None:
        _check_whole(chosen, relevant, refusals)
    found = _plan(request, chosen, live, first.reader, first.where, refusals)
    doubts: list[Doubt] = list(_unsure_values(live, chosen, first.where, request.aggregations))
    if live is not None:
        doubts += _doubts(live, chosen, relevant, refusals)
    found = replace(found, doubts=tuple(doubts))
    if found.report is not None and (texts := list(dict.fromkeys(changed_intervals(request.aggregations, asked)))):
        found = replace(found, report={"interval": texts[0] if len(texts) == 1 else texts, **found.report})
    return found


def _credible(tier: Tier, now_ms: int) -> Tier:
    """Return what is rolled up of buckets that are over by now.

    The clock of a run was ahead that says more: the last bucket was not over when it was read, and rows come after it.
    """
    if tier.end_ms <= now_ms:
        return tier
    end = Bounds.of(tier.spec.groups.date_histogram).round_down(now_ms)
    end = end if tier.last_ms is None else min(end, tier.last_ms)
    return replace(tier, end_ms=max(tier.begin_ms, end))


def _some_job_can(request: SearchRequest, candidates: Iterable[_Candidate]) -> None:
    """Refuse what no job could answer if all of the time were rolled up, as Elasticsearch does."""
    refusals = []
    for c in candidates:
        begin, end = c.read or (c.rolled.tier.begin_ms, c.rolled.tier.end_ms)
        if (refusal := c.why_not(request, begin, end)) is None:
            return
        refusals.append(refusal)
    raise refusals[0]


def _able(request: SearchRequest, candidates: Iterable[_Candidate]) -> tuple[list[_Candidate], Refusals]:
    """Return which jobs can answer exactly, and why the others cannot."""
    able: list[_Candidate] = []
    refusals: list[tuple[Rolled, SearchRefused]] = []
    for c in candidates:
        assert c.read is not None
        if (refusal := c.why_not(request, *c.read)) is None:
            able.append(c)
        else:
            refusals.append((c.rolled, refusal))
    return able, refusals


def _check_whole(chosen: Iterable[Rolled], relevant: Iterable[_Candidate], refusals: Refusals) -> None:
    """Refuse an answer that would leave out what only jobs have that cannot answer: there are no rows to ask."""
    free: list[Stretch] = [(None, None)]
    for rolled in chosen:
        _, free = _take(free, rolled)
    why = {id(rolled): e for rolled, e in refusals}
    for c in relevant:
        if (refusal := why.get(id(c.rolled))) is not None and c.read is not None:
            begin, end = c.read
            if any((b is None or begin < b) and (a is None or a < end) for a, b in free):
                raise refusal


def _doubts(
    live: Live, chosen: Iterable[Rolled], relevant: Iterable[_Candidate], refusals: Refusals
) -> Iterator[UncertainTime]:
    """Yield the time that only jobs have that cannot answer. Rows are deleted once they are rolled up."""
    free: list[Stretch] = [(None, None)]
    for rolled in chosen:
        _, free = _take(free, rolled)
    why = {id(rolled): e for rolled, e in refusals}
    for c in relevant:
        if (refusal := why.get(id(c.rolled))) is None:
            continue
        owned, free = _take(free, c.rolled)
        read = _met(owned, *_asked(c.rolled, c.where))
        if not read:
            continue
        rolled = c.rolled
        yield UncertainTime(
            Fetch(rolled.documents, whole_buckets(rolled, rolled.time, read), rolled.count),
            Fetch(live.rows, whole_buckets(rolled, rolled.date, read), None, (Number("count", rolled.date),)),
            SearchRefused(
                f"{refusal.reason} It alone has rolled up all of [{iso(read[0][0])}] to [{iso(read[-1][1])}], and some "
                f"of the rows of that time are gone from [{live.rows.index_pattern}]",
                refusal.kind,
            ),
        )


def _unsure_values(
    live: Live | None, chosen: Iterable[Rolled], where: Predicate, aggregations: Iterable[Aggregation]
) -> Iterator[UncertainValues]:
    """Yield, for each job, the fields of metrics whose documents may not say how many rows have no value."""
    wanted = dict.fromkeys(with_missing(aggregations))
    free: list[Stretch] = [(None, None)]
    for rolled in chosen:
        owned, free = _take(free, rolled)
        if not (read := _met(owned, *_asked(rolled, where))):
            continue
        levels: list[Level] = []
        numbers, names = [Number("count", rolled.date)], list[str]()
        for name in wanted:
            (values,) = rolled.numbers((Number("count", name),))
            if values.field == rolled.count:
                continue  # each row of a document has a time
            levels.append(Level(f"several{len(levels)}", ByPredicate((Between(values.field, 2, None),))))
            numbers += [Number("count", name), Number("rows", name)]
            names.append(name)
        if levels:
            documents, rows = whole_buckets(rolled, rolled.time, read), whole_buckets(rolled, rolled.date, read)
            yield UncertainValues(
                Fetch(rolled.documents, documents, rolled.count, (), tuple(levels)),
                None if live is None else Fetch(live.rows, rows, None, tuple(numbers)),
                rolled,
                tuple(names),
                read[0][0],
                read[-1][1],
            )


def _plan(
    request: SearchRequest,
    chosen: Sequence[Rolled],
    live: Live | None,
    reader: Reader,
    where: Predicate,
    refusals: Refusals = (),
) -> SearchPlan:
    shapes, numbers = reader.shapes(request.aggregations), reader.numbers(request.aggregations)
    fetches: list[Fetch] = []
    jobs: list[dict[str, Any]] = []
    rounded: set[int] = set()
    free: list[Stretch] = [(None, None)]
    for rolled in chosen:
        owned, free = _take(free, rolled)
        read = _met(owned, *_asked(rolled, where))
        if not read:
            continue
        begin, end = read[0][0], read[-1][1]
        times = tuple(Between(rolled.time, Instant(a), Instant(b)) for a, b in read)
        fresh = replace(rolled, rounded=set())
        fetches.append(
            Fetch(
                rolled.documents,
                flat([fresh.predicate(where), times[0] if len(times) == 1 else AtLeast(1, times)]),
                rolled.count,
                fresh.numbers(numbers),
                fresh.levels(shapes, begin, end),
            )
        )
        rounded |= {t for t in fresh.rounded if any(a < t < b for a, b in owned)}
        jobs += [
            {"rollup_index": rolled.tier.key[0], "job_id": rolled.tier.key[1], "from": iso(a), "to": iso(b)}
            for a, b in read
        ]
    if live is not None:
        date = chosen[0].date if chosen else _date_field(live, request)
        fetch = _live(live, date, free if chosen else None, where, shapes, numbers)
        fetches += [fetch] if fetch is not None else []
    for fetch in fetches:
        _must_be_short(fetch)
    report = _report(request, jobs, rounded, chosen, refusals) if jobs else None
    return SearchPlan(request, tuple(fetches), shapes, numbers, reader.kinds, report)


def _must_be_short(fetch: Fetch) -> None:
    """Refuse buckets of time within each other where clocks are changed too often in all of the time asked for."""

    def stretches(levels: tuple[Level, ...]) -> int:
        return sum(
            (len(level.by.segments) if isinstance(level.by, ByTime) else 1) * (1 + stretches(level.levels))
            for level in levels
        )

    if (count := stretches(fetch.levels)) > MOST_STRETCHES:
        raise SearchRefused(
            f"The buckets of time lie in [{count}] stretches between changes of clocks, more than the limit of "
            f"[{MOST_STRETCHES}]: ask for a shorter time by a range in the query, or for a zone without such changes"
        )


def _live(
    live: Live,
    date: str,
    free: Sequence[Stretch] | None,
    where: Predicate,
    shapes: Sequence[Shape],
    numbers: tuple[Number, ...],
) -> Fetch | None:
    """Return what is read of the rows; None: nothing, since the request's own range excludes all that is left."""
    low, high = time_range(where, date)
    begin = EARLIEST if low is None else max(EARLIEST, min(LATEST - 1, low))
    end = LATEST if high is None else min(LATEST, high)
    if free is not None:
        cuts: list[Predicate] = []
        begin_left, end_left = end, begin
        for a, b in free:
            if (high is not None and a is not None and a >= high) or (low is not None and b is not None and b <= low):
                continue
            cuts.append(Between(date, None if a is None else Instant(a), None if b is None else Instant(b)))
            begin_left = min(begin_left, begin if a is None else max(a, begin))
            end_left = max(end_left, end if b is None else min(b, end))
        if low is None and high is None:
            cuts.append(Not(Exists(date)))
        if not cuts:
            return None
        where = flat([where, cuts[0] if len(cuts) == 1 else AtLeast(1, tuple(cuts))])
        begin, end = begin_left, end_left
    return Fetch(live.rows, where, None, numbers, _levels(shapes, date, begin, max(begin + 1, end)))


def _levels(shapes: Sequence[Shape], date: str, begin: int, end: int) -> tuple[Level, ...]:
    """Return what to read of rows of [begin, end) by that field of time."""

    def grouping(shape: Shape) -> Grouping:
        if not isinstance(shape.by, ByTime) or shape.grid is None:
            return shape.by
        stretch = (begin, end) if shape.by.field == date else (EARLIEST, LATEST)
        return replace(shape.by, segments=shape.grid.segments(*stretch))

    return tuple(Level(s.aggregation.name, grouping(s), s.numbers, _levels(s.subs, date, begin, end)) for s in shapes)


def _asked(rolled: Rolled, where: Predicate) -> Stretch:
    """Return in which range of time buckets that are asked for begin."""
    low, high = time_range(where, rolled.date)
    return None if low is None else floor(rolled.bounds, low), high


def _met(owned: Iterable[tuple[int, int]], low: int | None, high: int | None) -> list[tuple[int, int]]:
    met = ((a if low is None else max(a, low), b if high is None else min(b, high)) for a, b in owned)
    return [(a, b) for a, b in met if a < b]


def _take(free: Iterable[Stretch], rolled: Rolled) -> tuple[list[tuple[int, int]], list[Stretch]]:
    """Return the stretches of whole buckets that a job takes of those that nobody has, and what is left."""
    taken: list[tuple[int, int]] = []
    left: list[Stretch] = []
    begin, end = rolled.tier.begin_ms, rolled.tier.end_ms
    for a, b in free:
        low = begin if a is None else max(a, begin)
        high = end if b is None else min(b, end)
        low = rolled.bounds.next_edge(low - 1)
        high = rolled.bounds.round_down(high)
        if low >= high:
            left.append((a, b))
            continue
        taken.append((low, high))
        if a is None or a < low:
            left.append((a, low))
        if b is None or high < b:
            left.append((high, b))
    return taken, left


def _report(
    request: SearchRequest,
    jobs: list[dict[str, Any]],
    rounded: Iterable[int],
    chosen: Sequence[Rolled],
    refusals: Refusals,
) -> dict[str, Any]:
    report: dict[str, Any] = {"jobs": jobs}
    if times := sorted(rounded):
        report["rounded"] = [
            {"field": chosen[0].date, "time": iso(t), "begins": iso(chosen[0].bounds.round_down(t))} for t in times
        ]
    if refusals:
        report["not_used"] = [
            {"rollup_index": r.tier.key[0], "job_id": r.tier.key[1], "reason": e.reason} for r, e in refusals
        ]
    return report


def _fineness(rolled: Rolled) -> tuple[int, int, int, str, str]:
    """Sort the coarsest first: longer buckets, wider or no histograms, fewer terms."""
    groups = rolled.tier.spec.groups
    return (
        -length(rolled.bounds),
        -groups.histogram.interval if groups.histogram is not None else -(2**62),
        len(groups.terms.fields) if groups.terms is not None else 0,
        *rolled.tier.key,
    )


def _date_field(live: Live, request: SearchRequest) -> str:
    """Return the field of time where no job says: the first that buckets of time are asked of, or the job's own."""
    rest = list(request.aggregations)
    while rest:
        a = rest.pop(0)
        if isinstance(a.kind, DateHistogramAggregation):
            return a.kind.field
        rest.extend(a.subs)
    return live.rows.spec.groups.date_histogram.field
