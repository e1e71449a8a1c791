"""A release of this code, made once for all workers by the recipe that makes a real one."""

import os
import sys
from pathlib import Path

import pytest

from local_tools.folder import locked
from operator_image import own_architecture
from operator_release import make
from operator_release.build import SUMS

URL = "https://example.org/releases/0.1.0"
PLATFORM = f"linux-{own_architecture()}"
PYTHON = ".".join(map(str, sys.version_info[:2]))


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a release for this machine's architecture and Python."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with locked(folder):
        made = folder / "release"
        if not (made / SUMS).exists():
            make(output=made, url=URL, architectures=[own_architecture()], platforms=[PLATFORM], pythons=[PYTHON])
        return made
