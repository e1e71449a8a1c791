"""The secured look of a plain node."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from support.store_front import Authority, Security
from support.store_proxy import StoreProxy


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("front") / "ca")


@pytest.fixture
async def plain() -> AsyncIterator[str]:
    """The URL of a server that knows no security."""

    async def hello(request: web.Request) -> web.Response:
        return web.json_response({"path": request.path})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def ask(proxy: StoreProxy, context: ssl.SSLContext, path: str = "/", **more: Any) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(proxy.url) as client,
        client.get(path, ssl=context, **more) as answer,
    ):
        return answer.status, await answer.text()


def basic(name: str, password: str) -> dict[str, Any]:
    return {"headers": {"Authorization": aiohttp.encode_basic_auth(name, password)}}


async def test_who_is_known_comes_in_over_tls(authority: Authority, plain: str) -> None:
    security = Security(users={"ada": "pass:word"}, api_keys={"a2V5": "key"}, tokens={"t0": "token"})
    async with StoreProxy(plain, tls=authority.serving(), guard=security.judge) as proxy:
        trusting = authority.trusting()
        ways: list[dict[str, Any]] = [
            basic("ada", "pass:word"),
            {"headers": {"Authorization": "ApiKey a2V5"}},
            {"headers": {"Authorization": "Bearer t0"}},
        ]
        for way in ways:
            assert (await ask(proxy, trusting, **way))[0] == 200
        for way in (basic("ada", "wrong"), {"headers": {"Authorization": "ApiKey no"}}, {}):
            assert await ask(proxy, trusting, **way) == (401, "Unauthorized")
        assert security.seen == ["ada", "key", "token", "", "", ""]


async def test_a_right_can_be_taken_and_a_password_changed(authority: Authority, plain: str) -> None:
    security = Security(users={"ada": "old"}, opensearch=False)
    async with StoreProxy(plain, tls=authority.serving(), guard=security.judge) as proxy:
        trusting, old = authority.trusting(), basic("ada", "old")
        security.forbid("ada", "GET", "_search")
        status, text = await ask(proxy, trusting, "/x/_search", **old)
        assert (status, "security_exception" in text) == (403, True)
        assert (await ask(proxy, trusting, "/x/_count", **old))[0] == 200
        security.allow_all()
        assert (await ask(proxy, trusting, "/x/_search", **old))[0] == 200
        security.users["ada"] = "new"
        assert (await ask(proxy, trusting, **old))[0] == 401
        assert (await ask(proxy, trusting, **basic("ada", "new")))[0] == 200


async def test_an_unknown_authority_is_not_trusted(authority: Authority, plain: str, tmp_path: Path) -> None:
    other = Authority.make(tmp_path / "other")
    serving = authority.serving()
    async with StoreProxy(plain, tls=serving) as proxy:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(proxy, other.trusting())
        pair = other.issue("replaced")
        serving.load_cert_chain(pair.certificate, pair.key)
        assert (await ask(proxy, other.trusting()))[0] == 200


async def test_a_client_certificate_tells_who_comes(authority: Authority, plain: str) -> None:
    security = Security(certificates={"ada"})
    context = authority.serving(clients=authority)
    async with StoreProxy(plain, tls=context, guard=security.judge) as proxy:
        assert (await ask(proxy, authority.trusting(authority.issue("ada"))))[0] == 200
        assert (await ask(proxy, authority.trusting(authority.issue("bob"))))[0] == 401
        assert (await ask(proxy, authority.trusting()))[0] == 401
    async with StoreProxy(plain, tls=authority.serving(clients=authority, required=True)) as proxy:
        with pytest.raises(aiohttp.ClientError):
            await ask(proxy, authority.trusting())
