"""The endpoint over TLS: handshakes, and a certificate that is replaced while clients wait."""

import contextlib
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local_control_plane import ControlPlane
from support.api import Api
from support.backfill import PAGE_SECONDS, begun
from support.database import opened
from support.operator import Operator
from support.operator_fixtures import StartOperator

WAIT = "wait_for_completion=true&timeout=30s"
CHECK_SECONDS = 0.1
GENEROUS = 10.0


@dataclass(frozen=True)
class Pair:
    """Certificate and key of an API server, which makes its own at each start, for 127.0.0.1."""

    folder: Path

    @classmethod
    def of(cls, plane: ControlPlane, folder: Path) -> "Pair":
        folder.mkdir(parents=True)
        for name in ("crt", "key"):
            shutil.copy(plane.directory / "certificates" / f"apiserver.{name}", folder / f"tls.{name}")
        shutil.copy(plane.ca, folder / "ca.crt")
        return cls(folder)

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"


@pytest.fixture(scope="module")
def pairs(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    """Two pairs that nothing but their purpose has in common."""
    folder = tmp_path_factory.mktemp("pairs")
    with ControlPlane.start() as other:
        return Pair.of(control_plane, folder / "first"), Pair.of(other, folder / "second")


class Mounted:
    """A folder as a kubelet mounts a Secret: what lies in it are links through one link, which is swapped."""

    def __init__(self, folder: Path, pair: Pair) -> None:
        self.folder = folder
        folder.mkdir()
        self.show(pair)
        for name in ("tls.crt", "tls.key"):
            (folder / name).symlink_to(Path("..data") / name)

    def show(self, pair: Pair) -> None:
        new = self.folder / "..new"
        new.symlink_to(pair.folder)
        new.replace(self.folder / "..data")

    @property
    def settings(self) -> dict[str, object]:
        return {
            "tls_cert_file": self.folder / "tls.crt",
            "tls_key_file": self.folder / "tls.key",
            "tls_check_seconds": CHECK_SECONDS,
        }


@pytest.fixture
def mounted(tmp_path: Path, pairs: tuple[Pair, Pair]) -> Mounted:
    return Mounted(tmp_path / "mounted", pairs[0])


@pytest.fixture
def served(start_operator: StartOperator, api: Api, mounted: Mounted, pairs: tuple[Pair, Pair]) -> Operator:
    return start_operator(
        default_namespace=api.namespace,
        page_seconds=PAGE_SECONDS,
        settings={**mounted.settings, "http_head_seconds": 1},
        authority=pairs[0].ca,
        expected=["new certificate cannot be used"],
    )


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def presented(operator: Operator, pair: Pair, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bool:
    """Whether the endpoint shows the certificate of that pair."""
    trust = ssl.create_default_context(cafile=pair.ca)
    trust.maximum_version = version
    try:
        with socket.create_connection(_address(operator)) as raw, trust.wrap_socket(raw, server_hostname="127.0.0.1"):
            return True
    except ssl.SSLCertVerificationError:
        return False


def until_presented(operator: Operator, pair: Pair) -> None:
    deadline = time.monotonic() + GENEROUS
    while not presented(operator, pair):
        assert time.monotonic() < deadline
        time.sleep(CHECK_SECONDS)


def test_the_endpoint_speaks_tls_and_nothing_else(served: Operator, pairs: tuple[Pair, Pair]) -> None:
    assert served.url.startswith("https://127.0.0.1:")
    assert served.get("/").status == 200
    assert served.request("GET", "/", headers={}).status == 401
    assert presented(served, pairs[0], ssl.TLSVersion.TLSv1_2)
    for said in (b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n", b""):
        with socket.create_connection(_address(served), timeout=GENEROUS) as other:
            other.sendall(said)
            with contextlib.suppress(ConnectionResetError):  # what it said was not read
                assert other.recv(1) == b""


def test_a_new_certificate_is_used_and_who_waits_is_not_dropped(
    served: Operator,
    api: Api,
    folder: Path,
    mounted: Mounted,
    pairs: tuple[Pair, Pair],
    callers: ThreadPoolExecutor,
) -> None:
    first, second = pairs
    begun(api, folder, hours=3000, drainTimeoutSeconds=1)
    served.kill()
    with opened(folder):  # the claim of the dead operator cannot be released: the stop takes its time
        served.start()
        waiting = callers.submit(served.post, f"/_rollup/job/trips/_stop?{WAIT}")
        kept = served.connect()
        kept.request("GET", "/healthz")
        assert kept.getresponse().read()
        api.wait_state("trips", "stopping")
        assert presented(served, first)

        mounted.show(second)
        until_presented(served, second)
        assert not presented(served, first)
        kept.request("GET", "/healthz")
        assert kept.getresponse().status == 200
        kept.close()
        assert not waiting.done()
    assert waiting.result(30).body == {"stopped": True}


def test_a_broken_certificate_is_reported_and_not_used(
    served: Operator, mounted: Mounted, pairs: tuple[Pair, Pair], tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(pairs[0].folder, mixed)
    shutil.copy(pairs[1].folder / "tls.key", mixed / "tls.key")
    mounted.show(Pair(mixed))
    deadline = time.monotonic() + GENEROUS
    while not served.records("new certificate cannot be used, the one before stays"):
        assert time.monotonic() < deadline
        time.sleep(CHECK_SECONDS)
    assert presented(served, pairs[0])
    mounted.show(pairs[1])
    until_presented(served, pairs[1])
    [answer] = served.records("new certificate cannot be used, the one before stays")
    assert "tls.key cannot be used" in answer["problem"]


def _address(operator: Operator) -> tuple[str, int]:
    host, _, port = urlsplit(operator.url).netloc.rpartition(":")
    return host, int(port)
