"""The client of a cluster over TLS and with credentials, to a real node, while Secrets rotate and requests go on."""

import asyncio
import contextlib
import itertools
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from rollup_operator.model.store import ClusterStoreSpec as Spec
from rollup_operator.stores.base import Checkup
from rollup_operator.stores.errors import SecretInvalid, StoreUnsuitable
from rollup_operator.stores.opensearch import ClusterStore, Connections, HostRules
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.errors import Unanswered, Unauthorized, Untrusted
from rollup_operator.stores.secrets import SecretContent
from support.store_front import Authority, Pair, Security
from support.store_http import StoreHttp, unique
from support.store_proxy import Exchange, StoreProxy

GENEROUS = 10.0
DOCUMENTS = 120


@dataclass
class Secrets:
    """The Secrets of a namespace. Whatever is in them changes at once, as the API server shows it."""

    by_name: dict[str, Mapping[str, bytes]] = field(default_factory=dict)

    async def read(self, name: str) -> SecretContent:
        try:
            return SecretContent(self.by_name[name])
        except KeyError:
            raise SecretInvalid("there is none") from None

    def login(self, name: str, password: str) -> None:
        self.by_name["login"] = {"username": name.encode(), "password": password.encode()}

    def authority(self, authority: Authority) -> None:
        self.by_name["ca"] = {"ca.crt": authority.certificate.read_bytes()}

    def pair(self, pair: Pair) -> None:
        self.by_name["pair"] = {"tls.crt": pair.certificate.read_bytes(), "tls.key": pair.key.read_bytes()}


@asynccontextmanager
async def connected(url: str, secrets: Secrets, **spec: Any) -> AsyncIterator[Cluster]:
    names = {"login": "credentialsSecretRef", "ca": "caSecretRef", "pair": "clientCertificateSecretRef"}
    refs = {names[name]: {"name": name} for name in secrets.by_name}
    read = Spec.model_validate({"hosts": [url], **refs, **spec})
    rules = HostRules.read(["127.0.0.1"])
    cluster = Connections("opensearch", read, read_secret=secrets.read, rules=rules).cluster()
    moments = itertools.count(1000, 10)  # so that each refusal is a reason to read the Secrets
    cluster.clock = lambda: next(moments)
    try:
        yield cluster
    finally:
        await cluster.close()


async def version(cluster: Cluster, node: StoreHttp) -> Checkup:
    kind: Any = node.distribution
    return await ClusterStore(kind, cluster, is_alive=lambda _: False).check()


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "ca")


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "other")


