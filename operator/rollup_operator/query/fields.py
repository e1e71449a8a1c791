"""What a logical index shows of its fields: the source's names, and nothing that summaries could not answer. Pure.

Clients ask for these before the first search: field pickers, health checks of data sources, type checks.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rollup_operator.model.glob import Glob
from rollup_operator.rollup.source_rules import DATES, NUMBERS, SourceField, term_kind
from rollup_operator.stores.search import FieldKind, Tier

Fields = Mapping[str, FieldKind]
"""Types by name."""

DEEPEST = 20
"""Objects within each other that a mapping has, as in a cluster. A name of more parts is shown as it stands."""


def fields_of(tiers: Iterable[Tier]) -> dict[str, FieldKind]:
    """Return the fields that one of the jobs keeps. A field that is a group as well as a metric is what groups it."""
    groups: dict[str, FieldKind] = {}
    metrics: dict[str, FieldKind] = {}
    for tier in tiers:
        groups |= tier.kinds
        metrics |= {metric.field: "double" for metric in tier.spec.metrics}
    return metrics | groups


def kinds_of(fields: Mapping[str, SourceField], time: str) -> dict[str, FieldKind]:
    """Return what fields of a source hold, those left out of which summaries keep nothing.

    `time` is the job's field of time: whole numbers may be milliseconds since 1970 there, and nowhere else.
    """
    kinds: dict[str, FieldKind] = {}
    for name, field in fields.items():
        if field.types <= DATES or (name == time and field.tells_time):
            kinds[name] = "date"
        elif (kind := term_kind(field)) is not None:
            kinds[name] = kind
        elif field.types <= NUMBERS:
            kinds[name] = "double"
    return kinds


def field_caps(indices: Sequence[tuple[str, Fields]], wanted: Sequence[str]) -> dict[str, Any]:
    """Answer `_field_caps`: fields by name, and within that by type. Where indices differ, each type names its own."""
    found: dict[str, dict[str, list[str]]] = {}
    for index, fields in indices:
        for field in chosen(fields, wanted):
            found.setdefault(field, {}).setdefault(fields[field], []).append(index)
    return {
        "indices": [index for index, _ in indices],
        "fields": {field: _types(found[field]) for field in sorted(found)},
    }


def _types(by_type: Mapping[str, list[str]]) -> dict[str, Any]:
    return {
        kind: {
            "type": kind,
            "metadata_field": False,
            "searchable": True,
            "aggregatable": True,
            **({"indices": indices} if len(by_type) > 1 else {}),
        }
        for kind, indices in by_type.items()
    }


def mappings(indices: Sequence[tuple[str, Fields]]) -> dict[str, Any]:
    """Answer `_mapping`: names with dots become objects, and those below another field its `fields`."""
    return {index: {"mappings": {"properties": _properties(fields)}} for index, fields in indices}


def _properties(fields: Fields) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in sorted(fields):  # what stands before a dot comes before what stands behind it
        parts = field.split(".") if field.count(".") < DEEPEST else [field]
        within = properties
        for part in parts[:-1]:
            node = within.setdefault(part, {})
            within = node.setdefault("fields" if "type" in node else "properties", {})
        within[parts[-1]] = {"type": fields[field]}
    return properties


def field_mappings(indices: Sequence[tuple[str, Fields]], wanted: Sequence[str]) -> dict[str, Any]:
    """Answer `_mapping/field/<names>`; an index that has none of them shows an empty object."""
    return {
        index: {
            "mappings": {
                field: {"full_name": field, "mapping": {field.rpartition(".")[2]: {"type": fields[field]}}}
                for field in sorted(chosen(fields, wanted))
            }
        }
        for index, fields in indices
    }


def chosen(fields: Fields, wanted: Sequence[str]) -> list[str]:
    """Return the fields that one of the names or wildcards means."""
    names = set(wanted)
    globs = [Glob.of(name) for name in names if "*" in name]
    return [field for field in fields if field in names or any(glob.matches(field) for glob in globs)]
