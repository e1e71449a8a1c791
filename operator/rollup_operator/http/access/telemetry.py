"""Reports every call to telemetry, except probes: its action, its outcome, its duration."""

import time

from aiohttp import web
from aiohttp.typedefs import Middleware

from rollup_operator.http.access.audit import GONE
from rollup_operator.http.access.authentication import Handler, route_of
from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.listener.probes import OPEN
from rollup_operator.http.ports import EndpointTelemetry


def with_telemetry(telemetry: EndpointTelemetry) -> Middleware:
    """Return the middleware. Paths that do not exist count as `get`."""

    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN:
            return await handler(request)
        route = route_of(request)
        action = (EndpointAction.GET if route is None else route.action).value
        began, code = time.monotonic(), GONE
        try:
            with telemetry.request(action, request.headers):
                response = await handler(request)
            code = response.status
            return response
        except Exception:
            code = 500  # a mistake of ours in making the answer
            raise
        finally:
            telemetry.answered(action, code, time.monotonic() - began)

    return measure
