"""The kubectl plugin as krew installs it: an archive for each platform, which needs a Python and nothing else."""

import gzip
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from operator_image.archive import layer
from operator_image.build import FIRST_TIME
from operator_image.python import locked_wheels
from operator_release.errors import ReleaseError

PLATFORMS: Mapping[str, Sequence[str]] = {
    "linux-amd64": [f"manylinux_2_{minor}_x86_64" for minor in range(28, 16, -1)] + ["manylinux2014_x86_64"],
    "linux-arm64": [f"manylinux_2_{minor}_aarch64" for minor in range(28, 16, -1)] + ["manylinux2014_aarch64"],
    "darwin-arm64": [f"macosx_{major}_0_arm64" for major in range(14, 10, -1)],
    "darwin-amd64": [f"macosx_{major}_0_x86_64" for major in range(14, 10, -1)]
    + [f"macosx_10_{minor}_x86_64" for minor in range(15, 8, -1)],
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

# Packages of pure Python are there once, in lib/any; the others once for each version of Python.
_COMMAND = """#!/usr/bin/env python3
import pathlib
import sys

lib = pathlib.Path(__file__).resolve().parent / "lib"
own = lib / ".".join(map(str, sys.version_info[:2]))
if not own.is_dir():
    there = ", ".join(sorted(path.name for path in lib.iterdir() if path.name != "any"))
    sys.exit(f"error: kubectl rollup needs Python {there}; python3 is {sys.version.split()[0]}")
sys.path[1:1] = [str(own), str(lib / "any")]

from rollup_operator.plugin.main import main

main()
"""


def archive(wheel: Path, lock: Path, platform: str, pythons: Sequence[str], output: Path) -> Path:
    """Make the archive of one of PLATFORMS for some of PYTHONS in the folder `output`.

    Packages are those of the lock, each checked by its hash, and the operator's own wheel. Raises ReleaseError.
    """
    version = wheel.name.split("-")[1]
    with tempfile.TemporaryDirectory(prefix="kubectl-rollup-") as work:
        root = Path(work) / "root"
        for python in pythons:
            downloaded = Path(work) / python
            _download(lock, PLATFORMS[platform], python, downloaded)
            for each in sorted(downloaded.glob("*.whl")):
                pure = each.stem.endswith("-none-any")
                _unpack(each, root / "lib" / ("any" if pure else python))
        _unpack(wheel, root / "lib" / "any")
        command = root / "kubectl-rollup"
        command.write_text(_COMMAND)
        command.chmod(0o755)
        project = lock.resolve().parent.parent
        shutil.copy(project / "LICENSE", root)
        path = output / f"kubectl-rollup-{version}-{platform}.tar.gz"
        packed = layer(root, "the plugin", epoch=FIRST_TIME, owners={}).content
        path.write_bytes(gzip.compress(packed, mtime=0))
    return path


def manifest(version: str, url: str, folder: Path, platforms: Sequence[str]) -> str:
    """Return krew's manifest for the archives in the folder, which will be downloaded from below `url`."""
    described = []
    for platform in platforms:
        name = f"kubectl-rollup-{version}-{platform}.tar.gz"
        system, architecture = platform.split("-")
        described.append(
            {
                "selector": {"matchLabels": {"os": system, "arch": architecture}},
                "uri": f"{url.rstrip('/')}/{name}",
                "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
                "bin": "kubectl-rollup",
            }
        )
    plugin = {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "rollup"},
        "spec": {
            "version": f"v{version}",
            "homepage": url,
            "shortDescription": "Stop, start, run and explain rollup jobs",
            "description": (
                "Stops, starts, runs and explains the RollupJobs of rollup-operator, previews new ones, and\n"
                "asks for what was rolled up, with the rights of your kubeconfig.\n"
            ),
            "caveats": f"It needs python3 on the PATH, one of {', '.join(PYTHONS)}.\n",
            "platforms": described,
        },
    }
    return yaml.safe_dump(plugin, sort_keys=False)


def _download(lock: Path, tags: Sequence[str], python: str, folder: Path) -> None:
    options = locked_wheels(lock, python, tags)
    command = [sys.executable, "-m", "pip", "download", "--dest", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"pip cannot download {lock} for Python {python} on {tags[0]}:\n{done.stderr.strip()}")


def _unpack(wheel: Path, target: Path) -> None:
    # A wheel is a zip; what lies in its .data folder are commands and headers, which nobody here calls.
    target.mkdir(parents=True, exist_ok=True)
    shutil.unpack_archive(wheel, target, "zip")
    for data in target.glob("*.data"):
        for part in ("purelib", "platlib"):
            if (data / part).is_dir():
                shutil.copytree(data / part, target, dirs_exist_ok=True)
        shutil.rmtree(data)
