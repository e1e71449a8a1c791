"""Python environments that hold one client library each, made from the locks in requirements/clients/.

A client must meet the endpoint with the packages that it asks for itself, not with ours. An environment is made when it
is first asked for, below .venv-clients/, and anew when its lock or the interpreter has changed.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LOCKS = ROOT / "requirements" / "clients"
ENVIRONMENTS = ROOT / ".venv-clients"
NAMES = tuple(sorted(path.stem for path in LOCKS.glob("*.txt")))


def interpreter(name: str, say: Callable[[str], None] = print) -> Path:
    """Return the Python of the environment `name`, one of NAMES; make it where it is missing or old.

    Only wheels are installed, and each is checked against its hash. Raises AssertionError with pip's words.
    """
    lock = LOCKS / f"{name}.txt"
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    stamp = folder / ".made-of"
    wanted = f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {sys.version}\n"
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # two test sessions may want it at once
        if not stamp.exists() or stamp.read_text() != wanted:
            say(f"environment: making {folder.relative_to(ROOT)} for the tests; 5 to 20 seconds, once")
            shutil.rmtree(folder, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(folder))
            pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            _run(*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(lock))
            stamp.write_text(wanted)
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}{done.stderr}"
