"""The client of a cluster: what it sends, where, how often, and what it makes of answers and of silence."""

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from rollup_operator.model.store import ClusterStoreSpec as Spec
from rollup_operator.stores.errors import SecretInvalid, StoreUnavailable, StoreUnsuitable
from rollup_operator.stores.host_rules import HostRules
from rollup_operator.stores.opensearch import tiers
from rollup_operator.stores.opensearch.transport.answers import PAGE
from rollup_operator.stores.opensearch.transport.client import Cluster, name
from rollup_operator.stores.opensearch.transport.errors import Overloaded, Unanswered, Unauthorized
from rollup_operator.stores.opensearch.transport.login import Secret, login
from rollup_operator.stores.opensearch.transport.request import Request
from rollup_operator.stores.opensearch.transport.sessions import Connections
from rollup_operator.stores.opensearch.transport.wire import Wire
from rollup_operator.stores.secrets import SecretContent

HERE = HostRules.read(["127.0.0.1"])
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Clusterlike:
    """A server that notes what it is asked; `answer` says what it answers."""

    answer: Handler
    asked: list[web.Request] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        self.connections.add(request.transport)
        return await self.answer(request)

    @property
    def open(self) -> int:
        """How many connections are open."""
        return sum(not connection.is_closing() for connection in self.connections)  # type: ignore[attr-defined]


@asynccontextmanager
async def serving(answer: Handler) -> AsyncIterator[Clusterlike]:
    server = Clusterlike(answer)
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


async def fine(_: web.Request) -> web.Response:
    return web.json_response({"fine": True})


@dataclass
class Secrets:
    """Secrets of a namespace, as the API server would tell them."""

    by_name: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    reads: int = 0

    async def read(self, name: str) -> SecretContent:
        self.reads += 1
        try:
            return SecretContent(self.by_name[name])
        except KeyError:
            raise SecretInvalid("there is none in namespace 'team': create it") from None


@asynccontextmanager
async def calling(*hosts: str, secrets: Secrets | None = None, **changes: Any) -> AsyncIterator[Cluster]:
    """A client of these hosts; `changes` are fields of the client."""
    spec = {"hosts": list(hosts)} | ({"credentialsSecretRef": {"name": "login"}} if secrets is not None else {})
    read = (secrets or Secrets()).read
    cluster = Connections("opensearch", Spec.model_validate(spec), read_secret=read, rules=HERE).cluster()
    for key, value in changes.items():
        setattr(cluster, key, value)
    try:
        yield cluster
    finally:
        await cluster.close()


async def ask(cluster: Cluster, path: str = "/", method: str = "GET", **more: Any) -> Any:
    return (await cluster.call(method, path, doing="trying", **more)).value


async def until(holds: Callable[[], bool]) -> None:
    """Let others go on until it holds."""
    async with asyncio.timeout(5):
        while True:
            if holds():
                return
            await asyncio.sleep(0)


def dead_host() -> str:
    return "http://127.0.0.1:1"


async def test_what_is_sent():
    async with serving(fine) as server, calling(server.url) as cluster:
        path = f"/{name('a-*,b')}/_doc/{name('claim/out put/1#2+3%')}"
        assert await ask(cluster, path, params={"q": "a b&c", "x": "1"}, opaque_id="rollup/uid/7") == {"fine": True}
        await ask(cluster, "/_bulk", "POST", body=b'{"index":{}}\n{}\n')
        await ask(cluster, "/i/_search", "POST", body={"size": 0})
        first, bulk, search = server.asked
        assert first.raw_path == "/a-*,b/_doc/claim%2Fout%20put%2F1%232%2B3%25?q=a%20b%26c&x=1"
        assert first.headers["X-Opaque-Id"] == "rollup/uid/7"
        assert first.headers["Accept-Encoding"] == "identity"
        assert "Authorization" not in first.headers
        assert bulk.headers["X-Opaque-Id"] == "rollup-operator"
        assert bulk.headers["Content-Type"] == "application/x-ndjson"
        assert search.headers["Content-Type"] == "application/json"


async def test_while_an_answer_is_inflated_others_have_their_turns():
    small = gzip.compress(bytes(PAGE))

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=small, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    async def others() -> None:
        nonlocal turns
        while True:
            turns += seen.done()
            await asyncio.sleep(0)

    turns, seen = 0, asyncio.get_running_loop().create_future()
    async with serving(answer) as server, calling(server.url) as cluster:
        read = asyncio.create_task(ask(cluster, longest=PAGE, parse=len))
        other = asyncio.create_task(others())
        await until(lambda: bool(server.asked))
        seen.set_result(None)
        assert await read == PAGE
        other.cancel()
    assert turns > PAGE // 2**18


