"""The fields of a job that cannot change once anything is rolled up, as CEL rules of the CRD.

Documents of one job are comparable only if they were made in one way. So the source, groups and metrics are fixed as
soon as the status shows a position, or a watermark: an empty source has no position, and searches take everything
before the watermark as rolled up. Before that, a corrected manifest is accepted, unless a run is under way.

A run that began a moment ago may not show in the status yet, and writes documents of the old spec. The store's record
then has the last word (`ConfigChanged`).

The rules stand at the root, since a rule at a field sees no status. Each compares first: a status write changes none
of these fields. Where the documents go (store, rollup index, id) stays fixed from the beginning: a claim of a dead
process is looked for in the place that the spec names.
"""

from rollup_operator.model.base import unchanged

_ROLLED_UP = "has(oldSelf.status) && (has(oldSelf.status.position) || has(oldSelf.status.watermark))"
_AT_WORK = (
    "has(oldSelf.status) && has(oldSelf.status.state) && oldSelf.status.state in ['indexing', 'stopping', 'aborting']"
)

TWO_WAYS = (
    "To keep the documents, create another job with another rollupIndex. To replace them, set deletionPolicy to "
    "Delete, delete this job, which deletes its documents, and create it again"
)
"""What to do about documents that another spec was to be applied to."""

_FIELDS = {
    "indexPattern": ("indexPattern",),
    "groups": (
        "groups.dateHistogram.field",
        "groups.dateHistogram.?fixedInterval",
        "groups.dateHistogram.?calendarInterval",
        "groups.dateHistogram.timeZone",
        "groups.?histogram",
        "groups.?terms",
    ),
    "metrics": ("metrics",),
    "rollupIndexSettings": ("?rollupIndexSettings",),
}


def fixed_fields() -> list[dict[str, str]]:
    """Return the rules for the root of the job's schema, one for each of the fields."""
    return [_rule(field, " && ".join(map(unchanged, paths))) for field, paths in _FIELDS.items()]


def _rule(field: str, same: str) -> dict[str, str]:
    name = f"{field}, all but delay," if field == "groups" else field
    rolled_up = f"{name} cannot change once anything is rolled up: old and new documents would not fit. {TWO_WAYS}"
    at_work = f"{name} cannot change while a run is under way: try again when it is over"
    return {
        "rule": f"({same}) || !({_ROLLED_UP} || {_AT_WORK})",
        "messageExpression": f"{_ROLLED_UP} ? {rolled_up!r} : {at_work!r}",
        "message": f"{field} cannot change now",
        "fieldPath": f".spec.{field}",
        "reason": "FieldValueForbidden",
    }
