"""The command: `python -m local_control_plane up | down | status | build`."""

import argparse
import http.client
import sys
import time
from pathlib import Path

from local_control_plane.build import COMPONENTS, REQUIRED, binaries
from local_control_plane.errors import ControlPlaneError
from local_control_plane.plane import ControlPlane, stop

DEFAULT_DIRECTORY = Path(".local/control-plane")
EXIT_NOT_RUNNING = 3


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "up":
            return _up(options.dir, options.timeout)
        if options.command == "down":
            return _down(options.dir)
        if options.command == "status":
            return _status(options.dir)
        return _build(options.components)
    except ControlPlaneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local_control_plane",
        description="A real etcd and kube-apiserver on this machine, for demos and tests.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start one that stays, and print KUBECONFIG=PATH")
    down = commands.add_parser("down", help="end it and remove its data; fine if it does not run")
    status = commands.add_parser("status", help=f"show what runs; exit code {EXIT_NOT_RUNNING} if it does not")
    for command in (up, down, status):
        command.add_argument("--dir", type=Path, default=DEFAULT_DIRECTORY, help="state folder (default: %(default)s)")
    up.add_argument("--timeout", type=float, default=180.0, help="seconds to wait for it (default: %(default)s)")
    build = commands.add_parser("build", help="build what is not built yet, and print where it is")
    build.add_argument(
        "components",
        nargs="*",
        metavar="COMPONENT",
        help=f"of {', '.join(COMPONENTS)} (default: {' '.join(REQUIRED)})",
    )
    return parser


def _up(directory: Path, timeout: float) -> int:
    plane = ControlPlane.find(directory)
    if plane is None:
        started = time.monotonic()
        plane = ControlPlane.start(directory, timeout=timeout)
        plane.detach()
        print(f"control plane: {plane.server} ready after {time.monotonic() - started:.1f} s", file=sys.stderr)
    else:
        print(f"control plane: {plane.server} runs already", file=sys.stderr)
    print(f"KUBECONFIG={plane.kubeconfig}")
    return 0


def _down(directory: Path) -> int:
    print("ended" if stop(directory) else "nothing was running")
    return 0


def _status(directory: Path) -> int:
    plane = ControlPlane.find(directory)
    if plane is None:
        print("not running")
        return EXIT_NOT_RUNNING
    try:
        ready = plane.request("GET", "/readyz", timeout=5)[0] == 200
    except (OSError, http.client.HTTPException):
        ready = False
    print(f"{'ready' if ready else 'not ready'} at {plane.server}")
    print("".join(f"{name}: pid {pid}\n" for name, pid in plane.pids.items()), end="")
    print(f"KUBECONFIG={plane.kubeconfig}")
    return 0 if ready else EXIT_NOT_RUNNING


def _build(components: list[str]) -> int:
    for name, path in binaries(components or REQUIRED).items():
        print(f"{name}: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
