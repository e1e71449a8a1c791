"""Packages of Debian and Ubuntu."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence


def can_install() -> bool:
    """Say whether this user can install packages with apt-get here."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str], what: str) -> bool:
    """Install packages, and say on standard error that it is for `what`; return whether that worked."""
    # Without the lists of packages, as in a fresh container, they are fetched first.
    words = ("install", "--yes", "--no-install-recommends", *packages)
    return _apt_get(what, *words) or (_apt_get(what, "update") and _apt_get(what, *words))


def _apt_get(what: str, *words: str) -> bool:
    command = ["apt-get", *words]
    print(f"{what}: {' '.join(command)}", file=sys.stderr, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0
