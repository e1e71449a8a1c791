"""The second listener: metrics and probes on a separate port, without TLS and without tokens.

A caller who reaches it can read names, states and counters of jobs, nothing else, and can change nothing: neither a
Prometheus nor a kubelet sends a token that could be reviewed. A NetworkPolicy limits who reaches it.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from rollup_operator.http.listener.connections import Limits, has_room
from rollup_operator.http.listener.probes import Found, add_probes
from rollup_operator.http.listener.server import GOODBYE_SECONDS, CannotListen, LimitedSite, listening
from rollup_operator.settings import Settings

Scrape = Callable[[], Awaitable[bytes]]
"""Makes the text of all metrics, in Prometheus' format."""

LIMITS = Limits(connections=256, line=8_192, header=16_384, head_seconds=10.0, idle_seconds=20.0)
"""Whoever connects says what he wants at once: a kubelet, a Prometheus."""

HEADERS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


class MetricsListener:
    """Serves on settings.metrics_port, where that is set. Life: `start`, then `close`."""

    def __init__(
        self, settings: Settings, scrape: Scrape, live: Callable[[], Found], ready: Callable[[], Found]
    ) -> None:
        self._settings = settings
        app = metrics_app(scrape, live, ready)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=GOODBYE_SECONDS)

    async def start(self) -> None:
        """Listen. Raises CannotListen, with nothing left open."""
        host, port = self._settings.metrics_host, self._settings.metrics_port
        if not port:
            return
        try:
            with listening("metrics", host, port):
                await self._runner.setup()
                await LimitedSite(self._runner, host, port, LIMITS).start()
        except CannotListen:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop listening, finish current answers."""
        await self._runner.cleanup()


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
