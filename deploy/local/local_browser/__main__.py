"""The command: `python -m local_browser install`."""

import argparse
import sys

from local_browser.needs import PACKAGES, why_not
from local_tools.apt import can_install, install


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local_browser", description="Chromium and its driver.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="apt-get install them from Debian, where they are missing")
    parser.parse_args(arguments)
    reason = why_not()
    if reason is None:
        return 0
    if can_install() and install(PACKAGES, "browser"):
        return 0
    print(f"error: no browser here: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
