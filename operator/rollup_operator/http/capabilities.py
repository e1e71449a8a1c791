"""What can be asked of rolled-up data: per job the fields, and what was kept of each. Pure.

Jobs come from the resources and from what the stores remember, so that those deleted meanwhile are known too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from rollup_operator.http import job_errors
from rollup_operator.http.versions import Dialect
from rollup_operator.model.configuration import configuration

EVERYTHING = frozenset({"", "_all", "*"})
"""Names that mean every index."""


@dataclass(frozen=True, slots=True)
class Described:
    """A job, whether it still exists or not."""

    job_id: str
    spec: Mapping[str, Any]

    @property
    def rollup_index(self) -> str:
        """Where its documents are."""
        return str(self.spec.get("rollupIndex", ""))

    @property
    def index_pattern(self) -> str:
        """Where they came from."""
        return str(self.spec.get("indexPattern", ""))


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How names of indices are resolved."""

    ignore_unavailable: bool = False
    allow_no_indices: bool = True
    expands: bool = True
    """Whether wildcards match open indices; all of ours are open."""


def by_pattern(jobs: Iterable[Described], pattern: str, dialect: Dialect) -> dict[str, Any]:
    """Return the capabilities of the jobs with exactly this index pattern, or of all, by index pattern."""
    chosen = [job for job in jobs if pattern in EVERYTHING or job.index_pattern == pattern]
    return _grouped(chosen, [job.index_pattern for job in chosen], dialect)


def by_index(jobs: Sequence[Described], expression: str, options: IndexOptions, dialect: Dialect) -> dict[str, Any]:
    """Return the capabilities of the jobs in the rollup indices that the expression names, by rollup index.

    Raises ApiError 404 where a name is nothing that is known.
    """
    names = _resolve(jobs, expression, options)
    chosen = [job for job in jobs if job.rollup_index in names]
    return _grouped(chosen, [job.rollup_index for job in chosen], dialect)


def _grouped(jobs: Iterable[Described], keys: Iterable[str], dialect: Dialect) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, job in sorted(zip(keys, jobs, strict=True), key=lambda pair: (pair[0], pair[1].job_id)):
        found.setdefault(key, {"rollup_jobs": []})["rollup_jobs"].append(_capabilities(job, dialect))
    return found


def _capabilities(job: Described, dialect: Dialect) -> dict[str, Any]:
    config = configuration(job.job_id, job.spec, legacy_interval=dialect.shows_legacy_interval)
    fields: dict[str, list[dict[str, Any]]] = {}

    def add(field: str, agg: str, **more: Any) -> None:
        fields.setdefault(field, []).append({"agg": agg, **more})

    groups = config["groups"]
    date = dict(groups["date_histogram"])
    if field := date.pop("field", ""):
        add(field, "date_histogram", **date)
    for field in groups.get("histogram", {}).get("fields", ()):
        add(field, "histogram", interval=groups["histogram"]["interval"])
    for field in groups.get("terms", {}).get("fields", ()):
        add(field, "terms")
    for metric in config["metrics"]:
        for name in metric["metrics"]:
            add(metric["field"], name)
    return {
        "job_id": job.job_id,
        "rollup_index": job.rollup_index,
        "index_pattern": job.index_pattern,
        "fields": fields,
    }


def _resolve(jobs: Sequence[Described], expression: str, options: IndexOptions) -> set[str]:
    indices = {job.rollup_index for job in jobs}
    sources = [part for job in jobs for part in job.index_pattern.split(",")]
    names: set[str] = set()
    excludes = False
    for part in (part.strip() for part in expression.split(",")):
        without = part.startswith("-") and excludes
        pattern = part[1:] if without else part
        if pattern in EVERYTHING or "*" in pattern:
            # Exclusions count only after a wildcard, as in Elasticsearch.
            excludes = True
            matched = (
                {i for i in indices if pattern in EVERYTHING or _matches(pattern, i)} if options.expands else set()
            )
            if not matched and not without and not options.allow_no_indices:
                raise job_errors.no_such_index(pattern)
        elif pattern in indices:
            matched = {pattern}
        elif options.ignore_unavailable or without or any(_matches(source, pattern) for source in sources):
            matched = set()  # an index that holds nothing rolled up is left out
        else:
            raise job_errors.no_such_index(pattern)
        names = names - matched if without else names | matched
    return names


def _matches(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]").replace("?", "[?]"))
