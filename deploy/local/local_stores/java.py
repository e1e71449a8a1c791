"""Finds a JDK. A JDK and not only a Java runtime: the few lines that start a node are compiled here."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local_stores.errors import StoreNodeError, ToolMissing

VARIABLE = "STORE_JAVA_HOME"
"""Names the JDK to prefer."""

_USUAL = (Path("/usr/lib/jvm"), Path("/Library/Java/JavaVirtualMachines"))


@dataclass(frozen=True)
class Jdk:
    """A JDK on this machine."""

    home: Path
    major: int
    release: str
    """The text by which it tells itself apart from every other build."""

    def tool(self, name: str) -> str:
        """Return the path of one of its commands."""
        return str(self.home / "bin" / name)


def find_jdk(oldest: int) -> Jdk:
    """Return a JDK of at least that major version: the first that would do of those named, on PATH and installed.

    Raises ToolMissing when there is none, StoreNodeError when STORE_JAVA_HOME names something else than a JDK.
    """
    seen: dict[Path, int] = {}
    for home in _candidates():
        jdk = _read(home)
        if jdk is not None and jdk.major >= oldest:
            return jdk
        if jdk is not None:
            seen[jdk.home] = jdk.major
    found = "; found " + ", ".join(f"{major} in {home}" for home, major in seen.items()) if seen else ""
    raise ToolMissing(f"no JDK {oldest} or newer{found}; install one, or say where it is with {VARIABLE}=/path/to/jdk")


def _candidates() -> Iterator[Path]:
    if named := os.environ.get(VARIABLE):
        if _read(Path(named)) is None:
            raise StoreNodeError(f"{VARIABLE}={named}: no JDK there (no release file or no bin/javac); correct it")
        yield Path(named)
    if usual := os.environ.get("JAVA_HOME"):
        yield Path(usual)
    if javac := shutil.which("javac"):
        home = Path(javac).resolve().parents[1]
        yield home
        yield from _below(home.parent)
    for folder in _USUAL:
        yield from _below(folder)


def _below(folder: Path) -> list[Path]:
    homes = sorted(folder.iterdir()) if folder.is_dir() else []
    return [inner if (inner := home / "Contents/Home").is_dir() else home for home in homes]


def _read(home: Path) -> Jdk | None:
    try:
        release = (home / "release").read_text()
    except OSError:
        return None
    version = re.search(r'(?m)^JAVA_VERSION="(?:1\.)?(\d+)', release)
    if version is None or not os.access(home / "bin/javac", os.X_OK):
        return None
    return Jdk(home.resolve(), int(version[1]), release)
