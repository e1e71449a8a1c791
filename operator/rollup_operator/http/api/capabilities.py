"""The fields of rolled-up data that can be queried, per job, and the aggregations kept of each. Pure.

Jobs come from the resources and from the records of the stores, so deleted jobs are included.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Self

from rollup_operator.concurrency.portions import Work, chosen_of, each, sorted_by
from rollup_operator.http.protocol import errors, job_errors
from rollup_operator.http.protocol.dialects import Dialect
from rollup_operator.model.elasticsearch_config import configuration
from rollup_operator.model.glob import Glob
from rollup_operator.model.job_view import JobView
from rollup_operator.model.names import EVERY
from rollup_operator.query.sources import IndexOptions

EVERYTHING = EVERY | {""}
"""The names that mean every job, or every index."""

MOST_STEPS = 2_000_000
"""Comparisons of names for one call, some tenths of a second: two hundred wildcards among ten thousand indices."""


@dataclass(frozen=True, slots=True)
class Described:
    """A job, whether it still exists or not."""

    job_id: str
    rollup_index: str
    """Where its documents are."""
    index_pattern: str
    """Where they came from."""
    told_by: JobView | Mapping[str, Any]
    """What has the spec: parsed for one job after the other, since those of all would be a million objects."""

    @classmethod
    def of(cls, job: JobView) -> Self:
        """Describe a job that exists."""
        return cls(job.job_id, job.rollup_index, job.index_pattern, job)

    @classmethod
    def remembered(cls, job_id: str, spec: Mapping[str, Any]) -> Self:
        """Describe a job of which a store knows the spec."""
        return cls(job_id, str(spec.get("rollupIndex", "")), str(spec.get("indexPattern", "")), spec)

    @property
    def spec(self) -> Mapping[str, Any]:
        """The spec as it was written."""
        return self.told_by.raw_spec if isinstance(self.told_by, JobView) else self.told_by


def by_pattern(jobs: Iterable[Described], pattern: str, dialect: Dialect) -> Work[dict[str, Any]]:
    """Return the capabilities of the jobs with exactly this index pattern, or of all, by index pattern.

    Those of each pattern are described one by one, as they are taken.
    """
    chosen = yield from chosen_of(jobs, lambda job: pattern in EVERYTHING or job.index_pattern == pattern)
    return (yield from _grouped(chosen, attrgetter("index_pattern"), dialect))


def by_index(
    jobs: Sequence[Described], expression: str, options: IndexOptions, dialect: Dialect
) -> Work[dict[str, Any]]:
    """Return the capabilities of the jobs in the rollup indices that the expression names, by rollup index.

    Those of each index are described one by one, as they are taken.
    Raises ApiError 404 for an unknown name, 400 if finding that out takes more than MOST_STEPS.
    """
    indices, sources = set(), set()
    for job in jobs:
        indices.add(job.rollup_index)
        sources.update(job.index_pattern.split(","))
        yield
    names = yield from _Names(indices, sources, options).resolved(expression)
    chosen = yield from chosen_of(jobs, lambda job: job.rollup_index in names)
    return (yield from _grouped(chosen, attrgetter("rollup_index"), dialect))


def _grouped(jobs: Iterable[Described], key: Callable[[Described], str], dialect: Dialect) -> Work[dict[str, Any]]:
    found: dict[str, list[Described]] = {}
    for job in (yield from sorted_by(jobs, lambda job: (key(job), job.job_id))):
        found.setdefault(key(job), []).append(job)
        yield
    described = partial(_capabilities, dialect=dialect)
    return {name: {"rollup_jobs": map(described, group)} for name, group in found.items()}


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


class _Names:
    """Resolves names of indices, with `*` for any characters, to rollup indices."""

    def __init__(self, indices: Set[str], sources: Set[str], options: IndexOptions) -> None:
        self._indices, self._options = indices, options
        self._sources = sources
        self._globs: list[Glob] | None = None
        self._steps = 0

    def resolved(self, expression: str) -> Work[set[str]]:
        """Return the rollup indices that the comma-separated names stand for. Raises ApiError."""
        names: set[str] = set()
        excludes = False
        for part in (part.strip() for part in expression.split(",")):
            without = part.startswith("-") and excludes
            pattern = part[1:] if without else part
            if pattern in EVERYTHING or "*" in pattern:
                # Exclusions count only after a wildcard, as in Elasticsearch.
                excludes = True
                matched = (yield from self._matching(pattern)) if self._options.expands else set()
                if not matched and not without and not self._options.allow_no_indices:
                    raise job_errors.no_such_index(pattern)
            elif pattern in self._indices:
                matched = {pattern}
            elif self._options.ignore_unavailable or without or (yield from self._is_source(pattern)):
                matched = set()  # an index that holds nothing rolled up is left out
            else:
                raise job_errors.no_such_index(pattern)
            if without:
                names -= matched
            else:
                names |= matched
            yield
        return names

    def _matching(self, pattern: str) -> Work[Set[str]]:
        if pattern in EVERYTHING:
            return self._indices
        glob = Glob.of(pattern)
        self._count(glob.steps * len(self._indices))
        matched = set()
        for index in self._indices:
            if glob.matches(index):
                matched.add(index)
            yield
        return matched

    def _is_source(self, name: str) -> Work[bool]:
        if name in self._sources:
            return True
        if self._globs is None:
            self._globs = yield from each(Glob.of, [source for source in self._sources if "*" in source])
        self._count(sum(glob.steps for glob in self._globs))
        for glob in self._globs:
            if glob.matches(name):
                return True
            yield
        return False

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MOST_STEPS:
            raise errors.illegal_argument(
                f"[index] takes more than [{MOST_STEPS}] comparisons with the names of the jobs' indices, which is the "
                "limit; give fewer names, or names with fewer wildcards"
            )
