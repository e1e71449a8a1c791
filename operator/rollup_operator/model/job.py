"""RollupJob's spec: Elasticsearch's job configuration in camelCase, and what a Kubernetes resource adds to it."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from rollup_operator.model.base import (
    CONTROL,
    LONGEST_CRON,
    PLAIN,
    Part,
    fixed,
    in_words,
    matching,
    stays,
    when_changed,
)
from rollup_operator.model.glob import MOST_STARS
from rollup_operator.model.names import EVERY, ObjectName

FieldName = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=PLAIN)]
Interval = Annotated[str, StringConstraints(max_length=32)]
Instant = Annotated[str, StringConstraints(min_length=20, max_length=40)]
MetricName = Literal["min", "max", "sum", "avg", "value_count"]


_UNITS = "a whole number above 0 and a unit, without a blank between them"
_LONGER_THAN_0 = matching("^[1-9][0-9]*(ms|s|m|h|d)$")
_FIXED_INTERVAL = (
    _LONGER_THAN_0,
    f"fixedInterval is {_UNITS}, as in 90m: ms, s, m, h or d. For weeks, months, quarters and years set "
    "calendarInterval",
)
_LOOKBACK = (_LONGER_THAN_0, f"lookback is {_UNITS}, as in 6h: ms, s, m, h or d")
_COMPARED = (_LONGER_THAN_0, f"lookback is {_UNITS}, as in 30d: ms, s, m, h or d")
_REFRESH_INTERVAL = (
    f"self == '-1' || {_LONGER_THAN_0}",
    f"refreshInterval is {_UNITS}, as in 30s: ms, s, m, h or d; or -1",
)
_DELAY = (
    matching("^(0|[0-9]+(nanos|micros|ms|s|m|h|d))$"),
    "delay is a whole number and a unit, without a blank between them, as in 90m: nanos, micros, ms, s, m, h or d",
)
_TIME_ZONE = (
    matching(
        "^([A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*"
        "|(UTC|GMT|UT)?[+-][0-9]{1,2}(:[0-9]{2}){0,2}|[+-][0-9]{4}([0-9]{2})?)$"
    ),
    "timeZone is an IANA name such as Europe/Berlin, or an offset such as +05:30",
)

_SIX_OR_SEVEN = matching(r"^\s*(\S+\s+){5,6}\S+\s*$")


def _numbers(number: str) -> str:
    """Return the pattern of a cron field that has these numbers; a step can be any."""
    part = rf"(\*|{number}(-{number})?)?(/[0-9]+)?"
    return f"{part}(,{part})*"


_TO_59, _TO_23 = _numbers("0{0,2}[0-5]?[0-9]"), _numbers("0{0,2}([01]?[0-9]|2[0-3])")
_CLOCK = matching(rf"^\s*{_TO_59}\s+{_TO_59}\s+{_TO_23}\s")
_CRON = (
    (
        _SIX_OR_SEVEN,
        "cron has 6 or 7 fields, seconds first, and ? in one of the two day fields: '0 */5 * * * ?' is every five "
        "minutes, '0 30 2 * * ?' is 02:30 each day",
    ),
    (
        f"!{_SIX_OR_SEVEN} || {_CLOCK}",
        "the first three fields of cron are seconds, 0 to 59, minutes, 0 to 59, and hours, 0 to 23, as in "
        "'0 30 2 * * ?' for 02:30 each day",
    ),
    (f"!self.matches('[{CONTROL}]')", "cron holds a control character, such as a line break: remove it"),
)


class DesiredState(StrEnum):
    """What can be asked of a job. Lower case, as Elasticsearch writes its states."""

    STARTED = "started"
    STOPPED = "stopped"


class DeletionPolicy(StrEnum):
    """What becomes of the rolled-up documents when the job is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class StoreRef(Part):
    """Names the RollupStore, in the job's own namespace, that holds source and result."""

    name: ObjectName = Field(
        default="default",
        description="Name of a RollupStore in the same namespace.",
        json_schema_extra=fixed("storeRef"),
    )


