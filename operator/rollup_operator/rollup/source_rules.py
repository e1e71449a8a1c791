"""Elasticsearch's rules for the fields of a job's source. Pure.

A broken rule has two texts: Elasticsearch's, for its clients, and one for those who write manifests.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rollup_operator.model import hints
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

_HINTS = 8
"""Of the fields that are missing, those for which one check says what they may mean: names take time to compare."""

_TIME = "spec.groups.dateHistogram.field"
_METRICS = "spec.metrics"

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


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A field that a job names and cannot use."""

    elasticsearch: str
    """Elasticsearch's text."""
    manifest: str
    """Which part of the manifest is meant, what is wrong with it, and what is valid."""


def broken_rules(spec: RollupJobSpec, fields: Mapping[str, SourceField]) -> list[str]:
    """Return Elasticsearch's texts for what `check_rules` finds."""
    return [rule.elasticsearch for rule in check_rules(spec, fields)]


def check_rules(spec: RollupJobSpec, fields: Mapping[str, SourceField]) -> list[BrokenRule]:
    """Return the problems of the fields that a job names, given the fields of its sources."""
    checks = list(_checks(spec, fields))
    named = [name for _, name, _ in checks]
    hinted = _Hints(fields)
    if hidden := [
        BrokenRule(text, f"{at}: {text}")
        for name, at in {name: at for at, name, _ in reversed(checks)}.items()
        if (text := _in_nested(name, fields)) is not None
    ]:
        return hidden
    found = [
        BrokenRule(text, f"{at}: {_in_plain_words(at, name, fields, hinted) or text}")
        for at, name, texts in checks
        for text in texts
    ]
    if any(name in fields for name in named):
        return found
    return [BrokenRule(NO_FIELDS, "; ".join(rule.manifest for rule in found))]


def _checks(spec: RollupJobSpec, fields: Mapping[str, SourceField]) -> Iterator[tuple[str, str, Iterable[str]]]:
    """Yield each use of a field: where the spec names it, the field, and Elasticsearch's texts for its problems."""
    groups = spec.groups
    date = groups.date_histogram.field
    yield _TIME, date, _of_date(date, fields.get(date))
    for name in groups.histogram.fields if groups.histogram else ():
        yield "spec.groups.histogram.fields", name, _of_histogram(name, fields.get(name))
    for name in groups.terms.fields if groups.terms else ():
        yield "spec.groups.terms.fields", name, _of_terms(name, fields.get(name))
    for metric in spec.metrics:
        yield _METRICS, metric.field, _of_metric(metric.field, metric.metrics, fields.get(metric.field))


class _Hints:
    """What fields may mean that are missing: of few fields, and each order of those that there are is made once."""

    def __init__(self, fields: Mapping[str, SourceField]) -> None:
        self._fields, self._left = fields, _HINTS
        self._orders: dict[bool, hints.Names] = {}

    def instead(self, name: str, *, times_first: bool) -> str:
        """Say what one may mean and which there are; "" where so many were hinted at, or there are none."""
        if not self._left:
            return ""
        self._left -= 1
        if times_first not in self._orders:
            self._orders[times_first] = hints.Names(self._ordered(times_first=times_first))
        return self._orders[times_first].instead(name)

    def _ordered(self, *, times_first: bool) -> list[str]:
        there = sorted(name for name in self._fields if not name.startswith("_"))
        if not times_first:
            return there
        times = [name for name in there if self._fields[name].types <= DATES]
        return [*times, *there]


def _in_plain_words(at: str, name: str, fields: Mapping[str, SourceField], hinted: _Hints) -> str | None:
    """Say what is wrong with a field that is missing or has another type; None: neither is the case."""
    if (field := fields.get(name)) is None:
        hint = hinted.instead(name, times_first=at == _TIME)
        return f"the source has no field {name!r}" + (f": {hint}" if hint else "")
    types = " and ".join(sorted(field.types))
    if at == _TIME and not (field.types <= DATES or field.tells_time):
        dates = sorted(other for other, of in fields.items() if of.types <= DATES and other != name)
        hint = hints.instead(name, dates)
        return f"field {name!r} is {types}, not a date" + (f": {hint}" if hint else "")
    if at == _METRICS and not field.types <= NUMBERS | DATES:
        return (
            f"field {name!r} is {types}: metrics need numbers or dates. To group by its values, name it in "
            "spec.groups.terms.fields"
        )
    return None


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
    end = name.find(".")
    while end >= 0:
        above = fields.get(name[:end])
        if above is not None and _NESTED in above.types:
            return (
                f"The field [{name}] lies within [{name[:end]}], which is of type [{_NESTED}]: its values are in "
                "documents of their own, which a rollup cannot see. Have the source copy it to a field outside "
                "(copy_to, or include_in_root in the mapping), and name that."
            )
        end = name.find(".", end + 1)
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
