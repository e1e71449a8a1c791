"""What a store is logged in with goes to the hosts that it is for, and comes back in no text."""

import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from rollup_operator.model.store import ClusterStoreSpec as Spec
from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.errors import SecretInvalid, StoreError, StoreUnsuitable
from rollup_operator.stores.opensearch import ClusterStore, Connections, Contexts, HostRules
from rollup_operator.stores.secrets import SecretContent
from support.hostile_cluster import HOUR, JOB, honest, kind_of
from support.hostile_host import Asked, Said, hostile_host, said
from support.store_front import Authority

PASSWORD = "S3CRET+pass/word"
TOKEN = "eyJhbGciOi.J9" + "x7Qk" * 100

LOGINS: dict[str, dict[str, bytes]] = {
    "password": {"username": b"alice", "password": PASSWORD.encode()},
    "api key": {"apiKey": f"id42:{PASSWORD}".encode()},
    "encoded api key": {"apiKey": base64.b64encode(f"id42:{PASSWORD}".encode())},
    "token": {"token": TOKEN.encode()},
}


@asynccontextmanager
async def store_at(
    *hosts: str, secret: SecretContent, rules: tuple[str, ...] = ("127.0.0.1",), **more: Any
) -> AsyncIterator[ClusterStore]:
    async def read(name: str) -> SecretContent:
        assert name == "login"
        return secret

    spec = Spec.model_validate({"hosts": hosts, "credentialsSecretRef": {"name": "login"}})
    connections = Connections("opensearch", spec, read_secret=read, rules=HostRules.read(rules), **more)
    store = ClusterStore("opensearch", connections.cluster(), is_alive=bool)
    try:
        yield store
    finally:
        await store.close()


def head(asked: Asked) -> str:
    return f"{asked.method} {asked.target} HTTP/1.1 " + " ".join(f"{k}: {v}" for k, v in asked.headers.items())


def refusal(reason: str) -> dict[str, Any]:
    return {"error": {"type": "security_exception", "reason": reason, "root_cause": []}}


