"""The two upper layers: the locked wheels, and the operator itself."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from operator_image.errors import ImageError

INTERPRETER = "usr/bin/python3.11"
PACKAGES = "usr/lib/python3/dist-packages"
VERSION = "3.11"
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_GLIBC = range(17, 37)  # bookworm's C library is 2.36
_COMMAND = f"""#!/{INTERPRETER} -I
import sys

from rollup_operator.cli import main

sys.exit(main())
"""


@dataclass(frozen=True)
class Wheel:
    """A Python package of the lock."""

    name: str
    version: str
    license: str


def install(lock: Path, architecture: str, root: Path) -> list[Wheel]:
    """Install the locked wheels of `architecture`, each checked by its hash, below `root`. Raises ImageError."""
    machine = _MACHINES[architecture]
    target = root / PACKAGES
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in reversed(_GLIBC)] + [f"manylinux2014_{machine}"]
    command = [
        *(sys.executable, "-m", "pip", "install", "--no-compile", "--target", str(target)),
        *locked_wheels(lock, VERSION, platforms),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"pip cannot install {lock} for {machine}:\n{done.stderr.strip()}")
    # Commands name the interpreter of this machine, and RECORD holds their hashes; nothing reads either.
    shutil.rmtree(target / "bin", ignore_errors=True)
    for record in target.glob("*.dist-info/RECORD"):
        record.unlink()
    return sorted((_wheel(each) for each in target.glob("*.dist-info/METADATA")), key=lambda each: each.name)


def locked_wheels(lock: Path, version: str, platforms: Sequence[str]) -> list[str]:
    """Return pip's options for the wheels of a lock, each checked by its hash, for another Python than this one."""
    return [
        *("--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--no-deps"),
        *("--python-version", version, "--implementation", "cp", "--abi", f"cp{version.replace('.', '')}"),
        *("--abi", "abi3", "--abi", "none", *(f"--platform={each}" for each in platforms)),
        *("--require-hashes", "-r", str(lock)),
    ]


def copy_operator(source: Path, root: Path) -> None:
    """Copy the operator's package, say its version as an installation does, and make its command."""
    version = operator_version(source)
    metadata = root / PACKAGES / f"rollup_operator-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.4\nName: rollup-operator\nVersion: {version}\n")
    package = root / PACKAGES / "rollup_operator"
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    command = root / "usr/bin/rollup-operator"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text(_COMMAND)
    command.chmod(0o755)


def compile_all(root: Path, base: Path | None) -> None:
    """Compile what is below `root`, for a quick start: with the interpreter of `base`, or with this one, of `VERSION`.

    The bytecode says that it needs no check against its source, so that no time of change is in it. Raises ImageError.
    """
    interpreter, environment = [sys.executable, "-I"], {}
    if base is not None:
        loader = next(base.glob("lib64/ld-linux-*.so.2"), None) or next(base.glob("lib/ld-linux-*.so.1"), None)
        if loader is None:
            raise ImageError("the base layer holds no loader of programs")
        libraries = ":".join(str(each) for each in (*base.glob("lib/*-linux-gnu"), *base.glob("usr/lib/*-linux-gnu")))
        interpreter = [str(loader), "--library-path", libraries, str(base / INTERPRETER)]
        environment = {"PYTHONHOME": str(base / "usr")}
    command = [
        *interpreter,
        *("-m", "compileall", "-q", "-f", "-s", str(root), "-p", "/", "--invalidation-mode", "unchecked-hash"),
        str(root / "usr/lib"),
    ]
    environment |= {"PYTHONHASHSEED": "0", "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"{interpreter[0]} cannot compile {root}:\n{done.stdout}{done.stderr}")


def operator_version(source: Path) -> str:
    """Return the operator's version as its package says it."""
    match = re.search(r'(?m)^__version__ = "(.+)"$', (source / "__init__.py").read_text())
    assert match is not None
    return match[1]


def _wheel(metadata: Path) -> Wheel:
    def field(name: str) -> str:
        match = re.search(rf"(?m)^{name}: (.+)$", head)
        return match[1].strip() if match else ""

    head = metadata.read_text(errors="replace").partition("\n\n")[0]
    return Wheel(field("Name"), field("Version"), field("License-Expression"))
