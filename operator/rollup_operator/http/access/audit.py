"""The audit log: one line for each call that starts, stops, creates or deletes a job, or purges its documents.

A line names the user and the request id, the action, the namespace, the id as given and the resources that it meant,
the peer, and the result. It never holds a token or a body.
"""

import secrets
import time

import structlog
from aiohttp import web

from rollup_operator.http.access.authentication import Handler, namespace_of, route_of
from rollup_operator.http.access.permits import CALLER, PERMIT, EndpointAction

log = structlog.get_logger("rollup_operator.audit")

REQUEST_ID = "X-Request-Id"
"""Header of the answer: identifies its line in the log."""

GONE = 499
"""Status in the log for a client that hung up. Its request may stand."""

LONGEST = 256
"""The number of characters of a client's text that are logged."""

MOST_RESOURCES = 100
"""The number of names in a line about all jobs."""


@web.middleware
async def audit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write the log."""
    route = route_of(request)
    if route is None or route.action in (EndpointAction.GET, EndpointAction.SEARCH, EndpointAction.VERIFY):
        return await handler(request)
    began, identity, status = time.monotonic(), secrets.token_hex(8), GONE
    try:
        with structlog.contextvars.bound_contextvars(request_id=identity):
            response = await handler(request)
        status = response.status
        response.headers[REQUEST_ID] = identity
        return response
    except Exception:
        status = 500  # a mistake of ours in making the answer
        raise
    finally:
        caller, permit = request.get(CALLER), request.get(PERMIT)
        granted = permit.granted if permit is not None else []
        log.info(
            "audit",
            request_id=identity,
            user=None if caller is None else caller.name,
            action=route.action.value,
            namespace=_clean(namespace_of(request)),
            job=_clean(request.match_info.get("id", "")),
            resources=granted[:MOST_RESOURCES],
            resources_count=len(granted),
            peer=request.remote,
            opaque_id=_clean(request.headers.get("X-Opaque-Id", "")),
            status=status,
            seconds=round(time.monotonic() - began, 3),
        )


def _clean(text: str) -> str:
    """Return what may be in a log: a client's text could control a terminal."""
    text = text[:LONGEST]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
