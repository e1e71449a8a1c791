"""A source of flights, jobs that roll it up, and searches of both, in memory."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.query.answering.answer import Style, answer
from rollup_operator.query.planning.planner import Live, SearchPlan
from rollup_operator.stores.search import Documents, FieldKind, Rows, Tier
from support.portions import result
from support.search_reference import Document, fetched

HOUR, DAY = 3_600_000, 86_400_000
KINDS: dict[str, FieldKind] = {
    "time": "date",
    "carrier": "keyword",
    "code": "long",
    "weight": "double",
    "distance": "double",
    "delay": "double",
    "price": "double",
}
ALL = ("min", "max", "avg", "sum", "value_count")


def spec_of(
    interval: str = "1h",
    zone: str = "UTC",
    *,
    terms: Iterable[str] = ("carrier", "code"),
    histogram: bool = True,
    metrics: Iterable[str] = ALL,
) -> RollupJobSpec:
    """Return a job; `interval` is fixed, or a word of the calendar."""
    key = "calendarInterval" if interval.isalpha() else "fixedInterval"
    groups: dict[str, Any] = {"dateHistogram": {"field": "time", "timeZone": zone, key: interval}}
    if terms:
        groups["terms"] = {"fields": list(terms)}
    if histogram:
        groups["histogram"] = {"fields": ["distance"], "interval": 100}
    return RollupJobSpec.model_validate(
        {
            "indexPattern": "flights-*",
            "rollupIndex": "rolled",
            "cron": "0 0 * * * ?",
            "groups": groups,
            "metrics": [{"field": "delay", "metrics": list(metrics)}],
        }
    )


def live_of(spec: RollupJobSpec) -> Live:
    """Return the rows of the source."""
    return Live(Rows("flights-*", spec), KINDS)


def tier_of(job_id: str, spec: RollupJobSpec, begin: int, end: int) -> Tier:
    """Return a job whose buckets of [begin, end) are rolled up."""
    groups = spec.groups
    fields = ["time", *(groups.terms.fields if groups.terms else ())]
    fields += groups.histogram.fields if groups.histogram else ()
    return Tier(("rolled", job_id), spec, begin, end, {f: KINDS[f] for f in fields})


def answered(
    made: SearchPlan, rows: Sequence[Document], jobs: Mapping[str, Sequence[Document]], style: Style | None = None
) -> dict[str, Any]:
    """Read what a plan asks for, and answer. `jobs` are the documents of each."""
    parts = [fetched(f, jobs[f.relation.job_id] if isinstance(f.relation, Documents) else rows) for f in made.fetches]
    return result(answer(made, parts, style or Style()))
