"""The command: `python -m local_cluster up | down | status | exec | load-image | forward | install | build`."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from local_cluster.cluster import Cluster, stop
from local_cluster.errors import ClusterError
from local_cluster.needs import PACKAGES, PROGRAMS, TOOLS, why_not
from local_control_plane.build import binaries
from local_control_plane.errors import ControlPlaneError
from local_tools.apt import can_install, install

DEFAULT_DIRECTORY = Path(".local/cluster")
EXIT_NOT_RUNNING = 3


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "up":
                return _up(options.dir, options.timeout)
            case "down":
                print("ended" if stop(options.dir) else "nothing was running")
                return 0
            case "build":
                for name, path in binaries((*PROGRAMS, *TOOLS)).items():
                    print(f"{name}: {path}")
                return 0
            case "install":
                return _install()
        cluster = Cluster.find(options.dir)
        if cluster is None:
            print("not running")
            return EXIT_NOT_RUNNING
        match options.command:
            case "status":
                print(cluster.kubectl("get", "nodes,pods", "--all-namespaces", "-o", "wide"), end="")
            case "exec":
                words = cluster.command(options.words)
                os.execvp(words[0], words)  # noqa: S606  (words, no shell)
            case "load-image":
                cluster.load_image(options.archive)
            case "forward":
                print(f"127.0.0.1:{cluster.forward(options.address)}", flush=True)
                signal.pause()
    except (ClusterError, ControlPlaneError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local_cluster",
        description="A real Kubernetes node on this machine, in namespaces of its own. Linux, root.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start one that stays")
    status = commands.add_parser(
        "status", help=f"show its nodes and pods; exit code {EXIT_NOT_RUNNING} if it is not up"
    )
    run = commands.add_parser("exec", help="run a command in the node: exec -- kubectl get pods -A")
    load = commands.add_parser("load-image", help="make the images of a docker or OCI archive known to it")
    forward = commands.add_parser("forward", help="let this machine reach an address of a pod or Service, until Ctrl-C")
    down = commands.add_parser("down", help="end it and remove its data; fine if it does not run")
    for command in (up, status, run, load, forward, down):
        command.add_argument("--dir", type=Path, default=DEFAULT_DIRECTORY, help="state folder (default: %(default)s)")
    up.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for it (default: %(default)s)")
    run.add_argument("words", nargs="+", metavar="WORD", help="the command; put -- before it")
    load.add_argument("archive", type=Path)
    forward.add_argument("address", metavar="ADDRESS:PORT")
    commands.add_parser("install", help="apt-get install what a node needs of Debian or Ubuntu, where it is missing")
    commands.add_parser("build", help="build its programs, once: 5 to 15 minutes on 2 cores, then cached")
    return parser


def _install() -> int:
    if why_not() is None:
        return 0
    if not can_install():
        raise ClusterError(f"cannot install it here: {why_not()}")
    if not install(PACKAGES, "cluster"):
        raise ClusterError(f"apt-get could not install {', '.join(PACKAGES)}")
    return 0


def _up(directory: Path, timeout: float) -> int:
    cluster = Cluster.find(directory)
    if cluster is not None:
        print(f"cluster: {cluster.name} runs already", file=sys.stderr)
        return 0
    started = time.monotonic()
    cluster = Cluster.start(directory, timeout=timeout)
    cluster.detach()
    print(f"cluster: node {cluster.name} Ready after {time.monotonic() - started:.1f} s", file=sys.stderr)
    print(f"Use it: python -m local_cluster exec --dir {directory} -- kubectl get nodes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
