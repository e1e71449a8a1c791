"""The command: `python -m operator_image`."""

import argparse
import sys
from pathlib import Path

from operator_image.build import make, own_architecture
from operator_image.errors import ImageError


def main(arguments: list[str] | None = None) -> int:
    """Make the image and print the archive's path; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        print(make(output=options.output, architecture=options.arch, epoch=options.epoch))
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m operator_image",
        description="Make the operator's image as an archive that docker load, podman load, skopeo and ctr take.",
    )
    parser.add_argument("--arch", choices=["amd64", "arm64"], default=own_architecture(), help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder (default: %(default)s)")
    parser.add_argument(
        "--epoch", type=int, help="time of every file, in seconds (default: $SOURCE_DATE_EPOCH, else 1980)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
