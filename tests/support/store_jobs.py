"""A cluster's client and jobs for tests that use the parts of a cluster's store directly."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from rollup_operator.stores.base import JobConfig, Owner
from rollup_operator.stores.opensearch import claims
from rollup_operator.stores.opensearch.client import Cluster
from rollup_operator.stores.opensearch.records import Record
from support.embedded import config, spec
from support.store_http import unique


@asynccontextmanager
async def connected(*urls: str, timeout: float = 30.0) -> AsyncIterator[Cluster]:
    """The client of the cluster behind these URLs."""

    async def make_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    cluster = Cluster(urls, make_session, timeout=timeout)
    try:
        yield cluster
    finally:
        await cluster.close()


def job(
    index: str | None = None, *, job_id: str = "job", uid: str = "1", hash_: str = "h", **changes: Any
) -> JobConfig:
    """A job that writes to `index`, or to one of its own."""
    return config(spec("events-*", index or unique("rolled"), **changes), job_id, uid, hash_)


def nobody(owner: Owner) -> bool:
    """No other owner lives."""
    return False


async def taken(
    cluster: Cluster, of: JobConfig, holder: str = "me", is_alive: Callable[[Owner], bool] = nobody
) -> Record:
    """Take the job's claim."""
    return await claims.take(cluster, of, holder, is_alive)
