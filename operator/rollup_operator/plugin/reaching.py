"""The way to the operator's endpoint, with the caller's own token.

::

    command ──▶ --url, or forward: kubectl port-forward ──▶ the operator's Service
"""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from rollup_operator.kube.client import KubeClient, KubeError
from rollup_operator.kube.connection import NoConnection, proxy_of
from rollup_operator.kube.credentials import bearer
from rollup_operator.kube.kubeconfig import find_connection
from rollup_operator.kube.paths import InvalidName, account_token_path
from rollup_operator.kube.secrets import read_secret
from rollup_operator.model.names import is_name, is_namespace
from rollup_operator.net.hosts import is_loopback
from rollup_operator.net.tls import verifying
from rollup_operator.plugin.cluster import NamespaceClient
from rollup_operator.plugin.forward import PortForward
from rollup_operator.plugin.outcome import Code, Failure, Where

TOKEN = "ROLLUP_TOKEN"  # noqa: S105  # the name of a variable
CERTIFICATE = "rollup-operator-tls"
"""The Secret whose ca.crt is trusted where --ca names no file, and the caller may read it."""
TOKEN_SECONDS = 600
"""Life of a service account's token, the shortest that Kubernetes gives."""


@dataclass(frozen=True)
class EndpointAddress:
    """Where the operator's endpoint is, as the command line has it."""

    url: str | None
    """None: a port-forward to the Service leads there."""
    authority: str | None
    """File of the certificate authority; None: the operator's own behind a port-forward, else those of the system."""
    service: str
    """NAMESPACE/NAME."""
    account: str | None = None
    """The service account to log in as; None: with the caller's own token."""

    def check(self) -> None:
        """Raise Failure for what is no address, or would show the token."""
        if not self.url:
            namespace, _, service = self.service.partition("/")
            if not (is_namespace(namespace) and is_name(service)):
                raise Failure(Code.USAGE, "Usage", f"--service {self.service!r}: write NAMESPACE/NAME")
            return
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failure(Code.USAGE, "Usage", f"--url {self.url!r} is no URL: write https://HOST:PORT")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise Failure(Code.USAGE, "Usage", f"--url {self.url!r} would send your token unencrypted: use https://")

    def trust(self) -> ssl.SSLContext:
        """Return whose certificates count. Raises Failure for a file without an authority."""
        try:
            return verifying(cafile=self.authority)
        except (OSError, ValueError) as e:
            raise Failure(Code.USAGE, "Usage", f"--ca {self.authority}: {e}") from e


@dataclass(frozen=True)
class ReachedEndpoint:
    """The operator's endpoint, for as long as the way to it is open."""

    url: Callable[[], str]
    """Its URL as it is now, without a slash at the end: a port-forward changes its port when it begins again."""
    how: Mapping[str, Any]
    """How to connect: aiohttp's options of a request."""
    login: aiohttp.ClientMiddlewareType | None
    """Adds the caller's token; None: there is none."""


@asynccontextmanager
async def reached(where: Where, address: EndpointAddress) -> AsyncIterator[ReachedEndpoint]:
    """Open the way to the endpoint. Raises Failure."""
    address.check()
    if address.url and address.account is None:
        url = address.url.rstrip("/")
        try:
            how = {"ssl": address.trust(), "proxy": proxy_of(url)}
        except NoConnection as e:
            raise Failure(Code.USAGE, "Usage", str(e)) from e
        yield ReachedEndpoint(lambda: url, how, own_login(where))
        return
    async with NamespaceClient.open(where) as kube:
        login = own_login(where) if address.account is None else AccountLogin(kube, address.account)
        if address.url:
            async with reached(where, EndpointAddress(address.url, address.authority, address.service)) as endpoint:
                yield ReachedEndpoint(endpoint.url, endpoint.how, login)
            return
        namespace, _, service = address.service.partition("/")
        tls = address.trust() if address.authority else await _authority(kube.kube, namespace)
        async with PortForward(where, namespace, service, "https").opened() as forward:
            how = {"ssl": tls, "server_hostname": f"{service}.{namespace}.svc"}
            yield ReachedEndpoint(lambda: f"https://127.0.0.1:{forward.port}", how, login)


async def _authority(kube: KubeClient, namespace: str) -> ssl.SSLContext:
    """Trust the authority in the operator's own Secret; where the caller may not read it, those of the system."""
    try:
        found = (await read_secret(kube, namespace, CERTIFICATE))["data"].get("ca.crt", b"")
        return verifying(cadata=found.decode()) if found else verifying()
    except (KubeError, ValueError, ssl.SSLError):
        return verifying()


def untrusted(error: aiohttp.ClientConnectorCertificateError) -> Failure:
    """Say that the endpoint's certificate is not trusted, and what to do."""
    return Failure(
        Code.FAILED,
        "Untrusted",
        f"the endpoint's certificate is not trusted: {error.certificate_error}. Write its authority into a file and "
        f"name it with --ca: kubectl -n rollup-operator get secret {CERTIFICATE} "
        "-o jsonpath='{.data.ca\\.crt}' | base64 -d > ca.crt",
    )


def own_login(where: Where) -> aiohttp.ClientMiddlewareType | None:
    """Return what sends the caller's token: that of the environment, else the kubeconfig's; None: there is none."""
    if token := os.environ.get(TOKEN):
        return bearer(token)
    try:
        return find_connection(*where[:2]).login
    except NoConnection:
        return None


class AccountLogin:
    """Sends a token of a service account, requested before its predecessor ends: TokenRequest, ten minutes each."""

    def __init__(self, kube: NamespaceClient, account: str) -> None:
        """`account` is a name in the client's namespace, or NAMESPACE/NAME. Raises Failure for what is none."""
        namespace, _, name = account.rpartition("/")
        try:
            self._path = account_token_path(namespace or kube.namespace, name)
        except InvalidName as e:
            raise Failure(Code.USAGE, "Usage", f"--service-account {account!r}: {e}") from e
        self._kube, self._account = kube.kube, account
        self._token, self._until = "", 0.0
        self._turn = asyncio.Lock()

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Add the token, then go on. Raises Failure where the API server gives none."""
        async with self._turn:
            if time.monotonic() >= self._until:
                self._token = await self._request()
                self._until = time.monotonic() + TOKEN_SECONDS * 0.8
        return await bearer(self._token)(request, handler)

    async def _request(self) -> str:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        }
        try:
            return str((await self._kube.post(self._path, body))["status"]["token"])
        except KubeError as e:
            cure = ": ask for the verb create on serviceaccounts/token" if e.status == 403 else ""
            raise Failure(
                Code.FAILED, e.reason, f"no token for service account {self._account}: {e.message}{cure}"
            ) from e