@pytest.mark.parametrize(
    ("data", "header"),
    [
        ({"username": b"ann", "password": b"p:w\n"}, f"Basic {base64.b64encode(b'ann:p:w').decode()}"),
        ({"apiKey": b"aWQ6a2V5\n"}, "ApiKey aWQ6a2V5"),
        ({"apiKey": b"id:key"}, f"ApiKey {base64.b64encode(b'id:key').decode()}"),
        ({"token": b"abc.def", "ca.crt": b"whatever"}, "Bearer abc.def"),
    ],
)
async def test_each_way_to_log_in(data: dict[str, bytes], header: str):
    secrets = Secrets({"login": data})
    async with serving(fine) as server, calling(server.url, secrets=secrets) as cluster:
        await ask(cluster)
        assert server.asked[0].headers["Authorization"] == header


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "give either username and password, or apiKey, or token; there is nothing of it"),
        ({"other": b"x"}, "there is nothing of it"),
        ({"username": b"a", "password": b"hush", "token": b"hush"}, "there is username, password, token"),
        ({"username": b"a"}, "password is missing"),
        ({"password": b"hush"}, "username is missing"),
        ({"username": b"a", "password": b""}, "password is empty"),
        ({"username": b"hu:sh", "password": b"hush"}, "username has a colon"),
        ({"token": b"\xffhush"}, "token is no text"),
        ({"token": b"hu\nsh"}, "token has characters that no header can carry"),
        ({"apiKey": "hüsh".encode()}, "apiKey has characters"),
    ],
)
def test_a_secret_that_cannot_be_used_is_named_and_not_shown(data: dict[str, bytes], message: str):
    secret = Secret("Secret 'login' (spec.opensearch.credentialsSecretRef)", data)
    with pytest.raises(SecretInvalid) as error:
        login(secret)
    assert str(error.value).startswith("Secret 'login' (spec.opensearch.credentialsSecretRef): ")
    assert message in str(error.value)
    assert "hush" not in str(error.value) + repr(secret) + repr(error.value.__context__)


async def test_a_missing_secret_is_named_and_may_come():
    secrets = Secrets()
    async with serving(fine) as server, calling(server.url, secrets=secrets) as cluster:
        with pytest.raises(
            SecretInvalid, match=r"Secret 'login' \(spec.opensearch.credentialsSecretRef\): there is none"
        ):
            await ask(cluster)
        secrets.by_name["login"] = {"token": b"abc"}
        assert await ask(cluster) == {"fine": True}


@pytest.mark.parametrize("secret", ["ca", "pair"])
async def test_certificates_that_cannot_be_used_are_named(secret: str):
    junk = b"-----BEGIN CERTIFICATE-----\nhush\n-----END CERTIFICATE-----\n"
    secrets = Secrets({"ca": {"ca.crt": junk}, "pair": {"tls.crt": junk, "tls.key": junk}})
    refs = {"ca": "caSecretRef", "pair": "clientCertificateSecretRef"}
    spec = Spec.model_validate({"hosts": ["https://127.0.0.1:1"], refs[secret]: {"name": secret}})
    cluster = Connections("elasticsearch", spec, read_secret=secrets.read, rules=HERE).cluster()
    with pytest.raises(
        SecretInvalid, match=f"Secret '{secret}' .spec.elasticsearch.{refs[secret]}.: .* in PEM"
    ) as error:
        await ask(cluster)
    assert "hush" not in str(error.value)


