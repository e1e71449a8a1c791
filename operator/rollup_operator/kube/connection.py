"""The connection to the API server as a client session: what a kubeconfig or a pod says, prepared for aiohttp."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from rollup_operator.kube.credentials import NoConnection
from rollup_operator.net.aiohttp_private.client import SparingConnector
from rollup_operator.net.client_session import client_session, repeat_read
from rollup_operator.net.hosts import is_loopback

__all__ = ["Connection", "NoConnection"]

KEEP_SECONDS = 10.0
"""How long a connection without requests is kept, at most twice as long. One of TLS takes memory in hundreds of pieces,
each of which keeps a page of it, though all else there was freed."""


@dataclass(frozen=True)
class Connection:
    """Everything that a client session needs."""

    server: str
    ssl: ssl.SSLContext
    middlewares: Sequence[aiohttp.ClientMiddlewareType] = ()
    namespace: str = "default"
    proxy: str | None = None
    login: aiohttp.ClientMiddlewareType | None = None
    """The middleware with the user's credentials; None: a certificate, or none, or impersonation."""

    def session(self, *, connections: int, traces: Sequence[aiohttp.TraceConfig] = ()) -> aiohttp.ClientSession:
        """Open a session of its own, closed by the caller. Requests have no total limit of time.

        A write is sent once. A read is sent again, over another connection, when its connection breaks.
        Paths are relative to the server, without a leading slash: its URL may have a path of its own.
        """
        return client_session(
            base_url=f"{self.server.rstrip('/')}/",
            connector=SparingConnector(ssl=self.ssl, limit=connections, keepalive_timeout=KEEP_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            middlewares=(*self.middlewares, repeat_read),
            proxy=self.proxy,
            trace_configs=list(traces),
        )


def proxy_of(server: str, configured: str | None = None) -> str | None:
    """Return the proxy to use: the cluster's own, else the environment's as its NO_PROXY allows.

    Raises NoConnection for one that cannot be used.
    """
    url = urlsplit(server)
    if configured:
        if urlsplit(configured).scheme not in ("http", "https"):
            raise NoConnection(f"proxy-url {configured!r} of the kubeconfig is not supported: only http and https are")
        return configured
    found: Mapping[str, str] = getproxies()
    host = url.hostname or ""
    return None if is_loopback(host) or proxy_bypass(url.netloc) else found.get(url.scheme)
