"""An endpoint over the double of everything behind it, and a client that speaks to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web_app

from rollup_operator.http.access.permits import Access
from rollup_operator.http.app import Endpoint
from rollup_operator.http.listener.scrape import MetricsListener, Scrape
from rollup_operator.http.listener.tls import Certificate
from rollup_operator.settings import Settings
from rollup_operator.sharing.memory import Budgets
from support.access_double import AUTHORIZATION, Anybody
from support.http_double import Cluster

Client = aiohttp.ClientSession
Answer = tuple[int, Any]


@asynccontextmanager
async def served(
    cluster: Cluster,
    *,
    reads: Cluster | None = None,
    access: Access | None = None,
    scrape: Scrape | None = None,
    budgets: Budgets | None = None,
    accept_seconds: float = 0.0,
    answering: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> AsyncIterator[Endpoint]:
    """Serve the cluster to anybody, or to whom `access` lets in, with other settings than the defaults if need be.

    No operator takes in what calls record, so none waits for that unless the test says for how long.
    """
    of = Settings(**{"http_port": 0, "leader_election": False} | settings)
    endpoint = Endpoint(
        jobs=cluster,
        client=cluster,
        reads=reads,
        stores=cluster,
        access=access or Anybody(),
        events=cluster,
        settings=of,
        certificate=Certificate(Path(of.tls_cert_file), Path(of.tls_key_file)) if of.tls else None,
        budgets=budgets,
        accept_seconds=accept_seconds,
        answering=answering,
        health=cluster.health,
    )
    beside = MetricsListener(of, scrape or _nothing, endpoint.liveness, endpoint.readiness)
    try:
        await beside.start()
        await endpoint.start()
        yield endpoint
    finally:
        await beside.close()
        await endpoint.close()
        # aiohttp caches a thousand handlers with their applications. In tests those are many endpoints, with all behind
        # them, and each garbage collection of the tests that follow would walk them.
        web_app._cached_build_middleware.cache_clear()


async def _nothing() -> bytes:
    return b""


@asynccontextmanager
async def calling(endpoint: Endpoint, **more: Any) -> AsyncIterator[Client]:
    """A client with a token, and with as many connections as it likes."""
    connector = aiohttp.TCPConnector(limit=0)
    headers = AUTHORIZATION | more.pop("headers", {})
    async with Client(f"http://127.0.0.1:{endpoint.port}", connector=connector, headers=headers, **more) as client:
        yield client


async def call(client: Client, method: str, path: str, **more: Any) -> Answer:
    async with client.request(method, path, **more) as answer:
        assert answer.headers["X-Elastic-Product"] == "Elasticsearch"
        return answer.status, await answer.json(content_type=None)


def error(status: int, type_: str, reason: str) -> Answer:
    cause = {"type": type_, "reason": reason}
    return status, {"error": {"root_cause": [cause], **cause}, "status": status}


async def when_waiting(client: Client, count: int = 1) -> None:
    async with asyncio.timeout(5):
        while (await call(client, "GET", "/readyz"))[1]["waiters"] != count:
            pass
