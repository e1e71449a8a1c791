"""The command: `python -m local_manifests [--check]`."""

import argparse
import sys

from local_control_plane.errors import ControlPlaneError
from local_manifests.generate import chart_files, kustomize_files, schema, stale, write
from local_manifests.render import DEPLOY, RenderError


def main(arguments: list[str] | None = None) -> int:
    """Write the generated files of deploy/, or with --check compare them; 1 when one is stale."""
    parser = argparse.ArgumentParser(prog="python -m local_manifests", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    check = parser.parse_args(arguments).check
    found = False
    try:
        # In this order: what comes later is rendered from what comes before.
        for files in (chart_files, schema, kustomize_files):
            changed = stale(texts := files())
            found = found or bool(changed)
            for path in changed:
                outcome = "is stale: run `make generate` and commit the result" if check else "written"
                print(f"{path.relative_to(DEPLOY.parent)} {outcome}", file=sys.stderr)
            if not check:
                write(texts)
    except (RenderError, ControlPlaneError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return int(check and found)


if __name__ == "__main__":
    sys.exit(main())
