"""Elasticsearch's JavaScript client for tests/clients/node/speaker.mjs: installed once into the cache.

python -m support.node_client [--optional]
"""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from local_stores import ToolMissing
from local_tools.folder import building, cache_root

SOURCES = Path(__file__).resolve().parents[1] / "clients" / "node"
SCRIPT = SOURCES / "speaker.mjs"
PACKAGES, HASHES = SOURCES / "package.json", SOURCES / "hashes.txt"
"""The version of each package, and its hash. Neither says where it comes from: npm knows that."""
NODE = 20
"""The oldest one that the client runs on."""
TITLE = "Elasticsearch's JavaScript client"


class InstallFailed(Exception):
    """npm could not install the client; the text has its words."""


def command() -> list[str]:
    """Return the command that starts the program; the client is installed first if need be.

    Raises ToolMissing where there is no Node.js or no npm, InstallFailed where npm fails or a package is not the one
    of the list.
    """
    node = _node()
    # A module finds the packages beside it, and no others.
    folder = cache_root() / "node-client" / _digest(PACKAGES, HASHES)
    script = folder / f"speaker-{_digest(SCRIPT)}.mjs"
    with building(folder, _say) as work:
        if not (folder / "node_modules").is_dir():
            _install(work)
            (work / "node_modules").rename(folder / "node_modules")
        if not script.is_file():
            shutil.copy(SCRIPT, work / SCRIPT.name).rename(script)
    return [node, str(script)]


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        raise ToolMissing(f"node: command not found; install Node.js {NODE} or newer")
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    if not told.startswith("v") or int(told[1:].partition(".")[0]) < NODE:
        raise ToolMissing(f"{node} is {told or 'of no version'}; install Node.js {NODE} or newer")
    return node


def _install(work: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise ToolMissing(f"npm: command not found, and {TITLE} is not here yet; install npm")
    shutil.copy(PACKAGES, work)
    _say(f"installing {TITLE} through npm, 33 MB; some seconds, once")
    options = ["--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
    options += ["--no-progress", "--no-update-notifier"]
    done = subprocess.run(
        [npm, "install", *options], cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise InstallFailed(f"npm install of {TITLE} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    # npm has compared each package with the hash that it notes here.
    noted = json.loads((work / "node_modules" / ".package-lock.json").read_text())["packages"]
    there = {f"{path.removeprefix('node_modules/')} {of['version']} {of['integrity']}" for path, of in noted.items()}
    if others := there ^ set(HASHES.read_text().splitlines()):
        raise InstallFailed(f"the packages of {TITLE} are not those of {HASHES.name}: {', '.join(sorted(others))}")


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _say(message: str) -> None:
    print(f"clients: {message}", file=sys.stderr, flush=True)


def main() -> int:
    """Install it, so that no test waits for it; return the exit code."""
    try:
        print(" ".join(command()))
    except ToolMissing as missing:
        if "--optional" not in sys.argv[1:]:
            raise
        _say(f"{missing}. Tests that need {TITLE} are skipped")
    except InstallFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
