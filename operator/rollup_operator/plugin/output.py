"""The output of commands: results to standard output, problems and progress to standard error.

With -o json or yaml there is exactly one document on standard output, whatever happens.

No other module of the plugin writes: this one escapes what clusters and users say.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
import typer

from rollup_operator.escaping import escaped, escaped_json
from rollup_operator.plugin.outcome import Code, Failure
from rollup_operator.plugin.tables import Cell, Styled, Table, columns_of, styled, wrapped


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

    def lines(self, lines: Sequence[tuple[str, Cell]]) -> None:
        """Write labels and values in two columns; what is too long for the terminal goes on below its beginning."""
        width = max(len(label) for label, _ in lines)
        for label, value in lines:
            text, colour = (value.text, value.colour) if isinstance(value, Styled) else (value, None)
            say(text, head=f"{styled(label.ljust(width), bold=True)}  ", indent=width + 2, colour=colour)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, spare: Sequence[str] = ()) -> None:
        """Write columns as kubectl does.

        On a terminal that is too narrow, the columns in `spare` are left out, the first ones first; then the last
        column goes on below its beginning. Elsewhere a row is one line, and whole.
        """
        for line in Table(heads).lines(rows, columns_of(sys.stdout), spare):
            typer.echo(line)

    def gap(self) -> None:
        """Write an empty line."""
        typer.echo()

    def growing_table(self, heads: Sequence[str]) -> Callable[[Sequence[Sequence[Cell]]], None]:
        """Begin a table whose rows are written as they come."""
        table, begun = Table(heads), [False]

        def write(rows: Sequence[Sequence[Cell]]) -> None:
            for line in table.lines(rows, head=not begun[0]):
                typer.echo(line)
            begun[0] = True
            sys.stdout.flush()

        return write

    def complain(self, word: str, text: str) -> None:
        """Write a problem to standard error."""
        colour = {"error": "red", "warning": "yellow"}.get(word)
        say(text, head=f"{styled(f'{word}:', err=True, fg=colour, bold=True)} ", err=True, indent=len(word) + 2)


def say(
    text: str,
    *,
    head: str = "",
    err: bool = False,
    keep: str = "",
    indent: int | None = None,
    colour: str | None = None,
) -> None:
    """Write one line: `head` as it is, and the text, which others may have written, escaped but for `keep`.

    With `indent`, the width of `head`, a line that is too long for the terminal is broken between words, and goes on
    that far to the right. Into a pipe a line stays whole.
    """
    text, columns = escaped(text, keep), columns_of(sys.stderr if err else sys.stdout)
    parts = [text] if indent is None or columns is None else wrapped(text, columns - indent)
    for at, part in enumerate(parts):
        shown = styled(part, err=err, fg=colour) if colour is not None else part
        typer.echo(f"{head if at == 0 else ' ' * (indent or 0)}{shown}", err=err)


def agreed(text: str) -> bool:
    """Ask on standard error whether to delete what `text` names; only `y` or `yes` agrees.

    Raises Failure where nobody can answer.
    """
    if not sys.stdin.isatty():
        raise Failure(Code.USAGE, "Usage", f"{text} To delete it without a question, add --yes")
    say(text, err=True, indent=0)
    typer.echo("Delete? [y/N] ", err=True, nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


Shows = Callable[[str, "float | None"], None]
"""Takes what a wait is at: a text, and how much is done in per cent where that is known."""


@contextlib.contextmanager
def progress() -> Iterator[tuple[Shows, bool]]:
    """Show the progress of a wait on standard error: as one line that moves, or as lines.

    Yields how to show it, and whether the line moves, as it does on a terminal.
    """
    if not sys.stderr.isatty():
        yield (lambda text, _: say(text, err=True)), False
        return
    from rich.console import Console  # noqa: PLC0415  # it is needed by few calls and takes time
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    class Bar(BarColumn):
        """A bar where there is a percentage. Else its place is the text's, which fills a line as it is."""

        def render(self, task: Any) -> Any:
            return super().render(task) if task.total is not None else ""

    bar, text_column = Bar(8, complete_style="green", finished_style="green"), TextColumn("{task.description}")
    line = Progress(SpinnerColumn(), bar, text_column, console=Console(stderr=True), transient=True)
    task = line.add_task("", total=None)

    def show(text: str, percent: float | None) -> None:
        line.update(task, description=escape(escaped(text)), total=100 if percent is not None else None)
        line.update(task, completed=percent or 0)
        # Not before there is something to show: a user who logs in may have to answer a question first.
        line.start()

    try:
        yield show, True
    finally:
        line.stop()


@contextlib.contextmanager
def live_table() -> Iterator[Callable[[Sequence[str], Sequence[Sequence[Cell]], Sequence[str]], None]]:
    """Show a table on a terminal that each call writes again in its place."""
    from rich.console import Console  # noqa: PLC0415  # it is needed by few calls and takes time
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    with Live(console=Console(), auto_refresh=False, vertical_overflow="crop") as live:

        def write(heads: Sequence[str], rows: Sequence[Sequence[Cell]], spare: Sequence[str]) -> None:
            # What was written into the lines is escaped: the only codes in them are ours.
            lines = Table(heads).lines(rows, columns_of(sys.stdout), spare)
            live.update(Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)

        yield write


def _yaml(document: Any) -> str:
    import yaml  # noqa: PLC0415  # it is needed by few calls and takes time

    text = str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    if escaped(text, keep="\n") == text:
        return text
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=False))  # each such character has its own form
