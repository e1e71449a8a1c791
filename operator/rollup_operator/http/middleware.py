"""What happens to every request before its call: the caller must be known."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from rollup_operator.http import errors
from rollup_operator.http.access import CALLER, Access

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that answer anybody: a kubelet has no token."""


def authentication(access: Access) -> Middleware:
    """Return the middleware that lets in only requests whose caller is known, and notes the caller."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in OPEN:
            authorization = request.headers.get("Authorization")
            if authorization is None:
                raise errors.missing_credentials(request.path_qs)
            request[CALLER] = await access.identify(authorization)
        return await handler(request)

    return authenticate
