"""Gets jars through Maven, each checked against its committed SHA-256."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_stores.errors import StoreNodeError, ToolMissing
from local_tools.folder import HEARTBEAT_SECONDS

_POM = """<project><modelVersion>4.0.0</modelVersion><groupId>local</groupId><artifactId>stores</artifactId>
<version>1</version><dependencies>{dependencies}</dependencies></project>
"""
_DEPENDENCY = """<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>
<exclusions>{exclusions}</exclusions></dependency>
"""
_EXCLUSION = "<exclusion><groupId>{group}</groupId><artifactId>{name}</artifactId></exclusion>"
# A version of the plugin that names the same files on every machine.
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"


@dataclass(frozen=True)
class Artifact:
    """What Maven is asked for, with all that it depends on."""

    group: str
    name: str
    version: str
    alone: bool = False
    """Without what it depends on."""


@dataclass(frozen=True)
class Bundle:
    """The jars of one program."""

    title: str
    """What people call it."""
    artifacts: tuple[Artifact, ...]
    megabytes: int
    """What its jars weigh."""
    pinned: Path
    """The list of its jars and their SHA-256, in sha256sum's format."""
    excluded: tuple[str, ...] = ()
    """`group:artifact`, neither of them fetched though something says that it depends on it; `*` for all of a group."""


def fetch(bundle: Bundle, work: Path) -> Path:
    """Return a new folder in `work` with the jars, and nothing else.

    Raises ToolMissing when there is no Maven, StoreNodeError when it fails or a jar is not the one that is pinned.
    """
    lib = _copy(bundle, work)
    pinned = {
        name: digest for digest, _, name in (line.partition("  ") for line in bundle.pinned.read_text().splitlines())
    }
    found = _sums(lib)
    wrong = sorted(name for name in pinned.keys() | found.keys() if pinned.get(name) != found.get(name))
    if wrong:
        raise StoreNodeError(
            f"{bundle.title}: {wrong[0]} is not the one that {bundle.pinned.name} names ({len(wrong)} of {len(pinned)} "
            "differ); nothing was kept. If that is meant, look at what changed and run `build KIND --pin`"
        )
    return lib


def pin(bundle: Bundle) -> Path:
    """Write the list of jars as Maven brings them now; return its path."""
    with tempfile.TemporaryDirectory(prefix="local-stores-pin-") as work:
        sums = _sums(_copy(bundle, Path(work)))
    bundle.pinned.parent.mkdir(exist_ok=True)
    bundle.pinned.write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))
    return bundle.pinned


def say(message: str) -> None:
    """Print progress on stderr."""
    print(f"stores: {message}", file=sys.stderr, flush=True)


def _copy(bundle: Bundle, work: Path) -> Path:
    maven = shutil.which("mvn")
    if maven is None:
        raise ToolMissing(f"mvn: command not found, and {bundle.title} is not here yet; install Maven 3")
    say(f"fetching {bundle.title} through Maven, {bundle.megabytes} MB; 10 to 60 seconds, once")
    dependencies = "".join(_dependency(artifact, bundle.excluded) for artifact in bundle.artifacts)
    (work / "pom.xml").write_text(_POM.format(dependencies=dependencies))
    # Strict: a file that differs from its published checksum ends the build.
    command = [maven, "--batch-mode", "--strict-checksums", "-f", str(work / "pom.xml"), _COPY]
    command += [f"-DoutputDirectory={work / 'lib'}", "-DincludeScope=runtime"]
    log, started = work / "maven.log", time.monotonic()
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as run,
    ):
        try:
            while True:
                try:
                    run.wait(HEARTBEAT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    files = log.read_text(errors="replace").count("Downloaded from")
                    say(f"  {bundle.title}: {time.monotonic() - started:.0f} s, {files} files downloaded")
        except BaseException:
            run.kill()
            raise
    if run.returncode != 0:
        said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("[ERROR]")]
        raise StoreNodeError(
            f"{bundle.title}: Maven failed with exit code {run.returncode}. Its words:\n" + "\n".join(said[:6]) + "\n"
            "Mend that (no network? a mirror in Maven's settings?) and try again; nothing half-made was kept."
        )
    say(f"fetched {bundle.title} in {time.monotonic() - started:.0f} s")
    return work / "lib"


def _sums(lib: Path) -> Mapping[str, str]:
    return {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in lib.glob("*.jar")}


def _dependency(artifact: Artifact, excluded: Sequence[str]) -> str:
    exclusions = "".join(
        _EXCLUSION.format(group=group, name=name)
        for group, _, name in (each.partition(":") for each in (["*:*"] if artifact.alone else excluded))
    )
    return _DEPENDENCY.format(group=artifact.group, name=artifact.name, version=artifact.version, exclusions=exclusions)
