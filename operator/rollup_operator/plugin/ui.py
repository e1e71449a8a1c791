"""`kubectl rollup ui`: the operator's page in a browser, with the caller's own rights.

::

    browser ──▶ local_proxy, 127.0.0.1 ── adds the token ──▶ reaching ──▶ the operator's endpoint
"""

import asyncio
import signal
import webbrowser
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp

from rollup_operator.plugin.local_proxy import LocalProxy
from rollup_operator.plugin.outcome import Code, Failure, Where
from rollup_operator.plugin.output import say
from rollup_operator.plugin.reaching import TOKEN, EndpointAddress, ReachedEndpoint, reached, untrusted

PATIENCE = 330.0
"""Seconds for an answer: longer than somebody may let the page wait for a stop."""


@dataclass(frozen=True)
class PageOptions:
    """What the command line says of the way to the page."""

    endpoint: EndpointAddress
    port: int
    browser: bool


async def show(where: Where, options: PageOptions) -> int:
    """Serve the page on this machine until Ctrl-C. Raises Failure."""
    path = f"/ui/namespaces/{where[2]}/jobs" if where[2] else "/ui/"
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(reached(where, options.endpoint))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=PATIENCE, sock_connect=5),
                middlewares=(_login(endpoint),),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        )

        async def ask(method: str, path: str, **more: Any) -> aiohttp.ClientResponse:
            return await session.request(
                method, f"{endpoint.url()}{path}", allow_redirects=False, **endpoint.how, **more
            )

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


def _login(endpoint: ReachedEndpoint) -> aiohttp.ClientMiddlewareType:
    """Return what adds a token. Raises Failure where there is none to add."""
    if endpoint.login is None:
        raise Failure(
            Code.USAGE,
            "NoToken",
            "your kubeconfig has no token (it logs in with a client certificate, or impersonates), and the page needs "
            f"one: name a service account with --service-account NAME, or set {TOKEN}. To make one that may do "
            "everything: kubectl create serviceaccount page && kubectl create rolebinding page "
            "--clusterrole rollup-manager --serviceaccount NAMESPACE:page",
        )
    return endpoint.login


async def _check(ask: Any, path: str) -> None:
    """Raise Failure where the page would not be shown, and say what to do."""
    try:
        async with await ask("GET", path, headers={"Accept": "text/html"}) as answer:
            status = answer.status
    except aiohttp.ClientConnectorCertificateError as e:
        raise untrusted(e) from e
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
