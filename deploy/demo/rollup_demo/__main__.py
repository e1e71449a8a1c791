"""The command: `python -m rollup_demo demo | up | down | picture`."""

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from local_control_plane import ControlPlaneError
from rollup_demo import picture
from rollup_demo.errors import FAILURES, UsageError
from rollup_demo.search_node import VARIABLE, SearchNode
from rollup_demo.stack import PROJECT, Folder, Stack, clear
from rollup_demo.story import demo, prepare
from rollup_demo.tables import Teller

_ABANDONED_SECONDS = 3600.0


def main() -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rollup_demo", description=__doc__)
    parser.add_argument("command", choices=["demo", "up", "down", "picture"])
    parser.add_argument("--dir", type=Path, default=PROJECT / ".local", help="state folder (default: %(default)s)")
    options = parser.parse_args()
    command, state = options.command, options.dir.absolute()
    signal.signal(signal.SIGTERM, _end)
    teller = Teller(steps=6 if command == "demo" else 3)
    try:
        if command == "down":
            return _down(state, teller)
        if command == "picture":
            return _picture(state, teller)
        node = _named_node(command)
        state.mkdir(parents=True, exist_ok=True)
        return _demo(state, teller) if command == "demo" else _up(state, teller, node)
    except UsageError as error:
        teller.fail(str(error))
        return 2
    except ControlPlaneError as error:
        teller.fail(str(error))
        return 1
    except (KeyboardInterrupt, RuntimeError) as error:
        # DuckDB makes a RuntimeError of an interrupt that meets it in a query.
        if isinstance(error, RuntimeError) and str(error) != "Query interrupted":
            raise
        teller.fail("interrupted; everything that was started has been ended")
        return 130


def _end(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _named_node(command: str) -> SearchNode | None:
    url = os.environ.get(VARIABLE)
    if not url:
        return None
    if command == "demo":
        raise UsageError(f"{VARIABLE}={url}: `make demo` shows the embedded store; unset it, or use `make up`")
    return SearchNode.at(url)


def _demo(state: Path, teller: Teller) -> int:
    """Run the six steps in a folder of their own, so that it disturbs nothing that `up` has started."""
    for path in state.glob("demo-*"):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:  # its demo was killed
            clear(Folder(path))
            shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="demo-", dir=state) as new:
        folder = Folder(Path(new))
        try:
            demo(folder, teller)
        except FAILURES as error:
            # By now all has ended; the logs are still there.
            return _failed(error, folder, teller)
    return 0


def _up(state: Path, teller: Teller, node: SearchNode | None) -> int:
    stack = Stack.find(state)
    if stack is not None:
        teller.say("It runs already.")
    else:
        try:
            stack = prepare(Folder(state), teller, node)
        except FAILURES as error:
            return _failed(error, Folder(state), teller)
        _write_environment(state / "env", stack)
        stack.detach()
    teller.hints(stack.url, node.url if node is not None else None)
    return 0


def _write_environment(path: Path, stack: Stack) -> None:
    """Write the file to source. It holds a token, so that only its owner may read it."""
    values = {
        "KUBECONFIG": str(stack.plane.kubeconfig),
        "ROLLUP_URL": stack.url,
        "ROLLUP_TOKEN": stack.endpoint.token,
    }
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
        # kubectl finds `kubectl rollup` on the PATH. At its end: the environment's Python must not hide the user's.
        file.write(f'export PATH="$PATH":{shlex.quote(str(Path(sys.executable).parent))}\n')


def _down(state: Path, teller: Teller) -> int:
    (state / "env").unlink(missing_ok=True)
    ran = state.exists() and clear(Folder(state))
    if ran:
        teller.say("Ended, and its data removed; the logs stay in .local.")
        teller.say(
            "A shell that has sourced .local/env still has its variables: unset KUBECONFIG ROLLUP_URL ROLLUP_TOKEN"
        )
    else:
        teller.say("Nothing was running.")
    return 0


def _picture(state: Path, teller: Teller) -> int:
    stack = Stack.find(state) if state.exists() else None
    if stack is None:
        raise UsageError("nothing runs of which a picture could be taken: `make up` first")
    try:
        picture.take(stack)
    except FAILURES as error:
        return _failed(error, Folder(state), teller)
    teller.say(f"wrote {picture.FILE.relative_to(PROJECT)}: {picture.FILE.stat().st_size:,} bytes")
    return 0


def _failed(error: Exception, folder: Folder, teller: Teller) -> int:
    teller.fail(f"{error}\n\nThe end of the operator's log:\n{folder.log_tail()}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
