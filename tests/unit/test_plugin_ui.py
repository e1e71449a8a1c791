"""`kubectl rollup ui`: whom the server on this machine lets in, what it passes on, and the way to the Service."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from rollup_operator.http.ui.job_pages import TIMEOUTS
from rollup_operator.kube.credentials import bearer
from rollup_operator.model.time_values import parse_time_value
from rollup_operator.plugin.forward import PortForward
from rollup_operator.plugin.local_proxy import LocalProxy
from rollup_operator.plugin.outcome import Failure
from rollup_operator.plugin.ui import PATIENCE

EVIL = "Bearer of.somebody.else"


async def page(request: web.Request) -> web.Response:
    """Answer with what has arrived."""
    seen = {"path": request.raw_path, "headers": dict(request.headers), "body": await request.text()}
    return web.json_response(seen, headers={"Content-Security-Policy": "default-src 'none'"})


@asynccontextmanager
async def proxied(*, once: bool = False) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """A proxy before `page`: the address that it prints, or that works `once`; and a browser without a cookie yet."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", page)
    async with TestServer(application) as server, aiohttp.ClientSession(middlewares=(bearer("t0ken"),)) as session:

        async def ask(method: str, path: str, **more: Any) -> aiohttp.ClientResponse:
            return await session.request(method, f"http://{server.host}:{server.port}{path}", **more)

        proxy = LocalProxy(ask)
        runner = await proxy.begin(0)
        jar = aiohttp.CookieJar(unsafe=True)  # it takes cookies of an address
        try:
            async with aiohttp.ClientSession(cookie_jar=jar) as browser:
                yield (proxy.address_for_once if once else proxy.address)("/ui/"), browser
        finally:
            await runner.cleanup()


async def test_the_printed_address_lets_a_browser_in_and_the_token_is_added_behind_it() -> None:
    async with proxied() as (address, browser):
        assert urlsplit(address).hostname == "127.0.0.1"
        async with browser.get(address, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/ui/")
            cookie = answer.headers["Set-Cookie"]
            assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/ui/"))
        async with browser.get(address) as answer:
            seen = await answer.json()
            assert answer.headers["Content-Security-Policy"] == "default-src 'none'"
        assert seen["path"] == "/ui/"
        assert seen["headers"]["Authorization"] == "Bearer t0ken"
        assert "Cookie" not in seen["headers"]
        assert seen["headers"]["Host"] not in address  # an Ingress goes by it


async def test_a_change_is_passed_on_as_it_is_but_for_the_login() -> None:
    async with proxied() as (address, browser):
        await browser.get(address)
        url = address.partition("?")[0] + "namespaces/a/jobs/b%2Fc/stop?x=%20"
        headers = {"Authorization": EVIL, "Sec-Fetch-Site": "same-origin", "Origin": address[: address.index("/ui")]}
        async with browser.post(url, data={"csrf": "1"}, headers=headers) as answer:
            seen = await answer.json()
        assert (seen["path"], seen["body"]) == ("/ui/namespaces/a/jobs/b%2Fc/stop?x=%20", "csrf=1")
        assert seen["headers"]["Authorization"] == "Bearer t0ken"
        assert seen["headers"]["Sec-Fetch-Site"] == "same-origin"
        assert "Origin" not in seen["headers"]
        for origin in ("null", "http://127.0.0.1:1", "https://evil.example"):
            async with browser.post(url, data={"csrf": "1"}, headers={"Origin": origin}) as answer:
                assert (await answer.json())["headers"]["Origin"] == origin


async def test_who_does_not_know_the_secret_is_refused() -> None:
    async with proxied() as (address, browser):
        page_address = address.partition("?")[0]
        port = urlsplit(address).port
        wrong: list[dict[str, str]] = [
            {},
            {"Cookie": f"rollup_ui_{port}=guess"},
            {"Cookie": f"rollup_ui_{port}="},
            {"Cookie": '="\\'},
            {"Authorization": EVIL},
        ]
        for headers in wrong:
            async with browser.get(page_address, headers=headers) as answer:
                assert (answer.status, await answer.text()) == (
                    403,
                    "Open the address that kubectl rollup ui has printed.\n",
                )
        async with browser.get(f"{page_address}?key=guess") as answer:
            assert answer.status == 403


async def test_the_address_that_others_may_read_works_once_and_a_second_use_ends_the_first() -> None:
    async with proxied(once=True) as (address, browser):
        async with browser.get(address) as answer:
            assert answer.status == 200
        async with browser.get(address.partition("?")[0]) as answer:
            assert answer.status == 200
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as thief:
            for _ in range(2):
                async with thief.get(address) as answer:
                    assert answer.status == 403
        async with browser.get(address.partition("?")[0]) as answer:
            assert answer.status == 403


async def test_a_name_that_others_point_at_this_machine_is_refused_even_with_the_secret() -> None:
    async with proxied() as (address, browser):
        await browser.get(address)
        for host in ("evil.example", f"evil.example:{urlsplit(address).port}", "127.0.0.1"):
            async with browser.get(address, headers={"Host": host}) as answer:
                assert answer.status == 403
                assert "this machine" in await answer.text()


@pytest.mark.parametrize("path", ["/", "/_rollup/job", "/ui", "/ui/../_rollup/job", "/ui/%2e%2e/_rollup/job", "/uix/"])
async def test_nothing_but_the_page_is_reached(path: str) -> None:
    async with proxied() as (address, browser):
        await browser.get(address)
        parts = urlsplit(address)
        cookie = "; ".join(f"{each.key}={each.value}" for each in browser.cookie_jar)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nCookie: {cookie}\r\n\r\n".encode())
        assert (await reader.readline()).split()[1] == b"404"
        writer.close()


def test_the_longest_stop_that_the_page_offers_is_waited_for() -> None:
    longest = max(parse_time_value(text, "timeout").milliseconds for text in TIMEOUTS)
    assert longest / 1000 < PATIENCE


async def test_an_operator_that_is_away_is_said_so() -> None:
    async def ask(*_: Any, **__: Any) -> aiohttp.ClientResponse:
        raise aiohttp.ClientOSError("connection refused")

    proxy = LocalProxy(ask)
    runner = await proxy.begin(0)
    try:
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser,
            browser.get(proxy.address("/ui/")) as answer,
        ):
            assert answer.status == 502
            assert "connection refused. Try again soon." in await answer.text()
    finally:
        await runner.cleanup()


