"""Calls with bodies to an endpoint over the doubles, and what to look for in their errors."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from rollup_operator.http.access.permits import Access
from support import serving
from support.http_double import Cluster
from support.serving import Client, error

__all__ = ["Client", "call", "deepest", "error", "served"]


@asynccontextmanager
async def served(cluster: Cluster, access: Access | None = None, **settings: Any) -> AsyncIterator[Client]:
    """Serve the cluster; the client speaks to it."""
    async with serving.served(cluster, access=access, **settings) as endpoint, serving.calling(endpoint) as client:
        yield client


async def call(client: Client, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
    """Send one request, with a body as JSON if one is given; return status and body of the answer."""
    if body is not None:
        more["data"] = json.dumps(body)
        more["headers"] = {"Content-Type": "application/json", **more.get("headers", {})}
    return await serving.call(client, method, path, **more)


def deepest(answer: Any) -> dict[str, Any]:
    """The innermost cause of an error."""
    cause = answer["error"]
    while "caused_by" in cause:
        cause = cause["caused_by"]
    return {"type": cause["type"], "reason": cause["reason"]}
