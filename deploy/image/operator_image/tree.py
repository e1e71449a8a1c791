"""What the Dockerfile puts on its base: `python -m operator_image.tree --arch ARCHITECTURE FOLDER`.

Wheels, operator and bytecode, as the archive has them, for whichever architecture, on whichever.
"""

import argparse
import sys
from pathlib import Path

from operator_image import python
from operator_image.errors import ImageError

_PROJECT = Path(__file__).resolve().parents[3]


def main(arguments: list[str] | None = None) -> int:
    """Fill the folder; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m operator_image.tree", description=__doc__)
    parser.add_argument("--arch", choices=["amd64", "arm64"], required=True)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    version = ".".join(map(str, sys.version_info[:2]))
    try:
        if version != python.VERSION:
            raise ImageError(f"this is Python {version}, and the bytecode must be that of {python.VERSION}")
        python.install(_PROJECT / "requirements/image.txt", options.arch, options.folder)
        python.copy_operator(_PROJECT / "operator/rollup_operator", options.folder)
        python.compile_all(options.folder, None)
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