class DateHistogramGroup(Part):
    """The time dimension: which field, and buckets of which length in which zone."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "has(self.fixedInterval) != has(self.calendarInterval)",
                    "message": "exactly one of fixedInterval and calendarInterval must be set",
                },
            ]
        }
    )

    field: FieldName = Field(description="Name of the date field of the source.")
    fixed_interval: Interval | None = Field(
        default=None,
        description="Length of a bucket as a multiple of a unit that always lasts the same: 30s, 90m, 1h, 7d.",
        json_schema_extra=in_words(_FIXED_INTERVAL),
    )
    calendar_interval: (
        Literal[
            "1m",
            "1h",
            "1d",
            "1w",
            "1M",
            "1q",
            "1y",
            "minute",
            "hour",
            "day",
            "week",
            "month",
            "quarter",
            "year",
        ]
        | None
    ) = Field(
        default=None,
        description="Length of a bucket as one unit of the calendar in timeZone: 1m, 1h, 1d, 1w, 1M, 1q, 1y (or "
        "minute, hour, day, week, month, quarter, year).",
    )
    delay: Interval | None = Field(
        default=None,
        description="How long to wait for late documents before a bucket is rolled up, for instance 1h. Default: 0.",
        json_schema_extra=in_words(_DELAY),
    )
    time_zone: Annotated[str, StringConstraints(max_length=64, pattern=PLAIN)] = Field(
        default="UTC",
        description="Time zone of the buckets: an IANA name such as Europe/Berlin, or an offset such as +05:30.",
        json_schema_extra=in_words(_TIME_ZONE),
    )


class HistogramGroup(Part):
    """Numeric dimensions, all with one bucket width."""

    fields: Annotated[list[FieldName], Field(min_length=1, max_length=64)] = Field(
        description="Names of numeric fields of the source.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    interval: Annotated[int, Field(ge=1, le=2**53)] = Field(description="Width of a bucket, a positive whole number.")


class TermsGroup(Part):
    """Dimensions whose every value is a bucket of its own."""

    fields: Annotated[list[FieldName], Field(min_length=1, max_length=64)] = Field(
        description="Names of keyword or numeric fields of the source.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class Groups(Part):
    """The dimensions of the result: one row for each combination of their buckets."""

    date_histogram: DateHistogramGroup = Field(description="The time dimension.")
    histogram: HistogramGroup | None = Field(default=None, description="Numeric dimensions.")
    terms: TermsGroup | None = Field(default=None, description="Dimensions by value.")


class RollupIndexSettings(Part):
    """How a cluster keeps the rollup index."""

    number_of_shards: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None, description="Primary shards. Default: the cluster's."
    )
    number_of_replicas: Annotated[int, Field(ge=0, le=16)] | None = Field(
        default=None, description="Copies of each shard. Default: the cluster's."
    )
    codec: Literal["default", "best_compression"] | None = Field(
        default=None, description="How stored documents are compressed. Default: the cluster's."
    )
    refresh_interval: Interval | None = Field(
        default=None,
        description="How soon new documents can be searched, for instance 1s; -1: only on an explicit refresh. "
        "Default: 30s. Each run refreshes the index at its end, whatever is set here.",
        json_schema_extra=in_words(_REFRESH_INTERVAL),
    )
    sort_by_time: bool = Field(
        default=False,
        description="Keep the documents sorted by their bucket's time (index.sort), which makes searches by time "
        "quicker and writing somewhat slower.",
    )


class Metric(Part):
    """One source field and what to keep of it in every bucket."""

    field: FieldName = Field(description="Name of a numeric or date field of the source.")
    metrics: Annotated[list[MetricName], Field(min_length=1, max_length=5)] = Field(
        description="Which of min, max, sum, avg and value_count to keep.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class VerifyMode(StrEnum):
    """How closely a verification compares."""

    AUTO = "Auto"
    COUNTS = "Counts"
    FULL = "Full"


class Verify(Part):
    """When and how the operator compares what is rolled up with the source."""

    cron: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_CRON, pattern=PLAIN)] = Field(
        description="When to verify, in UTC: a cron expression as in spec.cron, for instance '0 30 3 * * ?'. A tick "
        "that falls into a verification is dropped; one that is missed is made up for.",
        json_schema_extra=in_words(*_CRON),
    )
    lookback: Interval | None = Field(
        default=None,
        description="How far back to compare, for instance 30d: the buckets of this time before the end of what is "
        "rolled up. Default: all that is rolled up.",
        json_schema_extra=in_words(_COMPARED),
    )
    mode: VerifyMode = Field(
        default=VerifyMode.AUTO,
        description="Full compares all days bucket by bucket, Counts only those whose numbers of rows differ. Auto is "
        "Full for at most 10,000,000 rows of the source, else Counts.",
    )


class CsvColumn(Part):
    """What a column of CSV files holds."""

    name: FieldName = Field(description="Name of the column, as in the files' header.")
    type: Literal[
        "VARCHAR",
        "BOOLEAN",
        "BIGINT",
        "HUGEINT",
        "DOUBLE",
        "DATE",
        "TIMESTAMP",
        "TIMESTAMP_NS",
        "TIMESTAMPTZ",
    ] = Field(description="DuckDB type of the column. VARCHAR keeps every text as it is written, such as 1.10 or 1e5.")


class CsvReading(Part):
    """How CSV files are written, where that cannot be detected from their beginning."""

    columns: Annotated[list[CsvColumn], Field(max_length=256)] = Field(
        default=[],
        description="Types of columns. Types of other columns are detected, except that columns of groups.terms are "
        "read as texts.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=4, pattern=PLAIN)] | None = Field(
        default=None, description="Separator between two values, for instance ';', or tab."
    )
    header: bool | None = Field(default=None, description="Whether the first line holds the column names.")
    null_text: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PLAIN)] | None = Field(
        default=None, description="A text that, like the empty one, stands for a missing value, for instance n/a."
    )
    time_format: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PLAIN)] | None = Field(
        default=None,
        description="How dates and times are written, in the directives of strptime, for instance %d/%m/%Y or "
        "%m/%d/%Y %I:%M %p. Needed where day and month cannot be told apart.",
    )


CSV_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
"""What names of CSV files end in, in any case."""

_PART = rf"[^\\,\s{CONTROL}]"
_INDEX_PATTERN = (
    matching(f"^{_PART}+(,{_PART}+)*$"),
    "indexPattern holds a blank, a backslash, a control character or an empty part: write a list with commas alone, as "
    "in flights-*,trains-*",
)
_ROLLUP_INDEX = (
    ("!self.matches('[A-Z]')", "rollupIndex must be in lower case, as in flights-hourly"),
    (
        rf"!self.matches(r'[\\/*?\"<>|,#:\s{CONTROL}]')",
        "rollupIndex holds a character that an index name cannot have: a blank, a control character or one of "
        r'\ / * ? " < > | , # :',
    ),
    (
        "!self.matches('^[-_+.]')",
        "rollupIndex begins with one of - _ + . where an index name needs a letter or a digit",
    ),
)

_MATCHES_ALL = "self.indexPattern.split(',').exists(p, p == '_all' || p.matches('^[*]+$'))"

# Of a path only the first folder counts: the result is exported below a folder named as the rollup index.
_MATCHES_TARGET = (
    r"self.indexPattern.split(',').exists(p, self.rollupIndex.matches("
    r"r'^\Q' + p.split('/')[0].replace('*', r'\E.*\Q') + r'\E$'))"
)


_INDICES = ("indexPattern", "rollupIndex")


class RollupJobSpec(Part):
    """What a RollupJob asks for."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                stays("jobId"),
                {
                    "rule": "!has(self.start) || !has(self.end) || self.start < self.end",
                    "message": "end must be after start",
                    "fieldPath": ".end",
                },
                {
                    "rule": f"oldSelf.hasValue() || !has(self.jobId) || !(self.jobId in {sorted(EVERY)})",
                    "optionalOldSelf": True,
                    "message": "jobId means every job: choose another id",
                    "fieldPath": ".jobId",
                },
                when_changed(
                    _INDICES,
                    "self.indexPattern != self.rollupIndex",
                    "rollupIndex may not be the same as indexPattern",
                    "rollupIndex",
                ),
                when_changed(
                    _INDICES,
                    f"self.indexPattern.split(',').all(p, p.split('*').size() <= {MOST_STARS + 1})",
                    f"indexPattern has a pattern with too many stars: use at most {MOST_STARS} in one pattern",
                    "indexPattern",
                ),
                when_changed(
                    _INDICES,
                    f"!({_MATCHES_ALL})",
                    "indexPattern must not match everything: it would match the job's own rollupIndex",
                    "indexPattern",
                ),
                when_changed(
                    _INDICES,
                    f"self.indexPattern == self.rollupIndex || {_MATCHES_ALL} || !({_MATCHES_TARGET})",
                    "indexPattern would match the rollupIndex: choose a name that it does not cover",
                    "indexPattern",
                ),
            ]
        }
    )

    desired_state: DesiredState | None = Field(
        default=None,
        description="started or stopped. Absent: the state last requested is kept, and a new job is stopped, so a "
        "manifest in Git can leave the field to the HTTP API. It can be removed only once status.desiredState has "
        "recorded it. Lower case, as Elasticsearch writes its states.",
    )
    job_id: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=PLAIN)] | None = Field(
        default=None,
        description="Elasticsearch id of the job where the resource's name cannot carry it. Immutable. Default: the "
        "name.",
        json_schema_extra=fixed("jobId"),
    )
    store_ref: StoreRef = Field(
        default=StoreRef(),
        description="The store that holds source and result. Immutable. Default: the store named default.",
    )
    index_pattern: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=PLAIN)] = Field(
        description="What to roll up: an index or table, a pattern with *, or, in an embedded store, files below the "
        "namespace's data folder such as flights/*.parquet. Fixed once anything is rolled up.",
        json_schema_extra=in_words(_INDEX_PATTERN),
    )
    rollup_index: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=PLAIN)] = Field(
        description="Where the documents go: an index name in lower case. Immutable.",
        json_schema_extra=fixed("rollupIndex", *_ROLLUP_INDEX),
    )
    cron: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_CRON, pattern=PLAIN)] = Field(
        description="When to run, in UTC: a Quartz cron expression of six or seven fields, seconds first, for instance "
        "'0 */5 * * * ?'. A tick that is missed, or falls into a run, is dropped.",
        json_schema_extra=in_words(*_CRON),
    )
    page_size: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=5000,
        description="How many buckets to process at once. Embedded stores size their pages by time instead.",
    )
    drain_timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=30,
        description="A halt that takes longer than this reports state stopping, reason DrainTimeout. It is never given "
        "up.",
    )
    groups: Groups = Field(description="The dimensions of the result. Fixed once anything is rolled up, all but delay.")
    metrics: Annotated[list[Metric], Field(max_length=256)] = Field(
        default=[],
        description="The numbers to keep of each bucket. Fixed once anything is rolled up.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["field"],
        },
    )
    start: Instant | None = Field(
        default=None,
        description="Only buckets that begin at or after this instant are rolled up, as in 2024-01-01T00:00:00Z. "
        "Counts until the first bucket is written: a position is never moved back.",
        json_schema_extra={"format": "date-time"},
    )
    end: Instant | None = Field(
        default=None,
        description="Only buckets that begin before this instant are rolled up. Once all of them are, a run has "
        "nothing to do.",
        json_schema_extra={"format": "date-time"},
    )
    lookback: Interval | None = Field(
        default=None,
        description="How late rows may come, for instance 6h: each run reads the buckets of this time before the end "
        "of the last one again, and rewrites those that changed. Default: none, a bucket is read once.",
        json_schema_extra=in_words(_LOOKBACK),
    )
    parallelism: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1,
        description="How many stretches of time to read from the store in parallel. Embedded stores ignore it: they "
        "use all cores for each page.",
    )
    csv: CsvReading | None = Field(
        default=None,
        description="How to read CSV files, where that cannot be detected. For files of embedded stores only.",
    )
    rollup_index_settings: RollupIndexSettings | None = Field(
        default=None,
        description="Settings of the rollup index, used when the job creates it. Embedded stores ignore them. "
        "Fixed once anything is rolled up.",
    )
    verify: Verify | None = Field(
        default=None,
        description="Lets the operator compare what is rolled up with the source, by a schedule, while the job is "
        "started. The result is in status.lastVerification, and in the condition Verified.",
    )
    deletion_policy: DeletionPolicy = Field(
        default=DeletionPolicy.RETAIN,
        description="Retain keeps the rolled-up documents and the position when the job is deleted; Delete removes "
        "them with it.",
    )
