"""The command: `python -m rollup_demo demo | up | down`."""

import argparse
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from local_control_plane import ControlPlaneError
from rollup_demo.errors import FAILURES, UsageError
from rollup_demo.stack import PROJECT, Folder, Stack, clear
from rollup_demo.story import demo, prepare
from rollup_demo.tables import Teller

STATE = PROJECT / ".local"
ENVIRONMENT = STATE / "env"


def main() -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rollup_demo", description=__doc__)
    parser.add_argument("command", choices=["demo", "up", "down"])
    command = parser.parse_args().command
    signal.signal(signal.SIGTERM, _end)
    teller = Teller(steps=6 if command == "demo" else 3)
    try:
        if command == "down":
            return _down(teller)
        _refuse_other_stores()
        STATE.mkdir(exist_ok=True)
        return _demo(teller) if command == "demo" else _up(teller)
    except UsageError as error:
        teller.fail(str(error))
        return 2
    except ControlPlaneError as error:
        teller.fail(str(error))
        return 1
    except KeyboardInterrupt:
        teller.fail("interrupted; everything that was started has been ended")
        return 130


def _end(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _refuse_other_stores() -> None:
    if url := os.environ.get("ROLLUP_STORE_URL"):
        raise UsageError(
            f"ROLLUP_STORE_URL={url}: there is no store for OpenSearch or Elasticsearch yet; "
            "unset it to use the embedded one"
        )


def _demo(teller: Teller) -> int:
    """Run the six steps in a folder of their own, so that it disturbs nothing that `up` has started."""
    with tempfile.TemporaryDirectory(prefix="demo-", dir=STATE) as path:
        folder = Folder(Path(path))
        try:
            demo(folder, teller)
        except FAILURES as error:
            # By now all has ended; the logs are still there.
            teller.fail(f"{error}\n\nThe end of the operator's log:\n{folder.log_tail()}")
            return 1
    return 0


def _up(teller: Teller) -> int:
    stack = Stack.find(STATE)
    if stack is not None:
        teller.say("It runs already.")
    else:
        try:
            stack = prepare(Folder(STATE), teller)
        except FAILURES as error:
            teller.fail(
                f"{error}\n\nThe end of the operator's log, {STATE / 'operator.log'}:\n{Folder(STATE).log_tail()}"
            )
            return 1
        values = {"KUBECONFIG": str(stack.plane.kubeconfig), "ROLLUP_URL": stack.endpoint.url}
        ENVIRONMENT.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items()))
        stack.detach()
    teller.hints(stack.endpoint.url)
    return 0


def _down(teller: Teller) -> int:
    ENVIRONMENT.unlink(missing_ok=True)
    ran = STATE.exists() and clear(Folder(STATE))
    teller.say("Ended, and its data removed." if ran else "Nothing was running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
