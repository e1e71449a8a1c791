"""`kubectl rollup ui`: the operator's page in a browser, with the caller's own rights.

::

    browser ──▶ local_proxy, 127.0.0.1 ── adds the token ──▶ forward: kubectl port-forward ──▶ the operator's Service
                                                      └──▶ or --url
"""

import asyncio
import signal
import ssl
import time
import webbrowser
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from rollup_operator.kube.client import KubeClient, KubeError
from rollup_operator.kube.connection import proxy_of
from rollup_operator.kube.credentials import bearer
from rollup_operator.kube.paths import InvalidName, account_token_path
from rollup_operator.kube.secrets import read_secret
from rollup_operator.model.names import is_name, is_namespace
from rollup_operator.net.tls import verifying
from rollup_operator.plugin.cluster import NamespaceClient
from rollup_operator.plugin.endpoint import TOKEN, EndpointAddress, own_login
from rollup_operator.plugin.forward import PortForward
from rollup_operator.plugin.local_proxy import LocalProxy
from rollup_operator.plugin.outcome import Code, Failure, Where
from rollup_operator.plugin.output import say

SERVICE = "rollup-operator/rollup-operator"
CERTIFICATE = "rollup-operator-tls"
"""The Secret whose ca.crt is trusted where --ca names no file, and the caller may read it."""
TOKEN_SECONDS = 600
"""Life of a service account's token, the shortest that Kubernetes gives."""
PATIENCE = 330.0
"""Seconds for an answer: longer than somebody may let the page wait for a stop."""


@dataclass(frozen=True)
class PageOptions:
    """What the command line says of the way to the page."""

    endpoint: EndpointAddress
    service: str
    account: str | None
    port: int
    browser: bool


async def show(where: Where, options: PageOptions) -> int:
    """Serve the page on this machine until Ctrl-C. Raises Failure."""
    path = f"/ui/namespaces/{where[2]}/jobs" if where[2] else "/ui/"
    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(NamespaceClient.open(where))
        login = _login(where, options.account, kube)
        upstream = await stack.enter_async_context(_upstream(where, options, kube.kube))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=PATIENCE, sock_connect=5),
                middlewares=(login,),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        )

        async def ask(method: str, path: str, **more: Any) -> aiohttp.ClientResponse:
            url, how = upstream()
            return await session.request(method, f"{url}{path}", allow_redirects=False, **how, **more)

        await _check(ask, path)
        proxy = LocalProxy(ask)
        try:
            runner = await proxy.begin(options.port)
        except OSError as e:
            raise Failure(Code.USAGE, "Usage", f"--port {options.port}: {e.strerror or e}") from e
        stack.push_async_callback(runner.cleanup)
        address = proxy.address(path)
        say(f"The page is at {address}")
        say("It is open to anyone who has this address, with your permissions, until you press Ctrl-C.", err=True)
        if options.browser and not await asyncio.to_thread(webbrowser.open, proxy.address_for_once(path)):
            say("No browser could be opened here: open the address yourself.", err=True)
        await _interrupted()
    return Code.DONE


@asynccontextmanager
async def _upstream(where: Where, options: PageOptions, kube: KubeClient) -> AsyncIterator[Any]:
    """Yield what returns the endpoint's URL as it is now, and how to connect to it."""
    if options.endpoint.url:
        url = options.endpoint.check()
        how: dict[str, Any] = {"ssl": options.endpoint.trust(), "proxy": proxy_of(url)}
        yield lambda: (url, how)
        return
    namespace, _, service = options.service.partition("/")
    if not (is_namespace(namespace) and is_name(service)):
        raise Failure(Code.USAGE, "Usage", f"--service {options.service!r}: write NAMESPACE/NAME")
    how = {
        "ssl": options.endpoint.trust() if options.endpoint.authority else await _authority(kube, namespace),
        "server_hostname": f"{service}.{namespace}.svc",
    }
    async with PortForward(where, namespace, service, "https").opened() as forward:
        yield lambda: (f"https://127.0.0.1:{forward.port}", how)


async def _authority(kube: KubeClient, namespace: str) -> ssl.SSLContext:
    """Trust the authority in the operator's own Secret; where the caller may not read it, those of the system."""
    try:
        found = (await read_secret(kube, namespace, CERTIFICATE))["data"].get("ca.crt", b"")
        return verifying(cadata=found.decode()) if found else verifying()
    except (KubeError, ValueError, ssl.SSLError):
        return verifying()


def _login(where: Where, account: str | None, kube: NamespaceClient) -> aiohttp.ClientMiddlewareType:
    """Return what adds a token. Raises Failure where there is none to add."""
    if account is not None:
        return AccountLogin(kube, account)
    login = own_login(where)
    if login is None:
        raise Failure(
            Code.USAGE,
            "NoToken",
            "your kubeconfig has no token (it logs in with a client certificate, or impersonates), and the page needs "
            f"one: name a service account with --service-account NAME, or set {TOKEN}. To make one that may do "
            "everything: kubectl create serviceaccount page && kubectl create rolebinding page "
            "--clusterrole rollup-manager --serviceaccount NAMESPACE:page",
        )
    return login


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


async def _check(ask: Any, path: str) -> None:
    """Raise Failure where the page would not be shown, and say what to do."""
    try:
        async with await ask("GET", path, headers={"Accept": "text/html"}) as answer:
            status = answer.status
    except aiohttp.ClientConnectorCertificateError as e:
        raise Failure(
            Code.FAILED,
            "Untrusted",
            f"the endpoint's certificate is not trusted: {e.certificate_error}. Write its authority into a file and "
            f"name it with --ca: kubectl -n rollup-operator get secret {CERTIFICATE} "
            "-o jsonpath='{.data.ca\\.crt}' | base64 -d > ca.crt",
        ) from e
    except (aiohttp.ClientError, TimeoutError) as e:
        raise Failure(
            Code.FAILED, "Unreachable", f"the endpoint does not answer: {str(e) or 'no answer in time'}"
        ) from e
    if status in (401, 303):
        raise Failure(Code.FAILED, "Unauthorized", f"the endpoint does not accept the token: give another with {TOKEN}")
    if status == 404:
        raise Failure(Code.FAILED, "NoPage", "the endpoint has no page: it is switched off, or older than this command")


async def _interrupted() -> None:
    """Wait for Ctrl-C, or for the end of the terminal."""
    pressed = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, pressed.set)
    await pressed.wait()
