"""Tells a watcher of every call, probes apart: which deed, how it ended, how long it took."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from rollup_operator.http.access import Deed
from rollup_operator.http.audit import GONE
from rollup_operator.http.middleware import OPEN, Handler
from rollup_operator.http.ports import Watcher


def watched(watcher: Watcher, deeds: Mapping[Callable[..., Any], Deed]) -> Middleware:
    """Return the middleware; `deeds` tells which handlers do what. All others count as `get`."""

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN:
            return await handler(request)
        deed = deeds.get(request.match_info.handler, Deed.GET).value
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
