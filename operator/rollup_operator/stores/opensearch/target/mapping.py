"""The mapping of a rollup index: Elasticsearch's dynamic templates and `_meta`, and every field by its type. Pure.

With the dynamic templates alone, numbers of metrics would become 32-bit floats, and sums would be wrong.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.model.elasticsearch_config import configuration
from rollup_operator.model.glob import Glob
from rollup_operator.model.job import RollupIndexSettings
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.rollup.source_rules import SourceField, term_kind

Mappings = Mapping[str, Any]

_DYNAMIC_TEMPLATES = [
    {"strings": {"match_mapping_type": "string", "mapping": {"type": "keyword"}}},
    {"date_histograms": {"path_match": "*.date_histogram.timestamp", "mapping": {"type": "date"}}},
]

_REFRESH = "30s"
"""A run refreshes the index at its end; more refreshes would take a good part of the writing time."""

_LONGEST_KIND = 64

MOST_PATTERNS = 100
_MOST_LETTERS = 10_000
"""Of the includes, and of the excludes, of `_source`: each field of the job is compared with all of them."""

_MANY_FIELDS = 400
"""An index accepts a thousand fields by default, including enclosing objects."""


def expected(config: JobConfig, fields: Mapping[str, SourceField]) -> dict[str, str]:
    """Return the type of each field of the job's documents. `fields`: what the sources have."""
    groups, types = config.spec.groups, {"_rollup.id": "keyword", "_rollup.version": "long"}
    date = f"{groups.date_histogram.field}.date_histogram"
    types |= {
        f"{date}.timestamp": "date",
        f"{date}.interval": "keyword",
        f"{date}.time_zone": "keyword",
        f"{date}._count": "long",
    }
    for field in groups.histogram.fields if groups.histogram else ():
        name = f"{field}.histogram"
        types |= {f"{name}.value": "double", f"{name}.interval": "long", f"{name}._count": "long"}
    for field in groups.terms.fields if groups.terms else ():
        types[f"{field}.terms._count"] = "long"
        if (kind := term_kind(fields.get(field))) is not None:
            types[f"{field}.terms.value"] = kind
    for metric in config.spec.metrics:
        for of in metric.metrics:
            types[f"{metric.field}.{of}.value"] = "double"
            if of == "avg":
                types[f"{metric.field}.avg._count"] = "double"
    return types


def mappings(config: JobConfig, types: Mapping[str, str]) -> dict[str, Any]:
    """Return the mappings of a new rollup index."""
    return {
        "_meta": {"rollup-version": "", "_rollup": {config.job_id: entry(config)}},
        "dynamic_templates": _DYNAMIC_TEMPLATES,
        "properties": properties(types),
    }


