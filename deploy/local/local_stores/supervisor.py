"""The process that runs one node for one life of it: the node never outlives its use.

It lives by its lifeline (local_tools.lifeline). When that is cut the node ends: at once where its folder is temporary
and goes with it, in order where the data stays. When the node ends by itself, or is killed, this ends too and leaves
the data. Whatever ends it, even SIGKILL, the node goes with it (Linux: by the kernel's hand).
"""

import argparse
import contextlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from local_stores import api
from local_stores.state import NODE, SUPERVISOR, NodeFolder, Record
from local_tools.lifeline import Lifeline, Stop, tail
from local_tools.process import ProcessId, die_with_parent

_POLL_SECONDS = 0.05
_ORDERLY_SECONDS = 20.0
_LOG_LINES = 12


class _Failed(Exception):
    """The node ended by itself or did not become ready."""


def main() -> int:
    """Run one node; the folder must be prepared."""
    parser = argparse.ArgumentParser(description="Run one node; started by local_stores itself.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--kind", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--cluster", required=True, help="the name by which the node is told from any other")
    parser.add_argument("--login", help="USER:PASSWORD of somebody who may ask for its health")
    parser.add_argument("--timeout", type=float, required=True)
    parser.add_argument("--temporary", action="store_true", help="remove the folder in the end")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    folder, lifeline = NodeFolder(options.directory), Lifeline()
    node = _start(options.command, folder)
    processes = {SUPERVISOR: ProcessId.of(os.getpid()), NODE: ProcessId.of(node.pid)}
    cut = False
    try:
        folder.write(Record(options.kind, options.url, False, processes))
        _await_ready(node, lifeline, options, time.monotonic() + options.timeout)
        folder.write(Record(options.kind, options.url, True, processes))
        lifeline.ready()
        while node.poll() is None:
            lifeline.wait(None)
    except Stop:
        cut = True
        if not options.temporary:
            _end_in_order(node)
    except _Failed as failure:
        lifeline.failed(f"{failure}. The end of its log, {folder.log(NODE)}:\n{_last_words(folder.log(NODE))}")
        if options.temporary:
            shutil.rmtree(folder.data, ignore_errors=True)  # the log stays
        return 1
    finally:
        node.kill()
        node.wait()
    if cut and options.temporary:
        shutil.rmtree(folder.path, ignore_errors=True)
    return 0


def _start(command: Sequence[str], folder: NodeFolder) -> "subprocess.Popen[bytes]":
    home = folder.data / "home"
    home.mkdir(parents=True, exist_ok=True)
    with folder.log(NODE).open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder.path,
            # Nothing of the user's: a JVM takes options from the environment too.
            env={"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent(),  # noqa: PLW1509  (this process has one thread)
        )


def _await_ready(
    node: "subprocess.Popen[bytes]", lifeline: Lifeline, options: argparse.Namespace, deadline: float
) -> None:
    """Return once this node, and no other that may have its port, says that it is not red."""
    user, _, password = (options.login or "").partition(":")
    headers = api.basic((user, password) if user else None)
    while True:
        if node.poll() is not None:
            raise _Failed(f"the node ended by itself with exit code {node.returncode}")
        try:
            health = api.request(options.url, "GET", "/_cluster/health", headers=headers, timeout=5)[1]
            if health["cluster_name"] == options.cluster and health["status"] != "red":
                return
        except (OSError, http.client.HTTPException, KeyError, TypeError):
            pass
        if time.monotonic() >= deadline:
            raise _Failed("the node did not become ready in time")
        lifeline.wait(_POLL_SECONDS)


def _end_in_order(node: "subprocess.Popen[bytes]") -> None:
    node.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):  # it is killed next
        node.wait(timeout=_ORDERLY_SECONDS)


def _last_words(log: Path) -> str:
    """Return the end of the log without stack traces, which hide what was said."""
    lines = [
        line
        for line in tail(log, 300).splitlines()
        if line and not re.match(r"\s+at |\s+\.\.\. \d+ more", re.sub(r"^\[.*\]", "", line))
    ]
    return "\n".join(lines[-_LOG_LINES:])


if __name__ == "__main__":
    sys.exit(main())
