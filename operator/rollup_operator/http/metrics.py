"""The second listener: metrics and probes on a port of their own, without TLS and without tokens.

Whoever reaches it can read names, states and counters of jobs, nothing else, and change nothing: neither a Prometheus
nor a kubelet brings a token that could be asked about. A NetworkPolicy says who reaches it.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from rollup_operator.http.health import Found, add_probes
from rollup_operator.http.middleware import Handler, has_room

Scrape = Callable[[], Awaitable[bytes]]
"""Makes the text of all metrics, in Prometheus' format."""

HEADERS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


def metrics_app(scrape: Scrape, live: Callable[[], Found], ready: Callable[[], Found]) -> web.Application:
    """Return what the second listener serves: /metrics, /healthz and /readyz."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=await scrape(), headers=HEADERS)

    app = web.Application(middlewares=[_admission])
    app.router.add_get("/metrics", metrics)
    add_probes(app.router, live, ready)
    return app


@web.middleware
async def _admission(request: web.Request, handler: Handler) -> web.StreamResponse:
    if has_room(request):
        return await handler(request)
    response = web.Response(status=503, text="Too many connections")
    response.force_close()
    return response
