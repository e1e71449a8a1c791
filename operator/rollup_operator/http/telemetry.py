"""Tells a watcher of every call, probes apart: which deed, how it ended, how long it took."""

import time

from aiohttp import web
from aiohttp.typedefs import Middleware

from rollup_operator.http.access.audit import GONE
from rollup_operator.http.access.authentication import OPEN, Handler, route_of
from rollup_operator.http.access.permits import Deed
from rollup_operator.http.ports import Watcher


def watched(watcher: Watcher) -> Middleware:
    """Return the middleware. Paths that do not exist count as `get`."""

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN:
            return await handler(request)
        route = route_of(request)
        deed = (Deed.GET if route is None else route.deed).value
        began, code = time.monotonic(), GONE
        try:
            with watcher.request(deed, request.headers):
                response = await handler(request)
            code = response.status
            return response
        except Exception:
            code = 500  # a mistake of ours in making the answer
            raise
        finally:
            watcher.answered(deed, code, time.monotonic() - began)

    return watch
