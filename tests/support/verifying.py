"""Verifies a job of a store as the endpoint does."""

import asyncio
from collections import Counter
from collections.abc import Collection

from rollup_operator.indexer.verify import Verified, Verifier
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.comparison import Kind
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Store
from support.rounding import HOUR

UNTIL_NOW = Span(0, 500_000 * HOUR)
"""Everything up to some day in 2027."""


def verifier(store: Store, of: JobConfig, fields: Collection[str] | None = None, *, awaited: bool = False) -> Verifier:
    return Verifier(of.spec.groups.date_histogram, lambda: store.verification(of, fields, awaited=awaited))


async def verified(
    store: Store,
    of: JobConfig,
    *,
    span: Span = UNTIL_NOW,
    full: bool | None = None,
    fields: Collection[str] | None = None,
) -> Verified:
    return await verifier(store, of, fields).verify(span, full=full)


async def begun(checking: Verifier, task: asyncio.Future[Verified]) -> None:
    """Return once buckets are compared, and not all of them yet."""
    while not checking.progress.compared_ms and not task.done():  # noqa: ASYNC110 - it announces nothing
        await asyncio.sleep(0)
    assert not task.done()
    assert checking.progress.compared_ms < checking.progress.span_ms


def kinds(found: Verified) -> Counter[Kind]:
    """How many buckets of each kind are not as they should be."""
    return Counter() if found.findings is None else found.findings.kinds
