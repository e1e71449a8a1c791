"""The `rollup-operator` command, which also runs as `python -m rollup_operator`."""

import sys


def main() -> None:
    """Run the command line, or say which extra it needs where only `kubectl rollup` is installed."""
    try:
        from rollup_operator import cli  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == __package__:
            raise
        print(
            f"error: this installation holds `kubectl rollup` only (there is no module {error.name}): "
            "for the operator install rollup-operator[operator]",
            file=sys.stderr,
        )
        sys.exit(2)
    cli.main()


if __name__ == "__main__":
    main()
