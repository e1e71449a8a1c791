"""What happens to every request before its call: there is room for it, its caller is known, its body is here."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from rollup_operator.http import errors
from rollup_operator.http.access import CALLER, Access
from rollup_operator.http.connections import Connection
from rollup_operator.http.media_types import check_encoding

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
            authorization = request.headers.get("Authorization")
            if authorization is None:
                raise errors.missing_credentials(request.path_qs)
            request[CALLER] = await access.identify(authorization)
        return await handler(request)

    return authenticate


def whole_body(*, most: int, seconds: float) -> Middleware:
    """Return the middleware that reads the body first, so that no call waits for it: `request.read()` has it all.

    It raises ApiError 415 for a compression that is not known, 413 for more than `most` bytes, once inflated, and 408
    for one that is not here in time.
    """

    @web.middleware
    async def read(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.body_exists:
            check_encoding(request)
            if (request.content_length or 0) > most:
                raise errors.too_large(most)
            try:
                async with asyncio.timeout(seconds):
                    await request.read()
            except web.HTTPRequestEntityTooLarge:
                raise errors.too_large(most) from None
            except TimeoutError:
                raise errors.too_slow(seconds) from None
        return await handler(request)

    return read