KUBECTL = f"""#!{sys.executable}
import os, signal, sys
with open(os.environ["CALLS"], "a+") as calls:
    calls.seek(0)
    count = len(calls.readlines())
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if os.environ.get("REFUSE"):
    sys.exit("error: services \\"x\\" not found")
print(f"Forwarding from 127.0.0.1:{{1000 + count}} -> 9400", flush=True)
signal.pause()
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that forwards nothing; the file that says how it was called."""
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


async def test_kubectl_forwards_to_the_service_and_begins_anew_when_the_pod_is_gone(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollup_operator.plugin.forward.PAUSE", 0.01)
    begun: asyncio.Queue[asyncio.subprocess.Process] = asyncio.Queue()
    begin = PortForward._begin

    async def kept(self: PortForward) -> asyncio.subprocess.Process:
        process = await begin(self)
        begun.put_nowait(process)
        return process

    monkeypatch.setattr(PortForward, "_begin", kept)
    async with PortForward(("config", "kind", None), "ops", "rollup", "https").opened() as forward:
        first = await begun.get()
        assert forward.port == 1000
        first.kill()
        second = await asyncio.wait_for(begun.get(), 30)
        assert forward.port == 1001
    assert second.returncode is not None
    assert (await asyncio.to_thread(calls.read_text)).splitlines()[0] == (
        "port-forward --address 127.0.0.1 --namespace ops --kubeconfig config --context kind service/rollup :https"
    )


async def test_what_kubectl_complains_of_is_passed_on(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSE", "1")
    with pytest.raises(Failure, match='services "x" not found'):
        async with PortForward((None, None, None), "ops", "x", "https").opened():
            pass
    monkeypatch.setenv("PATH", str(calls.parent / "nowhere"))
    with pytest.raises(Failure, match="kubectl is not on the PATH"):
        async with PortForward((None, None, None), "ops", "x", "https").opened():
            pass