class Guard:
    """Lets in with one token, which may change."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.refusals = 0

    async def __call__(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") == f"Bearer {self.token}":
            await asyncio.sleep(0)
            return web.json_response({"fine": True})
        self.refusals += 1
        reason = {"type": "security_exception", "reason": "unable to authenticate"}
        return web.json_response({"error": {"root_cause": [reason], **reason}, "status": 401}, status=401)


async def test_credentials_rotate_while_requests_go_on():
    guard = Guard("v0")
    secrets = Secrets({"login": {"token": b"v0"}})
    async with serving(guard) as server, calling(server.url, secrets=secrets) as cluster:
        cluster._renewed_at = float("-inf")
        done = 0

        async def client() -> None:
            nonlocal done
            for _ in range(60):
                assert await ask(cluster) == {"fine": True}
                done += 1

        clients = [asyncio.create_task(client()) for _ in range(8)]
        now = 0.0
        cluster.clock = lambda: now
        for version in range(1, 5):
            await until(lambda so_many=version * 80: done >= so_many)
            now += 10  # two rotations are never so close that the second would be overlooked
            secrets.by_name["login"] = {"token": f"v{version}".encode()}
            guard.token = f"v{version}"
        await asyncio.gather(*clients)
        assert done == 8 * 60
        assert secrets.reads == 1 + 4 * 2  # looked at, and read, once for all that were refused
        assert guard.refusals <= 4 * 8
        assert len(cluster._lines) == 1


async def test_an_answer_that_was_lost_stays_lost_where_a_secret_has_gone():
    async def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    secrets = Secrets({"login": {"token": b"v0"}})
    async with serving(cut) as server, calling(server.url, secrets=secrets) as cluster:
        first = await cluster._current()
        secrets.by_name.clear()
        with pytest.raises(Unanswered) as caught:
            await ask(cluster, "/_bulk", "POST", body=b"{}\n")
        assert caught.value.sent
        assert secrets.reads == 2
        assert await cluster._current() is first


async def test_a_refusal_that_no_secret_mends_is_reported_and_the_secrets_are_not_read_for_each():
    guard = Guard("other")
    secrets = Secrets({"login": {"token": b"hush"}})
    async with serving(guard) as server, calling(server.url, secrets=secrets) as cluster:
        for _ in range(20):
            with pytest.raises(Unauthorized, match="trying: unable to authenticate") as error:
                await ask(cluster)
            assert "hush" not in str(error.value)
        assert "does not accept token of Secret 'login' (spec.opensearch.credentialsSecretRef): correct" in str(
            error.value
        )
        assert guard.refusals == 20
        assert secrets.reads == 2


async def test_a_dead_host_is_passed_over_and_tried_again_later():
    now = 100.0
    async with serving(fine) as server, calling(dead_host(), server.url, clock=lambda: now) as cluster:
        dead, alive = cluster._hosts
        assert await ask(cluster) == {"fine": True}
        assert dead.failures == 1
        await ask(cluster)
        assert dead.failures == 1
        now += 5
        await ask(cluster)
        assert dead.failures == 2
        now += 5
        await ask(cluster)
        assert dead.failures == 2  # passed over for twice as long
        now += 5
        dead.url = server.url  # it is back
        await ask(cluster)
        assert (dead.failures, alive.failures) == (0, 0)


async def test_without_any_host_nothing_was_sent():
    async with calling(dead_host()) as cluster:
        for _ in range(2):  # passed over or not, it is tried where there is no other
            with pytest.raises(
                Unanswered, match=r"trying: http://127.0.0.1:1 cannot be connected to: .*refused"
            ) as error:
                await ask(cluster)
            assert not error.value.sent


async def test_silence_is_bounded_and_may_have_been_heard():
    hear = asyncio.Event()

    async def silent(_: web.Request) -> web.Response:
        hear.set()
        await asyncio.sleep(60)
        raise AssertionError

    async with serving(silent) as server, calling(server.url) as cluster:
        with pytest.raises(Unanswered, match=r"trying: no answer within 0.2 s") as error:
            await ask(cluster, timeout=0.2)
        assert error.value.sent
        hear.clear()
        call = asyncio.create_task(ask(cluster, opaque_id="rollup/1/2"))
        await hear.wait()
        assert (cluster.in_flight("rollup/1/2") or "").startswith("trying for 0.")
        assert cluster.in_flight("rollup/1/1") is None
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        assert cluster.in_flight("rollup/1/2") is None
        await until(lambda: not server.open)


@pytest.mark.parametrize("declared", [True, False])
async def test_an_answer_that_is_too_long_is_not_taken_in(declared: bool):
    async def long(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        if declared:
            answer.content_length = 10_000_000
        await answer.prepare(request)
        with suppress(ConnectionError):
            for _ in range(100):
                await answer.write(b" " * 100_000)
        return answer

    async with serving(long) as server, calling(server.url) as cluster:
        with pytest.raises(Overloaded, match="trying: the answer is longer than 1000000 bytes"):
            await ask(cluster, longest=1_000_000)
        await until(lambda: not server.open)


@pytest.mark.parametrize(
    ("status", "text", "headers", "error", "message"),
    [
        (200, "<html>", {}, StoreUnavailable, "the answer is no JSON; does the host lead to a cluster"),
        (502, "<html>bad gateway", {}, StoreUnavailable, "trying: HTTP 502"),
        (302, "", {"Location": "https://other/"}, StoreUnavailable, "redirected to https://other/; name the host"),
        (401, "", {"WWW-Authenticate": "Basic"}, Unauthorized, "trying: HTTP 401"),
        (429, json.dumps({"error": {"type": "x", "reason": "busy"}}), {}, Overloaded, "trying: busy"),
    ],
)
async def test_answers_that_are_no_result(status: int, text: str, headers: dict[str, str], error: Any, message: str):
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text, headers=headers)

    async with serving(answer) as server, calling(server.url) as cluster:
        with pytest.raises(error, match=message):
            await ask(cluster)
        assert len(server.asked) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_a_request_over_a_kept_connection_that_breaks_is_not_sent_again(method: str):
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        while await reader.readuntil(b"\r\n\r\n"):
            requests += 1
            if requests == 2:
                break
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, calling(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as cluster:
        await ask(cluster)
        with pytest.raises(Unanswered) as error:
            await ask(cluster, method=method)
        assert error.value.sent
        assert requests == 2


async def test_a_retired_client_keeps_no_connection_and_still_works():
    go = asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        await go.wait()
        return web.json_response({})

    async with serving(slow) as server, calling(server.url) as cluster:
        calls = [asyncio.create_task(ask(cluster)) for _ in range(3)]
        await until(lambda: len(server.asked) == 3)
        await cluster.retire()
        late = asyncio.create_task(ask(cluster))
        go.set()
        assert await asyncio.gather(*calls, late) == [{}] * 4
        assert not cluster._lines
        assert await ask(cluster) == {}
        assert not cluster._lines
        await until(lambda: not server.open)


async def test_a_run_keeps_its_session_though_client_and_secret_have_gone():
    secrets = Secrets({"login": {"token": b"v0"}})
    async with serving(fine) as server, calling(server.url, secrets=secrets) as cluster:
        cluster.begin_run()
        cluster.begin_run()
        assert await ask(cluster) == {"fine": True}
        secrets.by_name.clear()
        await cluster.retire()
        await cluster.end_run()
        assert await ask(cluster) == {"fine": True}
        await cluster.end_run()
        assert not cluster._lines
        with pytest.raises(SecretInvalid):
            await ask(cluster)


async def test_closing_ends_what_is_under_way():
    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    async with serving(slow) as server, calling(server.url) as cluster:
        call = asyncio.create_task(ask(cluster))
        await until(lambda: bool(server.asked))
        await cluster.close()
        with pytest.raises(Unanswered):
            await call
        with pytest.raises(StoreUnavailable, match="the store was closed"):
            await ask(cluster)


@pytest.mark.parametrize("host", ["http://169.254.169.254", "https://10.0.0.1:9200", "http://127.1", "https://a:b"])
def test_a_host_that_may_not_be_connected_to_is_named(host: str):
    spec = Spec.model_construct(hosts=["http://127.0.0.1:9200", host])
    with pytest.raises(StoreUnsuitable, match=r"spec.opensearch.hosts\[1\]: "):
        Connections("opensearch", spec, read_secret=Secrets().read, rules=HERE)


async def test_a_name_that_leads_where_it_may_not_is_refused_at_each_call():
    spec = Spec.model_validate({"hosts": ["http://localhost:9200"]})
    cluster = Connections("opensearch", spec, read_secret=Secrets().read, rules=HostRules()).cluster()
    with pytest.raises(
        Unanswered, match=r"localhost, which leads to .*: its setting store_hosts does not allow it"
    ) as e:
        await ask(cluster)
    assert not e.value.sent
    await cluster.close()


async def test_no_request_of_a_run_is_sent_by_a_process_that_does_not_lead() -> None:
    leads = [True]
    async with serving(fine) as server, calling(server.url, may_run=lambda: leads[-1]) as cluster:
        await cluster.call("POST", "/_bulk", doing="writing", opaque_id="rollup/u/1")
        leads.append(False)
        with pytest.raises(StoreUnavailable, match="no longer leads"):
            await cluster.call("POST", "/_bulk", doing="writing", opaque_id="rollup/u/1")
        await cluster.call("GET", "/", doing="asking for the version")
        for reader in (tiers.OPAQUE_ID, "rollup-operator/verify/u"):  # which a replica that does not lead serves, too
            await cluster.call("POST", "/_search", doing="searching", opaque_id=reader)
        assert [request.path for request in server.asked] == ["/_bulk", "/", "/_search", "/_search"]


async def test_a_call_that_finds_its_connections_closed_says_that_it_was_not_sent() -> None:
    """They are closed between the moment when a call takes them and the one when it is sent."""
    session = aiohttp.ClientSession()
    await session.close()
    with pytest.raises(Unanswered, match="the store was closed") as raised:
        await Request("GET", "/", {}, None, "asking", 1.0).send(session, "http://127.0.0.1:9", Wire(waits=False))
    assert not raised.value.sent
