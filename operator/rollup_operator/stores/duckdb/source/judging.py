"""Checks for valid jobs that most likely do not mean what they say. Called in a worker."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.source.headers import CsvDialect
from rollup_operator.stores.duckdb.statements.plan import Plan
from rollup_operator.stores.duckdb.statements.sql import TimeKind
from rollup_operator.stores.errors import SourceInvalid

_SECONDS_FROM, _SECONDS_TO = 315_532_800, 7_258_118_400
"""1980 and 2200, in seconds since 1970. As milliseconds they lie in the first three months of that year."""
_UNITS = ((1, "seconds"), (1_000_000, "microseconds"), (1_000_000_000, "nanoseconds"))
_DATES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""How dates are written as whole numbers of so many digits."""


def named(spec: RollupJobSpec) -> list[str]:
    """Return the columns that a job names, each once."""
    groups = spec.groups
    found = [groups.date_histogram.field]
    found += groups.histogram.fields if groups.histogram else []
    found += groups.terms.fields if groups.terms else []
    return list(dict.fromkeys([*found, *(metric.field for metric in spec.metrics)]))


def check_names(spec: RollupJobSpec, dialects: Sequence[CsvDialect]) -> None:
    """Raise SourceInvalid if spec.csv names a column that no CSV file has."""
    there = {name for dialect in dialects for name in dialect.types}
    if dialects and spec.csv and (lost := [c.name for c in spec.csv.columns if c.name not in there]):
        raise SourceInvalid(
            f"spec.csv.columns: no CSV file has a column {lost[0]!r}: "
            f"they have {', '.join(map(repr, sorted(there)[:20]))}"
        )


def check_unit(lane: Lane, plan: Plan) -> None:
    """Raise SourceInvalid if all whole numbers are far away as milliseconds, and near in another unit or as dates."""
    if plan.kind is not TimeKind.INTEGER:
        return
    ((first, last),) = lane.execute(f"SELECT min({plan.time})::HUGEINT, max({plan.time})::HUGEINT FROM {plan.relation}")
    if not (isinstance(first, int) and isinstance(last, int)):
        return
    for unit, word in _UNITS:
        if _SECONDS_FROM * unit <= first and last <= _SECONDS_TO * unit:
            as_read = "1970" if unit == 1 else "a year after 10000"
            way_out = ". If they are milliseconds, set spec.start to 1970-01-01T00:00:00Z" if unit == 1 else ""
            meant = datetime.fromtimestamp(first / unit, UTC).strftime("%Y-%m-%d")
            raise SourceInvalid(
                f"spec.groups.dateHistogram.field: column {plan.time[1:-1]!r} is read as milliseconds since 1970, and "
                f"so {first} to {last} lies in {as_read}. They look like {word} (from {meant} on): put milliseconds or "
                f"timestamps into the source{way_out}"
            )
    digits = len(str(first))
    written = _DATES.get(digits)
    if written is None or len(str(last)) != digits or str(first)[:2] not in ("19", "20", "21"):
        return
    parsed = f"try_strptime({plan.time}::VARCHAR, '{written}')"
    ((begin, others),) = lane.execute(
        f"SELECT strftime(min({parsed}), '%Y-%m-%d'), count({plan.time}) - count({parsed}) FROM {plan.relation}"
    )
    if not others:
        year = datetime.fromtimestamp(first / 1000, UTC).year
        raise SourceInvalid(
            f"spec.groups.dateHistogram.field: column {plan.time[1:-1]!r} is read as milliseconds since 1970, and so "
            f"{first} to {last} begins in {year}. They look like dates (from {begin} on): put timestamps into the "
            "source. If they are milliseconds, set spec.start to 1970-01-01T00:00:00Z"
        )
