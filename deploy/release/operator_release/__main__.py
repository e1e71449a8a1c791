"""The command: `python -m operator_release`."""

import argparse
import sys
from pathlib import Path

from operator_image import ImageError, own_architecture
from operator_release.build import make
from operator_release.errors import ReleaseError
from operator_release.plugin import PLATFORMS, PYTHONS

_NOWHERE = "https://releases.invalid"


def main(arguments: list[str] | None = None) -> int:
    """Make the release, print its folder, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        print(
            make(
                output=options.output,
                url=options.url,
                architectures=options.arch,
                platforms=options.platform,
                pythons=options.python,
            )
        )
    except (ReleaseError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.url == _NOWHERE:
        print(f"note: the krew manifest names {_NOWHERE}; say where the files will be: --url", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m operator_release",
        description="Make wheel, image, chart, CRDs, the kubectl plugin for krew, and checksums of all of them.",
    )
    parser.add_argument("--output", type=Path, default=Path("dist/release"), help="folder (default: %(default)s)")
    parser.add_argument(
        "--url", default=_NOWHERE, help="where the folder's files will be downloaded from (default: %(default)s)"
    )
    parser.add_argument(
        "--arch", nargs="*", choices=["amd64", "arm64"], default=[own_architecture()], help="images (default: this one)"
    )
    parser.add_argument(
        "--platform", nargs="*", choices=list(PLATFORMS), default=list(PLATFORMS), help="of the plugin (default: all)"
    )
    parser.add_argument(
        "--python", nargs="*", choices=PYTHONS, default=PYTHONS, help="that the plugin runs on (default: all)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
