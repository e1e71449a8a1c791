"""The output of commands: results to standard output, problems and progress to standard error.

With -o json or yaml there is exactly one document on standard output, whatever happens.

No other module of the plugin writes: this one escapes what clusters and users say.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
import typer

from rollup_operator.escaping import escaped, escaped_json
from rollup_operator.plugin.outcome import Code, Failure


class Format(StrEnum):
    """The values of -o for commands that also write text."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


@dataclass
class Output:
    """The output of one command."""

    command: str
    format: str = Format.TEXT

    @property
    def for_programs(self) -> bool:
        """Whether standard output is one document."""
        return self.format in ("json", "yaml")

    def failure(self, failure: Failure) -> Code:
        """Write why the command was not carried out, and return its exit code."""
        if self.for_programs:
            error = {"reason": failure.reason, "message": failure.message}
            self.document({"command": self.command, "exitCode": failure.code, "error": error})
        else:
            self.complain("error", failure.message)
        return failure.code

    def document(self, document: Any) -> None:
        """Write the one document."""
        if self.format == Format.YAML:
            typer.echo(_yaml(orjson.loads(orjson.dumps(document))).rstrip())
        else:
            typer.echo(escaped_json(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()))

    def lines(self, lines: Sequence[tuple[str, str]]) -> None:
        """Write labels and values in two columns."""
        width = max(len(label) for label, _ in lines)
        for label, value in lines:
            say(value, head=f"{styled(label.ljust(width), bold=True)}  ")

    def complain(self, word: str, text: str) -> None:
        """Write a problem to standard error."""
        colour = {"error": "red", "warning": "yellow"}.get(word)
        say(text, head=f"{styled(f'{word}:', err=True, fg=colour, bold=True)} ", err=True)


def say(text: str, *, head: str = "", err: bool = False, keep: str = "") -> None:
    """Write one line: `head` as it is, and the text, whoever wrote it, escaped but for the characters in `keep`."""
    typer.echo(f"{head}{escaped(text, keep)}", err=err)


def styled(text: str, *, err: bool = False, **style: Any) -> str:
    """Escape text, and style it for a terminal that wants it (NO_COLOR)."""
    stream, text = sys.stderr if err else sys.stdout, escaped(text)
    return typer.style(text, **style) if stream.isatty() and not os.environ.get("NO_COLOR") else text


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show the progress of a wait on standard error: one changing line on a terminal, else only the first."""
    if not sys.stderr.isatty():
        shown: list[str] = []

        def show_first(text: str) -> None:
            if not shown:
                say(text, err=True)
                shown.append(text)

        yield show_first
        return
    from rich.console import Console  # noqa: PLC0415  # it is needed by few calls and takes time
    from rich.markup import escape  # noqa: PLC0415

    line = Console(stderr=True).status("")

    def show(text: str) -> None:
        # Not before there is something to show: a user who logs in may have to answer a question first.
        line.update(escape(escaped(text)))
        line.start()

    try:
        yield show
    finally:
        line.stop()


def _yaml(document: Any) -> str:
    import yaml  # noqa: PLC0415  # it is needed by few calls and takes time

    text = str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    if escaped(text, keep="\n") == text:
        return text
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=False))  # each such character has its own form
