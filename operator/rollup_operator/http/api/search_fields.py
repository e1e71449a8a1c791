"""Which fields of a source can be asked about, given what its store holds of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.fields import Fields, fields_of
from rollup_operator.query.planning.planner import Live
from rollup_operator.query.sources import Logical, SearchedJob
from rollup_operator.stores.base import Store
from rollup_operator.stores.search import Tier


@dataclass(frozen=True, slots=True)
class Readable:
    """A source, with what its store holds of it now."""

    logical: Logical
    store: Store
    tiers: tuple[Tier, ...]
    live: Live | None
    """None: its rows are not asked for, or there are none any more."""


def tell_kinds(tiers: Sequence[Tier]) -> bool:
    """Whether something is rolled up, and each job knows what its groups hold: some do not before they have written."""
    return any(tier.begin_ms < tier.end_ms for tier in tiers) and all(
        tier.begin_ms < tier.end_ms
        or tier.kinds.keys() >= {*(tier.spec.groups.terms.fields if tier.spec.groups.terms else ())}
        for tier in tiers
    )


def fields_in(of: Readable) -> Fields:
    """Return the fields of a source that can be asked about."""
    return fields_of(of.tiers) if tell_kinds(of.tiers) or of.live is None else _kinds(of)


def _kinds(of: Readable) -> Fields:
    """Return what nothing is rolled up of yet will be asked by: the fields that the job names."""
    if of.live is None:
        return {}
    named = {field for job in of.logical.jobs for field in _named(job)}
    return {field: kind for field, kind in of.live.kinds.items() if field in named}


def spec_of(job: SearchedJob) -> RollupJobSpec:
    """Return the spec of a job. Raises SearchRefused."""
    try:
        return job.spec()
    except ValidationError as e:
        raise SearchRefused(f"The spec of job [{job.job_id}] cannot be read: kubectl rollup explain says why") from e


def _named(job: SearchedJob) -> list[str]:
    spec = spec_of(job)
    groups = spec.groups
    return [
        groups.date_histogram.field,
        *(groups.histogram.fields if groups.histogram else ()),
        *(groups.terms.fields if groups.terms else ()),
        *(metric.field for metric in spec.metrics),
    ]