ECHOES: dict[str, Callable[[Asked], Said]] = {
    "the head": lambda asked: said(refusal(head(asked)), 401),
    "the head as base64": lambda asked: said(refusal(base64.b64encode(head(asked).encode()).decode()), 403),
    "the head in a URL": lambda asked: said(refusal(quote(head(asked))), 400),
    "the head as JSON in JSON": lambda asked: said(refusal(json.dumps({"request": head(asked)})), 500),
    "the header, decoded": lambda asked: said(refusal(decoded(asked)), 401),
    "the header, late": lambda asked: said(refusal("x " * 480 + asked.headers["authorization"]), 401),
    "a redirect": lambda asked: Said(b"", 302, (("Location", f"http://x/?a={quote(decoded(asked), safe='')}"),)),
    "a broken header": lambda asked: Said(b"{}", 200, (("Bad header " + asked.headers["authorization"], "x"),)),
    "a task": lambda asked: said({"node_failures": [{"reason": {"type": "x", "reason": head(asked)}}]}),
    "a bulk's item": lambda asked: said(
        {"errors": True, "items": [{"index": {"status": 400, **refusal(head(asked))}}] * (len(asked.body) // 2)}
    ),
}


def decoded(asked: Asked) -> str:
    _, _, value = asked.headers["authorization"].partition(" ")
    try:
        return base64.b64decode(value, validate=True).decode()
    except ValueError:
        return value


def secrets(login: Mapping[str, bytes]) -> list[str]:
    """What must not be seen, and parts of it."""
    found = [value.decode() for key, value in login.items() if key != "username"] + [PASSWORD]
    encoded = [base64.b64encode(f"{who}:{PASSWORD}".encode()).decode() for who in ("alice", "id42")]
    return [text for whole in (*found, *encoded) for text in (whole[:12], whole[-12:], quote(whole, safe="")[-12:])]


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("login", LOGINS)
async def test_a_host_that_repeats_the_request_tells_nobody_the_login(echo: str, login: str) -> None:
    def answer(asked: Asked) -> Said:
        wanted = {"a task": "tasks", "a bulk's item": "bulk"}.get(echo)
        return ECHOES[echo](asked) if wanted in (None, kind_of(asked)) else honest(asked)

    with hostile_host(answer) as host:
        async with store_at(host.url, secret=SecretContent(LOGINS[login])) as store:
            do = {"a task": settle, "a bulk's item": write}.get(echo, ClusterStore.check)
            with pytest.raises(StoreError) as error:
                await do(store)
    shown = str(error.value)
    assert not [text for text in secrets(LOGINS[login]) if text in shown], shown
    assert "authorization" in host.asked[0].headers


async def settle(store: ClusterStore) -> None:
    await store.settle(JOB, "me", delete_documents=False)


async def write(store: ClusterStore) -> None:
    session, span = store.session(JOB, "me"), Span(0, 6 * HOUR)
    try:
        claim = await session.claim()
        await session.describe(claim, span)
        await session.write(claim, await session.read(claim, span))
    finally:
        await session.close()


@pytest.mark.parametrize(
    "kind", ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"]
)
async def test_a_secret_of_the_cluster_itself_is_sent_nowhere(kind: str) -> None:
    secret = SecretContent({"token": TOKEN.encode()}, kind)
    with hostile_host(honest) as host:
        async with store_at(host.url, secret=secret) as store:
            with pytest.raises(SecretInvalid, match=f"spec.opensearch.credentialsSecretRef.: it is of the type {kind}"):
                await store.check()
    assert not host.asked


@pytest.mark.parametrize(
    ("annotation", "good"),
    [
        ("127.0.0.1", True),
        ("search.example.org, 127.0.0.0/8", True),
        ("search.example.org", False),
        ("127.0.0.1:1", False),
        ("*.0.0.1", False),
        ("", False),
        ("10.0.0.0/40", False),
    ],
)
async def test_a_secret_may_name_the_hosts_that_it_is_for(annotation: str, good: bool) -> None:
    secret = SecretContent(LOGINS["token"], annotations={"rollup-operator.dev/hosts": annotation})
    with hostile_host(honest) as host:
        async with store_at(host.url, secret=secret) as store:
            if good:
                await store.check()
                return
            with pytest.raises(SecretInvalid, match=r"its annotation rollup-operator\.dev/hosts "):
                await store.check()
    assert not host.asked


@pytest.mark.parametrize("host", ["http://search.example.org:9200", "http://10.1.2.3:9200"])
async def test_a_login_is_sent_without_tls_only_where_that_is_allowed(host: str) -> None:
    secret = SecretContent(LOGINS["password"])
    with pytest.raises(StoreUnsuitable, match=r"spec.opensearch.hosts\[1\]: without TLS anybody .* use https://"):
        async with store_at("https://a.example.org", host, secret=secret, rules=()):
            pass
    async with store_at("https://a.example.org", host, secret=secret, rules=(), plain_credentials=True):
        pass
    Connections("opensearch", Spec.model_validate({"hosts": [host]}), read_secret=_none, rules=HostRules())


@pytest.mark.parametrize("host", ["http://127.0.0.1:1", "http://localhost:9200", "http://[::1]:9200"])
async def test_on_this_machine_a_login_needs_no_tls(host: str) -> None:
    async with store_at(host, secret=SecretContent(LOGINS["password"]), rules=("127.0.0.1", "::1", "localhost")):
        pass


async def _none(_: str) -> SecretContent:
    raise AssertionError


@pytest.mark.parametrize("url", ["http://168.63.129.16", "http://192.0.0.192/", "http://[::ffff:168.63.129.16]"])
def test_where_clouds_tell_secrets_of_a_machine_is_out_of_reach(url: str) -> None:
    with pytest.raises(OSError, match="does not allow it"):
        HostRules().check_url(url)


async def test_a_list_of_hosts_without_end_is_not_read() -> None:
    names = ",".join(["a.b"] * 60_000)
    secret = SecretContent(LOGINS["token"], annotations={"rollup-operator.dev/hosts": names})
    with hostile_host(honest) as host:
        async with store_at(host.url, secret=secret) as store:
            began = time.thread_time()
            with pytest.raises(SecretInvalid, match="is longer than 4096 characters"):
                await store.check()
            assert time.thread_time() - began < 0.05
    assert not host.asked


@pytest.mark.parametrize("login", [{"token": b"x" * 20_000}, {"username": b"a", "password": b"x" * 1_000_000}])
async def test_a_login_that_no_cluster_takes_is_not_kept(login: dict[str, bytes]) -> None:
    with hostile_host(honest) as host:
        async with store_at(host.url, secret=SecretContent(login)) as store:
            with pytest.raises(SecretInvalid, match="no cluster takes more than 16384"):
                await store.check()
    assert not host.asked


async def test_who_trusts_the_same_shares_what_that_takes(tmp_path: Path) -> None:
    pem = Authority.make(tmp_path / "ca").certificate.read_bytes()
    secrets = {"mine": SecretContent({"ca.crt": pem}), "same": SecretContent({"ca.crt": pem})}

    async def read(name: str) -> SecretContent:
        return secrets[name]

    shared = Contexts()
    refs: list[dict[str, Any]] = [
        {}, {}, {"insecureSkipTlsVerify": True}, {"caSecretRef": {"name": "mine"}}, {"caSecretRef": {"name": "same"}}
    ]  # fmt: skip
    used = []
    async with AsyncExitStack() as stack:
        for ref in refs:
            spec = Spec.model_validate({"hosts": ["https://a.example.org"], **ref})
            connections = Connections("opensearch", spec, read_secret=read, rules=HostRules(), contexts=shared)
            session = await stack.enter_async_context(await connections.open())
            assert isinstance(session.connector, aiohttp.TCPConnector)
            used.append(session.connector._ssl)
        assert [used.index(context) for context in used] == [0, 0, 2, 3, 3]
