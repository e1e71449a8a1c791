"""Runs before the handler of every request: finds room for the request, identifies the caller, and authorizes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Middleware

from rollup_operator.http.access.permits import CALLER, PERMIT, Access, EndpointAction, Permit
from rollup_operator.http.listener.connections import connection_of, has_room
from rollup_operator.http.listener.probes import OPEN
from rollup_operator.http.protocol import errors

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table of routes."""

    method: str
    path: str
    """Without the namespace prefix and without a slash at its end."""
    action: EndpointAction
    """What the call does to jobs."""
    handler: Handler
    right: EndpointAction | None = None
    """The action that its caller needs a right to; None: the same."""
    is_open: bool = False
    """Whether it answers anybody."""


ROUTES: web.AppKey[Mapping[web.AbstractRoute, Route]] = web.AppKey("routes", Mapping[web.AbstractRoute, Route])
"""All rows, by the route that aiohttp finds for a request. Probes are not included."""

DEFAULT_NAMESPACE: web.AppKey[str] = web.AppKey("default namespace", str)
"""The namespace of paths without a namespace."""


def route_of(request: web.Request) -> Route | None:
    """Return the row of a request; None: it is a probe, or there is none."""
    return request.app[ROUTES].get(request.match_info.route)


def namespace_of(request: web.Request) -> str:
    """Return the namespace that a request is about."""
    return request.match_info.get("namespace", request.app[DEFAULT_NAMESPACE])


@web.middleware
async def admission(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests on connections above the limit. Raises ApiError 503."""
    if not has_room(request):
        raise errors.unavailable("Too many connections; nothing was changed", closes=True)
    return await handler(request)


def authentication(access: Access, credentials: Callable[[web.Request], Sequence[str]]) -> Middleware:
    """Return the middleware that admits only requests of known callers, and records the caller and their permit.

    `credentials` returns the values of `Authorization` that a request comes with.
    """

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = route_of(request)
        if request.path not in OPEN and not (route is not None and route.is_open):
            given = credentials(request)
            if not given:
                raise errors.missing_credentials(request.path_qs)
            if len(given) > 1:  # a proxy that checks another one than we do would admit somebody else
                raise errors.ambiguous_credentials()
            caller = request[CALLER] = await access.identify(given[0], request.remote or "")
            if (connection := connection_of(request)) is not None and not connection.known(caller.name):
                raise errors.too_many("This user has reached the limit of connections per user", closes=True)
            if route is not None:
                request[PERMIT] = Permit(access, caller, route.right or route.action, namespace_of(request))
        return await handler(request)

    return authenticate
