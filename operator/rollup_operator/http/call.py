"""One call to stop or to start: who asks, since when, and what its answer is to warn of."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from aiohttp import web

from rollup_operator.http.access import Permit
from rollup_operator.http.answers import warning_value

ARRIVED: web.RequestKey[float] = web.RequestKey("arrived", float)
"""When the request came, by the event loop's clock."""

SHOWN = 5
"""A warning about many jobs names no more of them than this."""


@dataclass(frozen=True, slots=True)
class Call:
    """What stopping and starting need to know of a request."""

    text: str
    """What is asked for. The same text from the same caller is the same call, sent again."""
    permit: Permit
    """Who asks, and what they may."""
    owned: dict[str, list[str]] = field(default_factory=dict)
    """Ids of jobs whose desired state was changed although others own it, by owner."""

    @classmethod
    def of(cls, request: web.Request, text: str, permit: Permit) -> "Call":
        """Begin a call; its warnings will be on the request's answer, whatever that is."""
        call = request[CALL] = cls(text, permit)
        return call

    def warnings(self) -> list[str]:
        """Return what to warn of, in one sentence for each owner."""
        return [
            f"spec.desiredState of {_named(ids)} is owned by [{owner}], which may undo this at its next sync: "
            "leave desiredState out of Git to let this API decide"
            for owner, ids in self.owned.items()
        ]


CALL: web.RequestKey[Call] = web.RequestKey("call", Call)


@web.middleware
async def noted(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Note when a request arrived, and put on its answer what its call warns of. The outermost middleware."""
    request[ARRIVED] = asyncio.get_running_loop().time()
    response = await handler(request)
    if (call := request.get(CALL)) is not None:
        for text in call.warnings():
            response.headers.add("Warning", warning_value(text))
    return response


def _named(ids: Sequence[str]) -> str:
    if len(ids) == 1:
        return f"rollup job [{ids[0]}]"
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"{len(ids)} rollup jobs ({', '.join(f'[{job_id}]' for job_id in ids[:SHOWN])}{more})"
