"""What GitOps controllers make of an object, asked of their own code: a Go program, built once into the cache.

`go.sum` verifies every module of it; the build takes 1 to 3 minutes where Go has nothing cached.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_tools.folder import cache_root, one_builder

SOURCES = Path(__file__).resolve().parents[1] / "gitops" / "verdict"


@dataclass(frozen=True)
class Verdict:
    """The words for an object: InProgress, Failed, Current or Terminating. `flux` is empty where it was not asked."""

    kstatus: str
    message: str
    flux: str = ""


def judge(program: Path, questions: Sequence[tuple[Mapping[str, Any], Mapping[str, str] | None]]) -> list[Verdict]:
    """Judge each object, by Flux too where its expressions (`current`, `inProgress`, `failed`) are given.

    Raises AssertionError with the program's words, for instance on an expression that cannot be evaluated.
    """
    asked = json.dumps([{"object": body, "expressions": expressions} for body, expressions in questions])
    done = subprocess.run([program], input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [Verdict(**answer) for answer in json.loads(done.stdout)]


def build() -> Path:
    """Return the program's path, built first if need be.

    Raises FileNotFoundError where there is no Go, AssertionError where the build fails.
    """
    files = sorted(path for path in SOURCES.iterdir() if path.suffix in (".go", ".mod", ".sum"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12]
    folder = cache_root() / "verdict"
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / f"verdict-{digest}"
    if program.exists():
        return program
    go = shutil.which("go")
    if go is None:
        raise FileNotFoundError("go: command not found; these tests need Go, as the control plane does")
    with one_builder(folder, _say):
        if not program.exists():
            _say("building kstatus and Flux's evaluator, once: 1 to 3 minutes, less when Go has parts cached")
            with tempfile.TemporaryDirectory(dir=folder) as work:
                _compile(go, Path(work) / "verdict")
                (Path(work) / "verdict").replace(program)
    return program


def _compile(go: str, output: Path) -> None:
    environment = os.environ | {
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }
    command = [go, "build", "-ldflags", "-s -w", "-o", str(output), "."]
    done = subprocess.run(command, cwd=SOURCES, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"go build failed in {SOURCES}:\n{done.stderr[-3000:]}"


def _say(message: str) -> None:
    print(f"verdict: {message}", file=sys.__stderr__, flush=True)
