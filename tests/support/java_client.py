"""Elasticsearch's own Java client in a small program, tests/clients/java/Speaker.java: built once into the cache.

python -m support.java_client [--pin] [--optional]
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from local_stores import StoreNodeError, ToolMissing
from local_stores.java import find_jdk
from local_stores.maven import Artifact, Bundle, fetch, pin, say
from local_tools.folder import building, cache_root

SOURCES = Path(__file__).resolve().parents[1] / "clients" / "java"
SOURCE = SOURCES / "Speaker.java"
JAVA = 17
"""The oldest one that compiles and runs it."""

VERSION = "9.5.6"

CLIENT = Bundle(
    title=f"Elasticsearch's Java client {VERSION}",
    artifacts=(Artifact("co.elastic.clients", "elasticsearch-java", VERSION),),
    megabytes=22,
    pinned=SOURCES / f"elasticsearch-java-{VERSION}.sha256",
)
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx256m")
"""It lives for seconds."""


def command() -> list[str]:
    """Return the command that starts the program, which is built first if need be.

    Raises ToolMissing where there is no JDK or no Maven, StoreNodeError where Maven fails or a jar is not the pinned
    one, AssertionError where the program does not compile.
    """
    jdk = find_jdk(JAVA)
    folder = cache_root() / "java-client" / VERSION
    made = folder / f"speaker-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}"
    with building(folder, say) as work:
        if not (folder / "lib").is_dir():
            fetch(CLIENT, work).rename(folder / "lib")
        if not made.is_dir():
            classes = work / "classes"
            compiler = [
                jdk.tool("javac"),
                "-proc:none",
                "-Xlint:all,-processing",
                "-Werror",
                "-cp",
                f"{folder}/lib/*",
            ]
            done = subprocess.run(
                [*compiler, "-d", str(classes), str(SOURCE)], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{SOURCE.name} does not compile:\n{done.stdout}{done.stderr}"
            classes.rename(made)
    return [jdk.tool("java"), *QUICK, "-cp", f"{made}:{folder}/lib/*", "Speaker"]


def main() -> int:
    """Build it, so that no test waits for it; return the exit code."""
    options = sys.argv[1:]
    try:
        if "--pin" in options:
            say(f"wrote {pin(CLIENT)}")
        print(" ".join(command()))
    except ToolMissing as missing:
        if "--optional" not in options or os.environ.get("CI") == "true":
            raise
        say(f"{missing}. Tests that need {CLIENT.title} are skipped")
    except StoreNodeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
