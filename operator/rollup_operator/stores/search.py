"""What a store is asked to read for a search, and what it answers: numbers of each bucket that can be added up. Pure.

A search over rolled and live data is a few fetches. Each reads one relation, the documents of one job or the rows of
one source, over time that no other fetch of the search reads. So their answers are added, never chosen from:

    search ── fetch: documents of a job, time < watermark ──┐
           └─ fetch: rows of its source, time ≥ watermark ──┴─ add counts and sums, compare least and greatest

A fetch names the columns of its relation: whoever plans it has translated the names of the request.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.bounds import Segment
from rollup_operator.rollup.identity import Owner

MAX_BUCKETS = 65_535
"""Of an answer, as in Elasticsearch."""
MOST_KEY_BYTES = 24 * 2**20
"""Memory of the keys that are texts in an answer of an embedded store; an answer of a cluster is no longer either."""
SEARCH_SECONDS = 30.0
"""How long a store may take for a search."""

FieldKind = Literal["keyword", "long", "double", "date"]


@dataclass(frozen=True, slots=True)
class Instant:
    """A time, to be compared with a column of times."""

    ms: int
    """Epoch milliseconds."""


Value = str | int | float | bool | Instant


@dataclass(frozen=True, slots=True)
class Exists:
    """The column has a value."""

    field: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """The column has one of the values."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """The column has a value in a range; None: without end on that side."""

    field: str
    low: Value | None = None
    high: Value | None = None
    includes_low: bool = True
    includes_high: bool = False


@dataclass(frozen=True, slots=True)
class Prefix:
    """The column has a text that begins so."""

    field: str
    text: str
    ignores_case: bool = False


@dataclass(frozen=True, slots=True)
class Wildcard:
    """The column has a text that matches: `*` any characters, `?` one, a backslash before a character means that."""

    field: str
    pattern: str
    ignores_case: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    """The row does not meet the condition, for instance since it has no value."""

    of: "Predicate"


@dataclass(frozen=True, slots=True)
class All:
    """The row meets every condition."""

    of: tuple["Predicate", ...]


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The row meets so many of the conditions."""

    count: int
    of: tuple["Predicate", ...]


Predicate = Exists | OneOf | Between | Prefix | Wildcard | Not | All | AtLeast

EVERYTHING = All(())
NOTHING = AtLeast(1, ())


@dataclass(frozen=True, slots=True)
class ByTime:
    """A bucket for each stretch of time that the segments make. The key is where it begins, in epoch milliseconds."""

    field: str
    segments: tuple[Segment, ...]
    """In order, without gaps; rows outside have no bucket."""
    missing: int | None = None
    """The key of the bucket of rows without a time; None: they have none."""


@dataclass(frozen=True, slots=True)
class ByTerms:
    """A bucket for each value."""

    field: str
    kind: FieldKind
    limit: int
    """How many buckets to return at most, those of most source documents first."""
    missing: Value | None = None
    """The key of rows without a value; None: they have no bucket."""


@dataclass(frozen=True, slots=True)
class ByWidth:
    """A bucket for each multiple of the interval, counted from the offset. The key is where it begins."""

    field: str
    interval: float
    offset: float = 0.0
    missing: float | None = None
    """The value of rows without one; None: they have no bucket."""


@dataclass(frozen=True, slots=True)
class ByPredicate:
    """A bucket for each condition; a row is in all whose condition it meets. The key is the condition's place."""

    of: tuple[Predicate, ...]


Grouping = ByTime | ByTerms | ByWidth | ByPredicate


@dataclass(frozen=True, slots=True)
class Number:
    """A number of all rows of a bucket."""

    function: Literal["sum", "count", "rows", "min", "max"]
    """`count`: how many values the column has. `rows`: how many rows have any."""
    field: str

    @property
    def is_added_up(self) -> bool:
        """Whether that of several buckets is their sum, and that of no row is 0."""
        return self.function in ("sum", "count", "rows")


@dataclass(frozen=True, slots=True)
class Level:
    """Buckets within the buckets above."""

    name: str
    """Unlike the names beside it."""
    by: Grouping
    numbers: tuple[Number, ...] = ()
    levels: tuple["Level", ...] = ()


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a job in its rollup index."""

    rollup_index: str
    job_id: str
    place: str = ""
    """`Tier.place`, as it was found."""
    end_ms: int = 0
    """`Tier.end_ms`, as it was found: if less is rolled up when they are read, some were deleted meanwhile."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a source."""

    index_pattern: str
    """Names of indices or files with commas between them, as in a job; some of them where the search names some."""
    spec: RollupJobSpec
    """The job whose source it is: how its CSV files are read, which columns hold times."""
    job_id: str = ""
    """That job's id, so that keys are spelled as those of its documents."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """One relation's part of a search."""

    relation: Documents | Rows
    where: Predicate
    count: str | None
    """The column whose sum is the number of source documents; None: each row is one."""
    numbers: tuple[Number, ...] = ()
    """Of all rows together."""
    levels: tuple[Level, ...] = ()