def properties(types: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields in the form of a mapping. A name may have dots: the cluster makes objects of its parts."""
    return {field: {"type": kind} for field, kind in types.items()}


def settings(given: RollupIndexSettings | None, config: JobConfig, types: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of a new rollup index."""
    # What is answered for must be durable, or the position would outlive it. A template's pipelines could change or
    # drop documents.
    out: dict[str, Any] = {
        "index.translog.durability": "request",
        "index.refresh_interval": _REFRESH,
        "index.default_pipeline": "_none",
        "index.final_pipeline": "_none",
    }
    if given is not None:
        out |= {
            "index.number_of_shards": given.number_of_shards,
            "index.number_of_replicas": given.number_of_replicas,
            "index.codec": given.codec,
        }
        if given.refresh_interval is not None:
            out["index.refresh_interval"] = given.refresh_interval
        if given.sort_by_time:
            out["index.sort.field"] = f"{config.spec.groups.date_histogram.field}.date_histogram.timestamp"
    if len(types) > _MANY_FIELDS:
        out["index.mapping.total_fields.limit"] = 4 * len(types)
    return {name: value for name, value in out.items() if value is not None}


def entry(config: JobConfig) -> dict[str, Any]:
    """Return the job's entry in `_meta`: Elasticsearch's configuration, and nothing else."""
    return configuration(config.job_id, config.spec.model_dump(mode="json", by_alias=True, exclude_none=True))


def entries(found: Mappings) -> Mapping[str, Any] | None:
    """Return the jobs that an index's `_meta` names, each with its configuration; None: it is no rollup index."""
    meta = found.get("_meta")
    return _object(meta.get("_rollup")) if isinstance(meta, Mapping) else None


def missing_meta(found: Mappings) -> str:
    """Return what an index lacks to be a rollup index, in Elasticsearch's words; empty: nothing."""
    if entries(found) is not None:
        return ""
    return "rollup meta key [_rollup]" if "_meta" in found else "_meta key"


def unreadable(found: Mappings, fields: Iterable[str]) -> str:
    """Return what keeps documents from being stored or from being shown as they were written; empty: nothing does.

    `fields` are those of the documents.
    """
    source, routing = _object(found.get("_source")) or {}, _object(found.get("_routing")) or {}
    includes, excludes = _patterns(source.get("includes")), _patterns(source.get("excludes"))
    if max(len(includes), len(excludes)) > MOST_PATTERNS or sum(map(len, includes + excludes)) > _MOST_LETTERS:
        return f"_source, with more than {MOST_PATTERNS} includes or excludes, or longer ones than can be compared"
    leaves_out = _LeavesOut(_globs(includes), _globs(excludes))
    if source.get("enabled", True) in (False, "false") or any(map(leaves_out, fields)):
        return "_source, which leaves out what documents say"
    if routing.get("required", False) in (True, "true"):
        return "_routing, which refuses documents without one"
    return ""


def _patterns(given: object) -> list[str]:
    return [str(each) for each in given] if isinstance(given, list) else [str(given)] if given else []


def _globs(patterns: Iterable[str]) -> list[Glob]:
    """Read patterns, each of which means an object with all that is in it, too. `*` stands for dots as well."""
    return [Glob.of(each) for pattern in patterns for each in (pattern, f"{pattern}.*")]


@dataclass(frozen=True, slots=True)
class _LeavesOut:
    """Says whether documents lack a field."""

    includes: Sequence[Glob]
    excludes: Sequence[Glob]

    def __call__(self, field: str) -> bool:
        is_kept = not self.includes or any(glob.matches(field) for glob in self.includes)
        return not is_kept or any(glob.matches(field) for glob in self.excludes)


def with_entry(found: Mappings, job_id: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an index's `_meta` with another entry of one job, or without it. All the rest stays."""
    jobs = {k: v for k, v in (entries(found) or {}).items() if k != job_id}
    if value is not None:
        jobs[job_id] = value
    return {**(_object(found.get("_meta")) or {}), "_rollup": jobs}


def same_documents(one: object, other: object) -> bool:
    """Whether two configurations make the same documents: groups, without the delay, and metrics in any order."""
    shape = _shape(one)
    return shape is not None and shape == _shape(other)


def unlike(found: Mappings, types: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that an index stores as another type, each with that type."""
    wrong: dict[str, str] = {}
    for field, kind in types.items():
        there = found_type(found, field)
        if there is not None and there != kind:
            wrong[field] = there
    return wrong


def lacking(found: Mappings, types: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that an index lacks."""
    return {field: kind for field, kind in types.items() if found_type(found, field) is None}


def found_type(found: Mappings, field: str) -> str | None:
    """Return the type of a field in an index's mappings; None: unknown there. An object's type is `object`."""
    node: Mapping[str, Any] = found
    kind = "object"
    for part in field.split("."):
        if kind != "object":
            return kind  # there is a value in place of an object
        inner = _object((_object(node.get("properties")) or {}).get(part))
        if inner is None:
            return None
        node, kind = inner, str(inner.get("type", "object"))[:_LONGEST_KIND]
    return kind


def _object(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _shape(config: object) -> tuple[Any, ...] | None:
    """Return the part of a configuration that determines its documents; None: it is not a configuration."""
    try:
        groups = {name: dict(group) for name, group in config["groups"].items()}  # type: ignore[index]
        groups["date_histogram"].pop("delay", None)
        metrics = sorted((m["field"], sorted(m["metrics"])) for m in config["metrics"])  # type: ignore[index]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None  # the content of an index may come from anybody
    return groups, metrics
