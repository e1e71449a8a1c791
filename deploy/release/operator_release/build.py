"""Makes the files of a release, and their checksums last."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

import yaml

import operator_image
from local_control_plane import ControlPlaneError
from local_manifests import render
from operator_image.build import FIRST_TIME
from operator_image.python import operator_version
from operator_release import plugin
from operator_release.errors import ReleaseError

PROJECT = Path(__file__).resolve().parents[3]
SUMS = "SHA256SUMS"
_OURS = re.compile(rf"{SUMS}|rollup\.yaml|(rollup[-_]operator|kubectl-rollup)-.+")


def make(
    *, output: Path, url: str, architectures: Sequence[str], platforms: Sequence[str], pythons: Sequence[str]
) -> Path:
    """Make the release in the folder `output`, from which an earlier one is removed first, and return that folder.

    `url` is the address below which its files will be; `architectures` are those of images, `platforms` and `pythons`
    those of the plugin. It writes its progress to standard error. Raises ReleaseError and ImageError.
    """
    version = checked_version(PROJECT)
    output.mkdir(parents=True, exist_ok=True)
    remove_release(output)
    _say("wheel")
    wheel = _wheel(output)
    _say("chart and CRDs")
    _package(output)
    (output / f"rollup-operator-{version}-crds.yaml").write_text(_crds())
    for platform in platforms:
        _say(f"kubectl plugin for {platform}")
        plugin.archive(wheel, PROJECT / "requirements" / "plugin.txt", platform, pythons, output)
    (output / "rollup.yaml").write_text(plugin.manifest(version, url, output, platforms))
    for architecture in architectures:
        _say(f"image for {architecture}")
        operator_image.make(output=output, architecture=architecture)
    (output / SUMS).write_text(sums(output))
    return output


def remove_release(folder: Path) -> None:
    """Remove the files of an earlier release. Raises ReleaseError if there is anything else."""
    files = list(folder.iterdir())
    if foreign := [path.name for path in files if not _OURS.fullmatch(path.name) or not path.is_file()]:
        raise ReleaseError(f"{folder} holds {min(foreign)!r}, which is of no release: name an empty folder by --output")
    for path in files:
        path.unlink()


def checked_version(project: Path) -> str:
    """Return the version that all of the tree agrees on. Raises ReleaseError if it does not."""
    chart = yaml.safe_load((project / "deploy/chart/Chart.yaml").read_text())
    released = re.search(r"(?m)^## (\d+\.\d+\.\d+)", (project / "CHANGELOG.md").read_text())
    quick_start = re.search(r"(?m)^ *image: .+:(.+)$", (project / "deploy/quickstart/data.yaml").read_text())
    versions = {
        "pyproject.toml": tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"],
        "operator/rollup_operator/__init__.py": operator_version(project / "operator/rollup_operator"),
        "deploy/chart/Chart.yaml, version": chart["version"],
        "deploy/chart/Chart.yaml, appVersion": chart["appVersion"],
        "deploy/quickstart/data.yaml, image": quick_start[1] if quick_start else "none",
        "CHANGELOG.md, first heading of a version": released[1] if released else "none",
    }
    if len(set(versions.values())) > 1:
        listed = "; ".join(f"{where}: {version}" for where, version in versions.items())
        raise ReleaseError(f"the versions differ: {listed}")
    return str(chart["version"])


def sums(folder: Path) -> str:
    """Return what `sha256sum -c` reads for all files of the folder."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def run(*command: str) -> str:
    """Run a tool and return its standard output. Raises ReleaseError with what it said."""
    environment = {"SOURCE_DATE_EPOCH": str(FIRST_TIME)} | os.environ
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise ReleaseError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _wheel(output: Path) -> Path:
    # From a copy: setuptools would take files of an earlier build along, and leave its own in the tree.
    with tempfile.TemporaryDirectory(prefix="operator-release-") as work:
        tree = Path(work)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(PROJECT / name, tree)
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(PROJECT / "operator", tree / "operator", ignore=ignored)
        command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps")
        run(*command, "--no-build-isolation", "--no-index", "--wheel-dir", str(output), str(tree))
    [wheel] = output.glob("*.whl")
    return wheel


def _package(output: Path) -> None:
    try:
        render.helm("package", str(render.CHART), "--destination", str(output))
    except (render.RenderError, ControlPlaneError) as error:
        raise ReleaseError(str(error)) from error


def _crds() -> str:
    return "".join(
        f"---\n{path.read_text().removeprefix('---').lstrip()}" for path in sorted((PROJECT / "crds").glob("*.yaml"))
    )


def _say(text: str) -> None:
    print(f"release: {text}", file=sys.stderr, flush=True)