Key = str | int | float | bool
Keys = tuple[Key, ...]
"""A key for each level from the top down to the bucket's own."""
Path = tuple[str, ...]
"""The name of each level from the top down to the bucket's own."""


@dataclass(slots=True)
class Row:
    """What one bucket holds."""

    count: int
    """Source documents."""
    numbers: tuple[float | int | None, ...] = ()
    """In the level's order; None: there is no value to take it of. A count or a sum of none is 0."""


@dataclass(slots=True)
class LevelBuckets:
    """The buckets of one level that hold any document, under all buckets above together."""

    rows: dict[Keys, Row] = field(default_factory=dict)
    left_out: dict[Keys, int] = field(default_factory=dict)
    """By the keys above: how many documents are in buckets beyond a level's limit. Empty: no bucket is left out."""
    key_bytes: int = field(default=0, compare=False)
    """Memory of the buckets' own keys, as far as they are texts: each may have tens of thousands of letters."""


Partials = Mapping[Path, LevelBuckets]
"""The answer to a fetch. The path () has one row, of the keys (): all documents that meet the condition."""


def time_range(where: Predicate, field: str) -> tuple[int | None, int | None]:
    """Return the times [low, high) outside which no row meets the condition, by what its outermost parts say.

    None: without end. Of a row of several times that is so for some of them.
    """
    lows: list[int] = []
    highs: list[int] = []
    rest = [where]
    while rest:
        match rest.pop():
            case All(of):
                rest += of
            case AtLeast(count, of) if count == len(of):
                rest += of
            case Between(field=name, low=low, high=high, includes_low=includes_low, includes_high=includes_high) if (
                name == field
            ):
                if isinstance(low, Instant):
                    lows.append(low.ms + (not includes_low))
                if isinstance(high, Instant):
                    highs.append(high.ms + includes_high)
    return max(lows, default=None), min(highs, default=None)


def segments_of(where: Predicate, by: ByTime) -> tuple[list[Segment], bool]:
    """Return the segments in which a row that meets the condition may be, and whether it must be in one of them."""
    low, high = time_range(where, by.field)
    met = [s for s in by.segments if (low is None or s.end > low) and (high is None or s.start < high)]
    whole = bool(met) and low is not None and high is not None and met[0].start <= low and high <= met[-1].end
    return met, whole


def nothing(fetch: Fetch) -> Partials:
    """Return the answer to a fetch of which nothing is found."""
    found: dict[Path, LevelBuckets] = {(): LevelBuckets({(): Row(0, none_of(fetch.numbers))})}

    def add(above: Path, levels: tuple[Level, ...]) -> None:
        for level in levels:
            found[*above, level.name] = LevelBuckets()
            add((*above, level.name), level.levels)

    add((), fetch.levels)
    return found


def none_of(numbers: tuple[Number, ...]) -> tuple[float | int | None, ...]:
    """Return these numbers of no row at all."""
    return tuple(0 if number.is_added_up else None for number in numbers)


@dataclass(frozen=True, slots=True)
class Tier:
    """What can be read of a job's documents now."""

    key: tuple[str, str]
    """(rollup index, job id)."""
    spec: RollupJobSpec
    begin_ms: int
    """Where the first document's bucket begins, in epoch milliseconds: what is before it was never rolled up."""
    end_ms: int
    """Everything from `begin_ms` up to this edge is rolled up and can be searched; `begin_ms`: nothing is."""
    kinds: Mapping[str, FieldKind]
    """What the fields of spec.groups hold, by the source's name."""
    owner: Owner | None = None
    """Whose documents they are; None: Elasticsearch made them, and they are complete up to the end of the last bucket.

    Other namespaces, and other clusters, may use the same store: who may search a job may read its own documents alone.
    """
    lost: bool = False
    """The record that would say whose documents they are is gone: nobody may read them."""
    place: str = ""
    """What the documents are in, which is another one if they are made anew. Empty: they stay, whatever comes."""
    last_ms: int | None = None
    """Where the last bucket begins that is written."""


def to_json(value: Value) -> Any:
    """Return a value as a request to a cluster has it: times in epoch milliseconds."""
    return value.ms if isinstance(value, Instant) else value
