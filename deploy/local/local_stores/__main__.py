"""The command: `python -m local_stores up | down | status | build`."""

import argparse
import os
import sys
import time
from pathlib import Path

from local_stores.errors import StoreNodeError, ToolMissing
from local_stores.kinds import KINDS, kind_named
from local_stores.maven import pin, say
from local_stores.node import Node, down, prepare

EXIT_NOT_RUNNING = 3


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except StoreNodeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local_stores",
        description="Real OpenSearch and Elasticsearch nodes on this machine, for the tests and for you to try.",
        epilog=f"Kinds: {', '.join(f'{kind.name} ({kind.title}, JDK {kind.jdk})' for kind in KINDS.values())}.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start one that stays, on the data of its last life, and print STORE_URL=...")
    end = commands.add_parser("down", help="end it and remove its data; fine if it does not run")
    status = commands.add_parser("status", help=f"show what runs; exit code {EXIT_NOT_RUNNING} if it does not")
    for command, run in ((up, _up), (end, _down), (status, _status)):
        command.add_argument("kind", choices=KINDS)
        command.add_argument("--dir", type=Path, help="its folder (default: .local/stores/KIND)")
        command.set_defaults(run=run)
    up.add_argument("--port", type=int, help="(default: a free one)")
    up.add_argument("--heap", default="512m", help="(default: %(default)s)")
    up.add_argument("--fast", action="store_true", help="start more slowly and run faster, to measure")
    up.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for it (default: %(default)s)")
    up.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the node itself")
    end.add_argument("--keep", action="store_true", help="leave the data for the next `up`")
    build = commands.add_parser("build", help="get what is not here yet, and print where it is")
    build.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)} (default: all)")
    build.add_argument(
        "--optional", action="store_true", help="without a JDK or Maven, say so and succeed; not if CI=true"
    )
    build.add_argument("--pin", action="store_true", help="write the list of jars and their SHA-256 anew")
    build.set_defaults(run=_build)
    return parser


def _up(options: argparse.Namespace) -> int:
    directory = _directory(options)
    wrong = [word for word in options.set if "=" not in word]
    if wrong:
        raise StoreNodeError(f"setting {wrong[0]!r}: must be NAME=VALUE")
    node = Node.find(directory)
    if node is None:
        prepare(options.kind)
        started = time.monotonic()
        node = Node.start(
            options.kind,
            directory=directory,
            port=options.port,
            settings=dict(word.split("=", 1) for word in options.set),
            heap=options.heap,
            quick=not options.fast,
            timeout=options.timeout,
        )
        node.detach()
        say(f"{node.kind.title} at {node.url} ready after {time.monotonic() - started:.1f} s")
    else:
        say(f"{node.kind.title} at {node.url} runs already")
    print(f"STORE_URL={node.url}")
    return 0


def _down(options: argparse.Namespace) -> int:
    print("ended" if down(_directory(options), keep=options.keep) else "nothing was running")
    return 0


def _status(options: argparse.Namespace) -> int:
    node = Node.find(_directory(options))
    if node is None:
        print("not running")
        return EXIT_NOT_RUNNING
    try:
        health = node.request("GET", "/_cluster/health", timeout=5)[1]["status"]
    except (OSError, TypeError, KeyError):
        health = "not answering"
    print(f"{node.kind.title}: {health}, pid {node.process.pid}, log {node.log}")
    print(f"STORE_URL={node.url}")
    return 0 if health in ("green", "yellow") else EXIT_NOT_RUNNING


def _build(options: argparse.Namespace) -> int:
    for name in options.kinds or KINDS:
        if options.pin:
            say(f"wrote {pin(kind_named(name).bundle)}")
        try:
            print(f"{name}: {prepare(name)}")
        except ToolMissing as error:
            if not options.optional or os.environ.get("CI") == "true":
                raise
            say(f"{error}. Tests that need {KINDS[name].title} are skipped")
    return 0


def _directory(options: argparse.Namespace) -> Path:
    given: Path | None = options.dir
    return given or Path(".local/stores") / options.kind


if __name__ == "__main__":
    sys.exit(main())
