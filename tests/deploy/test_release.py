"""What `make release` leaves in its folder, used as those who download it would."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from local_control_plane import built
from local_manifests import render
from operator_release import ReleaseError
from operator_release.build import SUMS, checked_version, remove_release
from rollup_operator import __version__
from support.api import Api
from support.release import PLATFORM, URL, release

__all__ = ["release"]

ROOT = Path(__file__).resolve().parents[2]
SAID = f"kubectl rollup {__version__}\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not built(["helm"]), reason="helm is not built: make control-plane"),
]


def plain(*command: str | Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as somebody would who has nothing of ours on his path."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": os.environ["HOME"]} | more
    return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)


def test_every_file_has_its_checksum(release: Path) -> None:
    listed = dict(reversed(line.split("  ")) for line in (release / SUMS).read_text().splitlines())
    assert listed.keys() == {path.name for path in release.iterdir()} - {SUMS}
    for name, digest in listed.items():
        assert hashlib.sha256((release / name).read_bytes()).hexdigest() == digest, name


def test_it_holds_what_docs_name(release: Path) -> None:
    architecture = PLATFORM.removeprefix("linux-")
    assert {path.name for path in release.iterdir()} == {
        SUMS,
        "rollup.yaml",
        f"rollup_operator-{__version__}-py3-none-any.whl",
        f"rollup-operator-{__version__}.tgz",
        f"rollup-operator-{__version__}-crds.yaml",
        f"rollup-operator-{__version__}-{architecture}.tar",
        f"rollup-operator-{__version__}-{architecture}.cdx.json",
        f"kubectl-rollup-{__version__}-{PLATFORM}.tar.gz",
    }


def test_the_wheel_holds_what_the_page_is_made_of(release: Path) -> None:
    [wheel] = release.glob("*.whl")
    page = ROOT / "operator" / "rollup_operator" / "http" / "ui"
    files = {str(p.relative_to(ROOT / "operator")) for of in ("static", "templates") for p in (page / of).iterdir()}
    assert len(files) > 10
    assert files <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_alone_is_the_plugin_without_what_the_operator_needs(release: Path, tmp_path: Path) -> None:
    [wheel] = release.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    locked = plain(*pip, "--require-hashes", "--only-binary", ":all:", "-r", ROOT / "requirements" / "plugin.txt")
    assert locked.returncode == 0, locked.stderr
    # Without an index: all that the wheel itself asks for must be there by now.
    own = plain(*pip, "--no-index", wheel)
    assert own.returncode == 0, own.stderr
    assert plain(python.with_name("kubectl-rollup"), "version").stdout == SAID
    for heavy in ("duckdb", "kopf", "structlog"):
        assert plain(python, "-c", f"import {heavy}").returncode != 0
    for verb in ("get", "explain", "preview", "query"):
        told = plain(python.with_name("kubectl-rollup"), verb, "--help")
        assert (told.returncode, told.stderr) == (0, "")
    refused = plain(python.with_name("rollup-operator"), "run")
    assert refused.returncode == 2
    assert "for the operator install rollup-operator[operator]" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_archive_for_krew_runs_with_a_bare_python(release: Path, tmp_path: Path, api: Api) -> None:
    [archive] = release.glob("kubectl-rollup-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "store", filter="data")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "kubectl-rollup"
    command.symlink_to(tmp_path / "store" / "kubectl-rollup")  # as krew puts it on the path
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    assert plain(command, "version", PATH=path).stdout == SAID
    got = plain(command, "get", "-n", api.namespace, "-o", "json", "--kubeconfig", api.plane.kubeconfig, PATH=path)
    assert got.returncode == 0, got.stderr
    assert json.loads(got.stdout)["items"] == []


def test_krew_s_manifest_names_address_and_checksum(release: Path) -> None:
    manifest = yaml.safe_load((release / "rollup.yaml").read_text())
    [archive] = release.glob("kubectl-rollup-*.tar.gz")
    assert manifest["spec"]["version"] == f"v{__version__}"
    [platform] = manifest["spec"]["platforms"]
    assert platform["selector"]["matchLabels"] == dict(zip(("os", "arch"), PLATFORM.split("-"), strict=True))
    assert platform["uri"] == f"{URL}/{archive.name}"
    assert platform["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_the_chart_s_package_renders_what_the_folder_does(release: Path) -> None:
    [package] = release.glob("rollup-operator-*.tgz")
    # With a certificate that somebody brings: the chart makes another one each time.
    flags = ("--kube-version", "1.34.0", "--set", "tls.source=secret")
    rendered = [
        list(yaml.safe_load_all(render.helm("template", "x", str(it), *flags))) for it in (package, render.CHART)
    ]
    assert rendered[0] == rendered[1]


def test_the_crds_are_those_of_the_tree(release: Path) -> None:
    bodies = list(yaml.safe_load_all((release / f"rollup-operator-{__version__}-crds.yaml").read_text()))
    assert bodies == [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]


def test_the_bill_of_materials_is_the_image_s(release: Path) -> None:
    [bill] = release.glob("*.cdx.json")
    names = {each["name"] for each in json.loads(bill.read_text())["components"]}
    assert {"duckdb", "kopf", "libc6"} <= names


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("pyproject.toml", f'version = "{__version__}"', 'version = "0.0.9"', "pyproject.toml: 0.0.9"),
        ("CHANGELOG.md", f"## {__version__}", "## 9.9.9", "CHANGELOG.md, first heading of a version: 9.9.9"),
        ("deploy/quickstart/data.yaml", f"operator:{__version__}", "operator:0.0.1", "data.yaml, image: 0.0.1"),
        ("deploy/chart/Chart.yaml", f"appVersion: {__version__}", "appVersion: 7.0.0", "Chart.yaml, appVersion: 7.0.0"),
    ],
)
def test_versions_that_differ_are_refused_by_name(tmp_path: Path, file: str, old: str, new: str, words: str) -> None:
    for name in (
        *("pyproject.toml", "CHANGELOG.md", "operator/rollup_operator/__init__.py"),
        *("deploy/chart/Chart.yaml", "deploy/quickstart/data.yaml"),
    ):
        text = (ROOT / name).read_text()
        assert name != file or old in text
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.replace(old, new) if name == file else text)
    with pytest.raises(ReleaseError, match="the versions differ") as raised:
        checked_version(tmp_path)
    assert words in str(raised.value)


def test_an_earlier_release_makes_room_and_nothing_else_does(tmp_path: Path) -> None:
    for name in (SUMS, "rollup.yaml", "rollup-operator-0.0.9.tgz", "kubectl-rollup-0.0.9-linux-arm64.tar.gz"):
        (tmp_path / name).touch()
    remove_release(tmp_path)
    assert not list(tmp_path.iterdir())
    for name in ("rollup.yaml", "thesis.tex"):
        (tmp_path / name).touch()
    with pytest.raises(ReleaseError, match=r"holds 'thesis.tex', which is of no release"):
        remove_release(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"rollup.yaml", "thesis.tex"}
