"""The context of one call that stops or starts jobs: its caller, its time, and the warnings for its answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp import web

from rollup_operator.http.access.permits import Permit
from rollup_operator.http.protocol.answers import warning_value

ARRIVED: web.RequestKey[float] = web.RequestKey("arrived", float)
"""When the request came, by the event loop's clock."""

SHOWN = 5
"""A warning about many jobs names no more of them than this."""


@dataclass(frozen=True, slots=True)
class Call:
    """What stopping and starting need of a request."""

    text: str
    """The request. The same text from the same caller is a repeat of the call."""
    permit: Permit
    """The caller and their permit."""
    owned: dict[str, list[str]] = field(default_factory=dict)
    """Ids of jobs whose desired state was changed although others own it, by owner."""


OWNED: web.RequestKey[dict[str, list[str]]] = web.RequestKey("owned", dict[str, list[str]])
"""`Call.owned` of the request's call: its answer, whatever that is, warns of it."""


@web.middleware
async def noted(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Note when a request arrived, and add the warnings of its call to the answer. The outermost middleware."""
    request[ARRIVED], request[OWNED] = asyncio.get_running_loop().time(), {}
    response = await handler(request)
    owned: dict[str, list[str]] = request[OWNED]
    for text in warnings(owned):
        response.headers.add("Warning", warning_value(text))
    return response


def warnings(owned: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the warnings, one sentence for each owner."""
    return [
        f"spec.desiredState of {_named(ids)} is owned by [{owner}], which may undo this at its next sync: "
        "leave desiredState out of Git to let this API decide"
        for owner, ids in owned.items()
    ]


def _named(ids: Sequence[str]) -> str:
    if len(ids) == 1:
        return f"rollup job [{ids[0]}]"
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"{len(ids)} rollup jobs ({', '.join(f'[{job_id}]' for job_id in ids[:SHOWN])}{more})"
