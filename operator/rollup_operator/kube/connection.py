"""How to reach the API server: from a kubeconfig, or from within a pod."""

import base64
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from rollup_operator.client_session import client_session, repeat_read
from rollup_operator.kube.credentials import BearerToken, NoConnection, ServerName, basic, impersonation
from rollup_operator.kube.exec_plugin import exec_plugin
from rollup_operator.kube.kubeconfig import Chosen, choose, files_named

__all__ = ["Connection", "NoConnection", "from_kubeconfig", "from_service_account"]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Connection:
    """Everything that a client session needs."""

    server: str
    ssl: ssl.SSLContext
    middlewares: Sequence[aiohttp.ClientMiddlewareType] = ()
    namespace: str = "default"
    proxy: str | None = None
    login: aiohttp.ClientMiddlewareType | None = None
    """How the user says who it is; None: by certificate or not at all, or it acts as somebody else."""

    def session(self, *, connections: int, traces: Sequence[aiohttp.TraceConfig] = ()) -> aiohttp.ClientSession:
        """Open a session of its own, closed by the caller. Requests have no total limit of time.

        A write is sent once. A read is sent again, over another connection, when its connection breaks.
        Paths are relative to the server, without a leading slash: its URL may have a path of its own.
        """
        return client_session(
            base_url=f"{self.server.rstrip('/')}/",
            connector=aiohttp.TCPConnector(ssl=self.ssl, limit=connections, keepalive_timeout=80),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            middlewares=(*self.middlewares, repeat_read),
            proxy=self.proxy,
            trace_configs=list(traces),
        )

    @classmethod
    def find(cls, kubeconfig: str | None = None, context: str | None = None) -> "Connection":
        """Use `kubeconfig`, else the files of $KUBECONFIG, else ~/.kube/config, else the pod's service account.

        Raises NoConnection saying what was looked for.
        """
        if kubeconfig:
            return from_kubeconfig(Path(kubeconfig), context=context)
        if files := files_named(os.environ.get("KUBECONFIG", "")):
            return from_kubeconfig(*files, context=context)
        home = Path.home() / ".kube" / "config"
        if home.exists():
            return from_kubeconfig(home, context=context)
        if (SERVICE_ACCOUNT / "token").exists():
            return from_service_account()
        raise NoConnection(
            "no API server is known: set KUBECONFIG or --kubeconfig, or run in a pod with a service account"
        )


def from_service_account() -> Connection:
    """Connect as the pod's service account."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    login = BearerToken(file=SERVICE_ACCOUNT / "token")
    return Connection(
        server=f"https://{host}:{port}",
        ssl=verifying(cafile=str(SERVICE_ACCOUNT / "ca.crt")),
        middlewares=(login,),
        namespace=(SERVICE_ACCOUNT / "namespace").read_text().strip(),
        login=login,
    )


def from_kubeconfig(*files: Path, context: str | None = None) -> Connection:
    """Connect as kubeconfigs say: with a token, a client certificate, a password or a command that logs in.

    Raises NoConnection for a file or a way of logging in that cannot be used.
    """
    chosen = choose(files, context)
    cluster, server = chosen.cluster, str(chosen.cluster["server"])
    if urlsplit(server).scheme not in ("https", "http"):
        raise NoConnection(f"context {chosen.name!r} of the kubeconfig: the server {server!r} is no https:// URL")
    tls = _tls(chosen)
    name, other, login = cluster.get("tls-server-name"), impersonation(chosen.user), _login(chosen, tls)
    # Who logs in comes last: it may send the request twice.
    found = (ServerName(name) if name else None, other, login)
    return Connection(
        server=server,
        ssl=tls,
        middlewares=tuple(middleware for middleware in found if middleware is not None),
        namespace=chosen.namespace,
        proxy=proxy_of(server, cluster.get("proxy-url")),
        login=login if other is None else None,
    )


def _login(chosen: Chosen, tls: ssl.SSLContext) -> aiohttp.ClientMiddlewareType | None:
    """Return the user's way of logging in, by kubectl's order of precedence; None: by certificate, or not at all."""
    user = chosen.user
    if file := user.get("tokenFile"):
        return BearerToken(file=Path(file))
    if token := user.get("token"):
        return BearerToken(token)
    if name := user.get("username"):
        return basic(name, user.get("password") or "")
    if said := user.get("exec"):
        return exec_plugin(chosen.user_name, said, chosen.cluster, install=lambda pair: _load_pair(tls, pair.encode()))
    if "auth-provider" in user:
        raise NoConnection(
            f"user {chosen.user_name!r} of the kubeconfig logs in through an auth-provider, which kubectl has given "
            "up: use its successor, an exec plugin, or a token (kubectl create token)"
        )
    return None


def _tls(chosen: Chosen) -> ssl.SSLContext:
    cluster, user = chosen.cluster, chosen.user
    try:
        if cluster.get("insecure-skip-tls-verify"):
            context = verifying()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif data := cluster.get("certificate-authority-data"):
            context = verifying(cadata=base64.b64decode(data).decode())
        else:
            context = verifying(cafile=cluster.get("certificate-authority"))
        if certificate := _pem(user, "client-certificate"):
            _load_pair(context, certificate + b"\n" + _pem(user, "client-key"))
    except (OSError, ValueError) as e:  # ssl.SSLError is an OSError
        raise NoConnection(f"context {chosen.name!r} of the kubeconfig: a certificate cannot be used: {e}") from e
    return context


def _pem(user: Mapping[str, Any], field: str) -> bytes:
    if data := user.get(f"{field}-data"):
        return base64.b64decode(data)
    return Path(user[field]).read_bytes() if user.get(field) else b""


def verifying(**authority: Any) -> ssl.SSLContext:
    """Return a context that checks the server's certificate. Raises OSError for an authority that cannot be read."""
    context = ssl.create_default_context(**authority)
    # From Python 3.13 on the default refuses certificates without key identifiers, which many clusters' are.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _load_pair(context: ssl.SSLContext, pem: bytes) -> None:
    # The ssl module reads key pairs from files only.
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(pem)
        pair.flush()
        context.load_cert_chain(pair.name)


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


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
