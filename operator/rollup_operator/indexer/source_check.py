"""Checks that a job's source is there and has the fields that the job names. Reads descriptions only, and no rows.

A job is checked when it is created or previewed through the HTTP API, and when it is started, before its first run.
"""

import asyncio

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.source_rules import BrokenRule, check_rules
from rollup_operator.stores.base import Store
from rollup_operator.stores.errors import SourceInvalid

MANY = 1000
"""Fields of a source, from which on a thread compares them with what the job names."""


async def find_broken_rules(store: Store, spec: RollupJobSpec, *, uid: str | None = None) -> list[BrokenRule]:
    """Return the rules that a job's source breaks.

    `uid` names the job if it exists: if the call is cancelled, it ends once nothing of it is in progress in the store.

    Raises SourceNotFound, ForbiddenSource, SourceInvalid, StoreUnavailable.
    """
    fields = await store.fields(spec.index_pattern, spec.rollup_index, spec, uid=uid)
    return check_rules(spec, fields) if len(fields) < MANY else await asyncio.to_thread(check_rules, spec, fields)


async def check_source(store: Store, spec: RollupJobSpec, *, uid: str) -> None:
    """Return if the job `uid` can roll up its source. Raises what `find_broken_rules` raises."""
    if broken := await find_broken_rules(store, spec, uid=uid):
        raise SourceInvalid(f"spec.indexPattern {spec.index_pattern!r}: {'; '.join(rule.manifest for rule in broken)}")
