"""Prebuilt control planes, fetched by the real setup-envtest from an index on this machine."""

import hashlib
import io
import json
import os
import shutil
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from local_control_plane import build
from local_control_plane.envtest import Envtest

NAMES = ("etcd", "kube-apiserver")
VERSION = "v1.34.4"

pytestmark = pytest.mark.timeout(180)  # the first one builds setup-envtest


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """The URL of an empty folder, `served`."""
    (tmp_path / "served").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real setup-envtest, which the machine's cache keeps."""
    made = build._envtest()
    made.folder.mkdir(parents=True, exist_ok=True)
    return Path(made._tool())


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def envtest(tmp_path: Path, index: str, tool: Path, said: list[str]) -> Envtest:
    folder = tmp_path / "kept"
    folder.mkdir()
    shutil.copy2(tool, folder)
    environment = os.environ | {"ENVTEST_INDEX": f"{index}/index.yaml", "NO_PROXY": "127.0.0.1"}
    return Envtest(folder, VERSION, build.target(), build._SOURCES / "envtest", environment, said.append)


def offer(tmp_path: Path, index: str, *versions: str, names: tuple[str, ...] = NAMES, spoilt: bool = False) -> None:
    """Serve archives of these versions, whose programs print what they are."""
    system, machine = build.target()
    releases = {}
    for version in versions:
        held = io.BytesIO()
        with tarfile.open(fileobj=held, mode="w:gz") as archive:
            for name in names:
                script = f"#!/bin/sh\necho {name} {version}\n".encode()
                entry = tarfile.TarInfo(f"controller-tools/envtest/{name}")
                entry.size, entry.mode = len(script), 0o755
                archive.addfile(entry, io.BytesIO(script))
        file = f"envtest-{version}-{system}-{machine}.tar.gz"
        (tmp_path / "served" / file).write_bytes(held.getvalue())
        digest = hashlib.sha512(b"another" if spoilt else held.getvalue()).hexdigest()
        releases[version] = {file: {"hash": digest, "selfLink": f"{index}/{file}"}}
    (tmp_path / "served" / "index.yaml").write_text(json.dumps({"releases": releases}))


def test_the_same_version_is_fetched_once_and_kept(tmp_path: Path, index: str, envtest: Envtest) -> None:
    offer(tmp_path, index, "v1.34.3", VERSION, "v1.34.5", "v1.35.0")
    found = envtest.fetch(["etcd", "kube-apiserver", "helm"])
    assert {name: path.read_text().split()[-2:] for name, path in found.items()} == {
        name: [name, VERSION] for name in NAMES
    }
    assert all(os.access(path, os.X_OK) for path in found.values())
    assert envtest.kept(NAMES) == found
    assert sorted(path.name for path in envtest.folder.iterdir()) == sorted([*NAMES, "setup-envtest"])


def test_the_newest_of_the_minor_version_takes_its_place(tmp_path: Path, index: str, envtest: Envtest) -> None:
    offer(tmp_path, index, "v1.34.3", "v1.34.10", "v1.35.0")
    assert "v1.34.10" in envtest.fetch(["etcd"])["etcd"].read_text()


@pytest.mark.parametrize(
    ("versions", "spoilt", "names", "why"),
    [
        ((VERSION,), True, NAMES, "checksum"),
        (("v1.35.0",), False, NAMES, "no Kubernetes 1.34"),
        ((VERSION,), False, ("etcd",), "holds no kube-apiserver"),
        (None, False, NAMES, "404"),
    ],
)
def test_what_cannot_be_trusted_or_had_is_left_to_the_build(
    tmp_path: Path,
    index: str,
    envtest: Envtest,
    said: list[str],
    versions: tuple[str, ...] | None,
    spoilt: bool,
    names: tuple[str, ...],
    why: str,
) -> None:
    if versions is not None:
        offer(tmp_path, index, *versions, names=names, spoilt=spoilt)
    assert envtest.fetch(NAMES) == {}
    assert why in said[-1]


def test_an_index_that_does_not_answer_is_given_up(
    envtest: Envtest, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local_control_plane.envtest.INDEX_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for index, why in (
            (f"http://127.0.0.1:{silent.getsockname()[1]}", "not done after 0.5 s"),
            ("off", "not done"),
        ):
            assert replace(envtest, environment=envtest.environment | {"ENVTEST_INDEX": index}).fetch(NAMES) == {}
            assert why in said[-1]
    assert len(said) == 1


def test_what_the_cache_lacks_is_fetched_before_it_is_built(
    tmp_path: Path, index: str, tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path, index, VERSION)
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ENVTEST_INDEX", f"{index}/index.yaml")
    monkeypatch.setattr(build, "_from_source", lambda names: dict.fromkeys(names, Path("built")))
    assert not build.built(NAMES)
    folder = build._envtest().folder
    folder.mkdir(parents=True)
    shutil.copy2(tool, folder)
    found = build.binaries([*NAMES, "helm"])
    assert {name: path.parent for name, path in found.items()} == dict.fromkeys(NAMES, folder) | {"helm": Path()}
    assert build.built(NAMES)
