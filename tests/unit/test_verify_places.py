"""Verifications by spec.verify share the places of the process: a cluster that is away keeps none of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from rollup_operator.lifecycle.jobs import verify_task
from rollup_operator.lifecycle.jobs.verify_task import VERIFICATIONS_AT_ONCE, VerifyWork
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.job_view import JobView
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.sharing.shares import Shares
from rollup_operator.stores.errors import StoreUnavailable
from support.embedded import spec


class Away:
    """A cluster that does not answer. What was asked may still be in progress there, so a verification does not end."""

    @asynccontextmanager
    async def verification(self, *_: object, awaited: bool) -> AsyncIterator["Away"]:
        assert awaited
        try:
            yield self
        finally:
            await asyncio.Event().wait()

    async def begin(self, _: object) -> None:
        raise StoreUnavailable("it does not answer")


class Stores:
    """One cluster is away, and the others can be used no more than that."""

    async def open(self, key: tuple[str, str]) -> Away:
        if key[1] == "away":
            return Away()
        raise StoreUnavailable("it says so at once")


def begin(places: Shares, namespace: str, count: int, store: str) -> Sequence[VerifyWork]:
    raw = spec().model_dump(mode="json", by_alias=True, exclude_none=True)
    raw |= {"storeRef": {"name": store}, "verify": {"cron": "0 0 3 * * ?"}}
    status = {"state": "started", "observedGeneration": 1, "watermark": "2026-01-01T11:00:00Z"}
    books: Any = Stores()
    begun = []
    for n in range(count):
        uid = f"{namespace}-{store}-{n}"
        meta = {"uid": uid, "namespace": namespace, "name": uid, "generation": 1, "resourceVersion": "1"}
        config = JobConfig(uid, RollupJobSpec.model_validate(raw), Owner("here", namespace, uid, uid), "hash")
        view = JobView.of({"metadata": meta, "spec": raw, "status": status})
        begun.append(verify_task.begin(view, config, books=books, places=places, now=lambda: datetime.now(UTC)))
    return begun


async def test_a_verification_whose_cluster_is_away_waits_without_a_place() -> None:
    places = Shares(VERIFICATIONS_AT_ONCE)
    waiting = [work for namespace in "abc" for work in begin(places, namespace, 3, "away")]
    others = [work for namespace in "ad" for work in begin(places, namespace, 1, "other")]
    async with asyncio.timeout(10):
        await asyncio.wait({work.task for work in others})
    assert not any(work.task.done() for work in waiting)
    assert places.taken == 0
    for work in waiting:
        work.task.cancel()
    await asyncio.wait({work.task for work in waiting})
