"""How to reach the API server: from a kubeconfig, or from within a pod."""

import base64
import os
import ssl
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_LIFE = 60.0
"""Seconds until a token file is read again: projected tokens rotate."""


class NoConnection(ValueError):
    """The kubeconfig cannot be used; the text says what is missing."""


class BearerToken:
    """Middleware that sends a token, read again from its file now and then."""

    def __init__(self, token: str | None = None, file: Path | None = None) -> None:
        self._token, self._file, self._read_at = token, file, float("-inf")

    def current(self) -> str:
        """Return the token to send now. Raises OSError when its file cannot be read."""
        if self._file is not None and time.monotonic() - self._read_at > TOKEN_LIFE:
            self._token, self._read_at = self._file.read_text().strip(), time.monotonic()
        return self._token or ""

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Add the header, then go on."""
        request.headers["Authorization"] = f"Bearer {self.current()}"
        return await handler(request)


@dataclass(frozen=True)
class Connection:
    """Everything that a client session needs."""

    server: str
    ssl: ssl.SSLContext
    middlewares: Sequence[aiohttp.ClientMiddlewareType] = ()
    namespace: str = "default"

    def session(self, *, connections: int) -> aiohttp.ClientSession:
        """Open a session of its own, closed by the caller. Requests have no total limit of time."""
        return aiohttp.ClientSession(
            self.server,
            connector=aiohttp.TCPConnector(ssl=self.ssl, limit=connections, keepalive_timeout=80),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            middlewares=self.middlewares,
        )

    @classmethod
    def find(cls, kubeconfig: str | None = None, context: str | None = None) -> "Connection":
        """Use `kubeconfig`, else $KUBECONFIG, else the pod's service account, else ~/.kube/config.

        Raises NoConnection saying what was looked for.
        """
        given = kubeconfig or os.environ.get("KUBECONFIG")
        if given:
            return from_kubeconfig(Path(given.split(os.pathsep)[0]), context)
        if (SERVICE_ACCOUNT / "token").exists():
            return from_service_account()
        home = Path.home() / ".kube" / "config"
        if home.exists():
            return from_kubeconfig(home, context)
        raise NoConnection(
            "no API server is known: set KUBECONFIG or --kubeconfig, or run in a pod with a service account"
        )


def from_service_account() -> Connection:
    """Connect as the pod's service account."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    return Connection(
        server=f"https://{host}:{port}",
        ssl=ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt")),
        middlewares=(BearerToken(file=SERVICE_ACCOUNT / "token"),),
        namespace=(SERVICE_ACCOUNT / "namespace").read_text().strip(),
    )


def from_kubeconfig(path: Path, context: str | None = None) -> Connection:
    """Connect as a kubeconfig says: token, token file or client certificate.

    Raises NoConnection for a file or a way of logging in that cannot be used.
    """
    try:
        config = yaml.safe_load(path.read_text())
        name = context or config["current-context"]
        chosen = _named(config, "context", name)
        cluster = _named(config, "cluster", chosen["cluster"])
        user = _named(config, "user", chosen["user"])
        server = cluster["server"]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as e:
        raise NoConnection(f"kubeconfig {path} cannot be used: {e!r}") from e
    if "exec" in user or "auth-provider" in user:
        raise NoConnection(
            f"kubeconfig {path}: user {chosen['user']!r} logs in through a plugin, which is not supported here; "
            "use a token (kubectl create token) or a client certificate"
        )
    here = path.parent
    return Connection(
        server=server,
        ssl=_ssl_context(cluster, user, here),
        middlewares=_middlewares(user, here),
        namespace=chosen.get("namespace", "default"),
    )


def _named(config: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    for entry in config.get(f"{kind}s") or ():
        if entry.get("name") == name:
            found: dict[str, Any] = entry[kind]
            return found
    raise KeyError(f"no {kind} named {name!r}")


def _middlewares(user: dict[str, Any], here: Path) -> tuple[aiohttp.ClientMiddlewareType, ...]:
    if "token" in user:
        return (BearerToken(user["token"]),)
    if "tokenFile" in user:
        return (BearerToken(file=here / user["tokenFile"]),)
    return ()


def _ssl_context(cluster: dict[str, Any], user: dict[str, Any], here: Path) -> ssl.SSLContext:
    if data := cluster.get("certificate-authority-data"):
        context = ssl.create_default_context(cadata=base64.b64decode(data).decode())
    elif file := cluster.get("certificate-authority"):
        context = ssl.create_default_context(cafile=str(here / file))
    else:
        context = ssl.create_default_context()
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if data := user.get("client-certificate-data"):
        # The ssl module reads key pairs from files only.
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(data) + b"\n" + base64.b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
    elif file := user.get("client-certificate"):
        context.load_cert_chain(str(here / file), str(here / user["client-key"]))
    return context
