"""Elasticsearch's rules for the fields of a job's source, and its error texts for each. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.validation import DATE_METRICS

DATES = frozenset({"date", "date_nanos"})
WHOLE = frozenset({"long", "integer", "short", "byte"})
REAL = frozenset({"double", "float", "half_float", "scaled_float"})
NUMBERS = WHOLE | REAL | {"unsigned_long"}
TEXTS = frozenset({"keyword", "text"})

NO_FIELDS = "Could not find any fields in the index/index-pattern that were configured in job"
"""Nothing matches the pattern, or nothing of it has any field that the job names."""

_OF_DATES = sorted(DATE_METRICS)
"""All metrics that a time can have."""

TermKind = Literal["long", "double", "keyword"]

_TERMS: Sequence[tuple[TermKind, frozenset[str]]] = (("long", WHOLE), ("double", REAL), ("keyword", TEXTS))

_NESTED = "nested"

_UNSIGNED = frozenset({"unsigned_long"})
"""Elasticsearch has no such groups; here they would not fit into a term's 64 bits with a sign."""


@dataclass(frozen=True, slots=True)
class SourceField:
    """A field in the sources of a pattern, in Elasticsearch's words."""

    types: frozenset[str]
    """For example `date`, `long`, `keyword`; several if sources differ."""
    aggregatable: bool = True
    tells_time: bool | None = None
    """Whether it can be the time of a job: as milliseconds since 1970, too, and not as lists. None: the types say."""
    searchable: bool = True
    """Whether it has an index, without which some stores find nothing by it."""


def broken_rules(spec: RollupJobSpec, fields: Mapping[str, SourceField]) -> list[str]:
    """Return the problems of the fields that a job names, given the fields of its sources."""
    groups = spec.groups
    named = [groups.date_histogram.field, *(m.field for m in spec.metrics)]
    named += groups.histogram.fields if groups.histogram else []
    named += groups.terms.fields if groups.terms else []
    if not any(name in fields for name in named):
        return [NO_FIELDS]
    if hidden := [message for name in dict.fromkeys(named) if (message := _in_nested(name, fields))]:
        return hidden
    found = list(_of_date(groups.date_histogram.field, fields.get(groups.date_histogram.field)))
    for name in groups.histogram.fields if groups.histogram else ():
        found += _of_histogram(name, fields.get(name))
    for name in groups.terms.fields if groups.terms else ():
        found += _of_terms(name, fields.get(name))
    for metric in spec.metrics:
        found += _of_metric(metric.field, metric.metrics, fields.get(metric.field))
    return found


def date_metrics_message(field: str, metrics: Sequence[str], type_: str) -> str | None:
    """Return what is wrong with the metrics of a field that holds times; None: nothing."""
    if not (wrong := [m for m in metrics if m not in _OF_DATES]):
        return None
    return (
        f"Only the metrics {_listed(_OF_DATES)} are supported for [{type_}] types, but unsupported metrics "
        f"{_listed(wrong)} supplied for field [{field}]"
    )


def term_kind(field: SourceField | None) -> TermKind | None:
    """Return what terms of a field are: long, double or keyword; None: not known, or not the same everywhere."""
    if field is None or not field.types:
        return None
    return next((kind for kind, types in _TERMS if field.types <= types), None)


def _of_date(name: str, field: SourceField | None) -> Iterator[str]:
    if field is None:
        yield _missing("one of [date,date_nanos] fields", name)
    elif field.types <= DATES and field.tells_time is False:
        yield f"The field [{name}] of a date_histo group must have one time in each row, but it has lists of times."
    elif not (field.types <= DATES or field.tells_time):
        yield (
            "The field referenced by a date_histo group must be one of type [date,date_nanos] across all indices in "
            f"the index pattern.  Found: {_listed(sorted(field.types))} for field [{name}]"
        )
    elif not field.aggregatable:
        yield _not_aggregatable(name)


def _of_histogram(name: str, field: SourceField | None) -> Iterator[str]:
    if field is None:
        yield _missing("a [numeric] field", name)
    elif not field.types <= NUMBERS:
        yield _wrong_type("histo", "a [numeric] type", name, field)
    elif not field.aggregatable:
        yield f"The field [{name}] must be aggregatable, but is not."


def _of_terms(name: str, field: SourceField | None) -> Iterator[str]:
    if field is None:
        yield _missing("a [numeric] or [keyword/text] field", name)
    elif not field.types <= (NUMBERS | TEXTS) - _UNSIGNED:
        yield _wrong_type("terms", "a [numeric] or [keyword/text] type", name, field)
    elif not field.aggregatable:
        yield _not_aggregatable(name)


def _of_metric(name: str, metrics: Sequence[str], field: SourceField | None) -> Iterator[str]:
    if field is None:
        yield _missing("a [numeric] or [date,date_nanos] field", name)
    elif not field.types <= NUMBERS | DATES:
        yield _wrong_type("metric", "a [numeric] or [date,date_nanos] type", name, field)
    elif not field.aggregatable:
        yield _not_aggregatable(name)
    elif (dates := sorted(field.types & DATES)) and (message := date_metrics_message(name, metrics, dates[0])):
        yield message


def _in_nested(name: str, fields: Mapping[str, SourceField]) -> str | None:
    """Return what is wrong with a field of objects that an index keeps as documents of their own; None: nothing."""
    parts = name.split(".")
    for i in range(1, len(parts)):
        above = fields.get(".".join(parts[:i]))
        if above is not None and _NESTED in above.types:
            return (
                f"The field [{name}] lies within [{'.'.join(parts[:i])}], which is of type [{_NESTED}]: its values are "
                "in documents of their own, which a rollup cannot see. Have the source copy it to a field outside "
                "(copy_to, or include_in_root in the mapping), and name that."
            )
    return None


def _missing(what: str, name: str) -> str:
    return f"Could not find {what} with name [{name}] in any of the indices matching the index pattern."


def _wrong_type(group: str, wanted: str, name: str, field: SourceField) -> str:
    found = _listed(sorted(field.types))
    return f"The field referenced by a {group} group must be {wanted}, but found {found} for field [{name}]"


def _not_aggregatable(name: str) -> str:
    return f"The field [{name}] must be aggregatable across all indices, but is not."


def _listed(words: Iterable[str]) -> str:
    return f"[{', '.join(words)}]"
