"""What happens to every request before its call: there is room for it, and its caller is known."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from rollup_operator.http import errors
from rollup_operator.http.access import CALLER, Access
from rollup_operator.http.connections import Connection

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that answer anybody, at any time: a kubelet has no token."""


@web.middleware
async def admission(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Send away requests on connections above the limit. Raises ApiError 503."""
    if not has_room(request):
        raise errors.unavailable("Too many connections; nothing was changed", closes=True)
    return await handler(request)


def has_room(request: web.Request) -> bool:
    """Take in that a request has come on its connection, and return whether it is to be answered."""
    connection = request.protocol
    if not isinstance(connection, Connection):
        return True
    connection.heard()
    return not connection.crowded or request.path in OPEN


def authentication(access: Access) -> Middleware:
    """Return the middleware that lets in only requests whose caller is known, and notes the caller."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in OPEN:
            given = request.headers.getall("Authorization", [])
            if not given:
                raise errors.missing_credentials(request.path_qs)
            if len(given) > 1:  # who judges another one than we do would let in somebody else
                raise errors.ambiguous_credentials()
            caller = request[CALLER] = await access.identify(given[0], request.remote or "")
            if isinstance(request.protocol, Connection) and not request.protocol.known(caller.name):
                raise errors.too_many("This user has as many connections as one may have", closes=True)
        return await handler(request)

    return authenticate