async def test_credentials_rotate_while_a_job_writes(opensearch: StoreHttp, ca: Authority):
    security = Security(users={"rollup": "0"})
    secrets = Secrets()
    secrets.authority(ca)
    secrets.login("rollup", "0")
    index = opensearch.create(unique("out"), {"n": "long"})
    written = itertools.count()

    async def write(cluster: Cluster) -> None:
        while (n := next(written)) < DOCUMENTS:
            lines = b'{"index":{"_id":"%d"}}\n{"n":%d}\n' % (n, n)
            answer = await cluster.call("POST", f"/{index}/_bulk", doing="writing", body=lines)
            assert not answer.value["errors"]

    async with (
        StoreProxy(opensearch.url, tls=ca.serving(), guard=security.judge) as proxy,
        connected(proxy.url, secrets) as cluster,
    ):
        writers = [asyncio.create_task(write(cluster)) for _ in range(6)]
        for rotation in range(1, 4):
            await proxy.until(lambda most=rotation * DOCUMENTS // 5: len(proxy.requests) > most)
            secrets.login("rollup", str(rotation))
            security.users["rollup"] = str(rotation)
        await asyncio.gather(*writers)
        refused = sum(request.status == 401 for request in proxy.requests)
        assert 0 < refused <= 3 * 6
        assert opensearch.count(index) == DOCUMENTS
        assert len(proxy.requests) == DOCUMENTS + refused  # nothing that was carried out was sent again


async def test_an_authority_rotates(opensearch: StoreHttp, ca: Authority, other: Authority):
    secrets = Secrets()
    secrets.authority(ca)
    async with (
        StoreProxy(opensearch.url, tls=ca.serving()) as first,
        StoreProxy(opensearch.url, tls=other.serving()) as second,
        connected(first.url, secrets) as cluster,
    ):
        assert (await version(cluster, opensearch)).version == opensearch.node.kind.release
        cluster._hosts[0].url = second.url
        with pytest.raises(Untrusted, match=r"the certificate of https://127.0.0.1:\d+ is not trusted: .* caSecretRef"):
            await version(cluster, opensearch)
        assert not second.requests
        secrets.authority(other)
        assert (await version(cluster, opensearch)).health == "green"


async def test_a_client_certificate_is_shown_and_rotates(opensearch: StoreHttp, ca: Authority, other: Authority):
    secrets = Secrets()
    secrets.authority(ca)
    secrets.pair(other.issue("rollup"))
    security = Security(certificates={"rollup"})
    tls = ca.serving(clients=ca, required=True)
    async with (
        StoreProxy(opensearch.url, tls=tls, guard=security.judge) as proxy,
        connected(proxy.url, secrets) as cluster,
    ):
        for _ in range(2):
            with pytest.raises(Unanswered):
                await version(cluster, opensearch)
        assert not proxy.requests
        secrets.pair(ca.issue("rollup"))
        with pytest.raises(Unanswered):  # the proxy tells nobody why it ends the connection
            await version(cluster, opensearch)
        assert (await version(cluster, opensearch)).version == opensearch.node.kind.release
        assert set(security.seen) == {"rollup"}


def refuse_handshakes(server: socket.socket, tls: ssl.SSLContext) -> None:
    """Refuse who comes until one is welcome, and answer that one, as servers do that say why they refuse."""
    while True:
        connection, _ = server.accept()
        with tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as accepted:
            try:
                accepted.do_handshake()
            except ssl.SSLError:
                accepted.shutdown(socket.SHUT_WR)
                while accepted.recv(65536):  # what is closed unread is reset, and the word that was said is lost
                    pass
            else:
                accepted.recv(65536)
                accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
                return


async def test_a_refused_certificate_was_certainly_no_request(ca: Authority, other: Authority):
    secrets = Secrets()
    secrets.authority(ca)
    secrets.pair(other.issue("rollup"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(GENEROUS)
        serving = asyncio.create_task(
            asyncio.to_thread(refuse_handshakes, server, ca.serving(clients=ca, required=True))
        )
        async with connected(f"https://127.0.0.1:{server.getsockname()[1]}", secrets) as cluster:
            with pytest.raises(Untrusted, match="refuses the connection without a client certificate") as error:
                await cluster.call("POST", "/x/_bulk", doing="writing", body=b"{}")
            assert not error.value.sent
            secrets.pair(ca.issue("rollup"))
            assert (await cluster.call("POST", "/x/_bulk", doing="writing", body=b"{}")).value == {}
        await serving


async def test_verification_is_switched_off_by_its_own_field_alone(opensearch: StoreHttp, ca: Authority):
    async with StoreProxy(opensearch.url, tls=ca.serving()) as proxy:
        async with connected(proxy.url, Secrets()) as cluster:
            with pytest.raises(Untrusted, match="not trusted"):
                await version(cluster, opensearch)
        async with connected(proxy.url, Secrets(), insecureSkipTlsVerify=True) as cluster:
            assert (await version(cluster, opensearch)).version == opensearch.node.kind.release


async def test_a_certificate_for_another_host_is_not_trusted(opensearch: StoreHttp, ca: Authority):
    secrets = Secrets()
    secrets.authority(ca)
    tls = ca.serving()
    elsewhere = ca.issue("elsewhere", hosts="DNS:search.example.org")
    tls.load_cert_chain(elsewhere.certificate, elsewhere.key)
    async with StoreProxy(opensearch.url, tls=tls) as proxy, connected(proxy.url, secrets) as cluster:
        with pytest.raises(Untrusted, match=r"IP address mismatch.*or use the host name of the certificate"):
            await version(cluster, opensearch)


async def test_the_wrong_scheme_is_said_so(opensearch: StoreHttp, ca: Authority):
    secrets = Secrets()
    secrets.authority(ca)
    async with connected(opensearch.url.replace("http:", "https:"), secrets) as cluster:
        with pytest.raises(Untrusted, match=r"no TLS with https://.*: it speaks plain HTTP at that port"):
            await version(cluster, opensearch)
    async with (
        StoreProxy(opensearch.url, tls=ca.serving()) as proxy,
        connected(proxy.url.replace("https:", "http:"), secrets) as cluster,
    ):
        with pytest.raises(Unanswered):
            await version(cluster, opensearch)


class DropsHeader:
    """Something on the way lets through what it knows, and X-Opaque-Id is nothing that it knows."""

    outlives_client = False

    async def apply(self, exchange: Exchange) -> None:
        raw = exchange.request.head.raw
        await exchange.send_raw(re.sub(rb"(?i)x-opaque-id:[^\r]*\r\n", b"", raw) + exchange.request.body)
        await exchange.relay()


@pytest.mark.newest_stores
async def test_a_way_that_drops_the_header_by_which_work_is_known_is_refused(node: StoreHttp):
    async with StoreProxy(node.url) as proxy, connected(proxy.url, Secrets()) as cluster:
        proxy.on(fault=DropsHeader(), times=None)
        with pytest.raises(StoreUnsuitable, match=r"task list shows no X-Opaque-Id of the operator.*pass that header"):
            await version(cluster, node)
        proxy.heal()
        assert (await version(cluster, node)).version == node.node.kind.release


@pytest.mark.parametrize("speaks", ["opensearch", "elasticsearch"])
async def test_a_missing_right_is_named(opensearch: StoreHttp, speaks: str):
    security = Security(tokens={"abc": "rollup"}, opensearch=speaks == "opensearch")
    security.forbid("rollup", "GET", "_tasks")
    secrets = Secrets({"login": {"token": b"abc"}})
    async with (
        StoreProxy(opensearch.url, guard=security.judge) as proxy,
        connected(proxy.url, secrets) as cluster,
    ):
        with pytest.raises(Unauthorized, match=r"asking for the tasks: .*_tasks"):
            await version(cluster, opensearch)
        security.allow_all()
        assert (await version(cluster, opensearch)).version == opensearch.node.kind.release


@pytest.mark.newest_stores
async def test_a_cluster_is_looked_at_on_all_kinds_of_nodes(node: StoreHttp):
    async with connected(node.url, Secrets()) as cluster:
        kind: Any = node.distribution
        found = await ClusterStore(kind, cluster, is_alive=lambda _: False).check()
        assert found.version == node.node.kind.release
        assert found.health in ("green", "yellow")


async def test_a_call_that_is_cut_off_over_tls_ends_when_the_other_end_has_read_that(
    opensearch: StoreHttp, ca: Authority
):
    secrets = Secrets()
    secrets.authority(ca)
    async with (
        StoreProxy(opensearch.url, tls=ca.serving()) as proxy,
        paused(proxy.url) as (url, reads),
        connected(url, secrets) as cluster,
    ):
        reads.set()
        await version(cluster, opensearch)
        reads.clear()
        call = asyncio.ensure_future(cluster.call("GET", "/_search", doing="searching", opaque_id="rollup/u/1"))
        await asyncio.sleep(0.05)  # it is sent; nothing tells
        call.cancel()
        done, _ = await asyncio.wait({call}, timeout=0.3)
        assert not done
        reads.set()
        await asyncio.wait({call})
        assert call.cancelled()
        assert not cluster.is_unread("rollup/u/1")
        await version(cluster, opensearch)  # over another connection


@asynccontextmanager
async def paused(url: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A way to a server that reads only while the event is set, as one whose process is stopped now and then."""
    where, reads = URL(url), asyncio.Event()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, when: asyncio.Event | None) -> None:
        while data := await reader.read(2**16):
            if when is not None:
                await when.wait()
            writer.write(data)
        if when is not None:
            await when.wait()
        writer.write_eof()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert where.host is not None
        to_server = await asyncio.open_connection(where.host, where.port)
        with contextlib.suppress(OSError):
            await asyncio.gather(pass_on(reader, to_server[1], reads), pass_on(to_server[0], writer, None))
        for end in (writer, to_server[1]):
            end.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"{where.scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", reads
