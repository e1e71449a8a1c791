"""The fields of a job that cannot change once anything is rolled up, as a CEL rule of the CRD.

Documents of one job are comparable only if they were made in one way. So the source, groups and metrics are fixed as
soon as the status shows a position, or a watermark: an empty source has no position, and searches take everything
before the watermark as rolled up. Before that, a corrected manifest is accepted, unless a run is under way.

A run that began a moment ago may not show in the status yet, and writes documents of the old spec. The store's record
then has the last word (`ConfigChanged`).

It is one rule at the root: a rule at a field sees no status. Four rules there cost a write of a status, or of a stop, a
millisecond of the API server's time, one about half of that, and nearly nothing before anything is rolled up. Where the
documents go (store, rollup index, id) stays fixed from the beginning: a claim of a dead process is looked for in the
place that the spec names.
"""

from rollup_operator.model.base import unchanged
from rollup_operator.model.status import State

_ROLLED_UP = "has(oldSelf.status) && (has(oldSelf.status.position) || has(oldSelf.status.watermark))"
_AT_WORK = (
    "has(oldSelf.status) && has(oldSelf.status.state) && oldSelf.status.state in "
    f"{[str(state) for state in (State.INDEXING, State.STOPPING, State.ABORTING)]}"
)

TWO_WAYS = (
    "To keep the documents, create another job with another rollupIndex. To replace them, set deletionPolicy to "
    "Delete, delete this job, which deletes its documents, and create it again"
)
"""What to do about documents that another spec was to be applied to."""

_FIELDS = {
    "indexPattern": ("indexPattern",),
    "groups, all but delay,": (
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


def fixed_fields() -> dict[str, str]:
    """Return the rule for the root of the job's schema. It names the first field that is not as it was."""
    same = {field: " && ".join(map(unchanged, paths)) for field, paths in _FIELDS.items()}
    *others, (last, _) = same.items()
    name = repr(last)
    for field, condition in reversed(others):
        name = f"!({condition}) ? {field!r} : {name}"
    rolled_up = f" cannot change once anything is rolled up: old and new documents would not fit. {TWO_WAYS}"
    at_work = " cannot change while a run is under way: try again when it is over"
    return {
        "rule": f"!({_ROLLED_UP} || {_AT_WORK}) || {' && '.join(same.values())}",
        "messageExpression": f"({name}) + (({_ROLLED_UP}) ? {rolled_up!r} : {at_work!r})",
        "message": "indexPattern, groups but for delay, metrics and rollupIndexSettings cannot change now",
        "fieldPath": ".spec",
        "reason": "FieldValueForbidden",
    }
