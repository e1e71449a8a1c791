"""What has to be asked beside a search, since an answer might be wrong or short without it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rollup_operator.query.aggregations import Aggregation, MetricAggregation
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.rolled import Rolled
from rollup_operator.stores.search import AtLeast, Between, Fetch, Instant, Partials, Predicate, Row


@dataclass(frozen=True, slots=True)
class UncertainTime:
    """Time that is read of the rows, since a job that has rolled it up cannot answer: some may be gone."""

    documents: Fetch
    """How many rows the job has rolled up."""
    rows: Fetch
    """How many there are now."""
    refusal: SearchRefused
    """Why the job cannot answer, for when there are fewer."""

    @property
    def reads(self) -> tuple[Fetch, ...]:
        """What settles it."""
        return self.documents, self.rows

    def check(self, parts: Sequence[Partials]) -> None:
        """Raise SearchRefused if rows are gone."""
        documents, rows = map(_row, parts)
        # A row of several times counts under each.
        if documents.count > (rows.numbers[0] or 0):
            raise self.refusal


@dataclass(frozen=True, slots=True)
class UncertainValues:
    """Fields whose rows without a value are wanted of documents, which count values. All are asked about at once.

    |           | values of the documents | rows with a value           |
    | --------- | ----------------------- | --------------------------- |
    | none, one | as many                 | exact in each document      |
    | more      | as many, or more        | exact if no row has several |

    So the rows are asked whether one has several, and whether they are still there.
    """

    documents: Fetch
    """How many rows the job has rolled up, and how many of them into documents of two values and more, in a level for
    each field."""
    rows: Fetch | None
    """How many there are now and, for each field, how many values they have, and how many have one; None: they are not
    searched."""
    rolled: Rolled
    """Whose documents they are."""
    fields: tuple[str, ...]
    begin: int
    end: int
    """Of the buckets that are asked for."""

    @property
    def reads(self) -> tuple[Fetch, ...]:
        """What settles it."""
        return (self.documents,) if self.rows is None else (self.documents, self.rows)

    def check(self, parts: Sequence[Partials]) -> None:
        """Raise SearchRefused if a row may have several values."""
        for i, (level, name) in enumerate(zip(self.documents.levels, self.fields, strict=True)):
            if parts[0][(level.name,)].rows and (why := self._why_unsure(i, parts)) is not None:
                raise self.rolled.unsure_of(name, self.begin, self.end, why)

    def _why_unsure(self, i: int, parts: Sequence[Partials]) -> str | None:
        """Return what is true of the rows, if they do not settle it."""
        if self.rows is None:
            return "none is searched: search the source as well"
        times, *numbers = _row(parts[1]).numbers
        if _row(parts[0]).count > (times or 0):
            return "some are gone"
        return None if numbers[2 * i] == numbers[2 * i + 1] else "some have several values"


Doubt = UncertainTime | UncertainValues


def with_missing(aggregations: Iterable[Aggregation]) -> Iterator[str]:
    """Yield the fields of metrics that count rows without a value."""
    for a in aggregations:
        if isinstance(a.kind, MetricAggregation) and a.kind.missing is not None:
            yield a.kind.field
        yield from with_missing(a.subs)


def whole_buckets(rolled: Rolled, field: str, of: Iterable[tuple[int, int]]) -> Predicate:
    """Return the condition that a time is in a bucket that begins in one of these stretches."""
    times = ((Instant(a), Instant(rolled.bounds.next_edge(b - 1))) for a, b in of)
    return AtLeast(1, tuple(Between(field, a, b) for a, b in times))


def _row(parts: Partials) -> Row:
    return parts[()].rows.get((), Row(0, (0,)))
