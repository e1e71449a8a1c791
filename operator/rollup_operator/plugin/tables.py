"""Texts and tables laid out for a terminal, or for a pipe. What others wrote is escaped here, before it is styled."""

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import typer

from rollup_operator.escaping import escaped
from rollup_operator.explaining.commands import parts

GAP = 3
"""Blanks between two columns."""

NARROW_GAP = 2
"""The same where GAP would make the table too wide."""

ROOM = 36
"""Characters that the last column needs: it may go on below."""

NOTHING = "-"
"""What a cell without a value shows."""

BELOW = 4
"""Blanks before a text that has too long a word for its column, and goes below its row."""

NARROWEST = 40
"""Columns; a terminal that says less is taken for one of this width."""


@dataclass(frozen=True)
class Styled:
    """A text with a style for terminals."""

    text: str
    colour: str | None = None
    bold: bool = False
    dim: bool = False

    def shown(self, text: str) -> str:
        """Write `text`, which is this one or a part of it, in this style."""
        if self.colour is None and not self.bold and not self.dim:
            return escaped(text)
        return styled(text, fg=self.colour, bold=self.bold or None, dim=self.dim or None)


Cell = str | Styled


def styled(text: str, *, err: bool = False, **style: Any) -> str:
    """Escape text, and style it for a terminal that wants it (NO_COLOR)."""
    stream, text = sys.stderr if err else sys.stdout, escaped(text)
    wants = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return typer.style(text, **style) if wants else text


def columns_of(stream: IO[str]) -> int | None:
    """Return how many characters a line of the terminal holds; None: it is none."""
    return max(NARROWEST, shutil.get_terminal_size().columns) if stream.isatty() else None


def wrapped(text: str, width: int) -> list[str]:
    """Break a text between words. A word that is longer than a line stays whole: it may be something to copy.

    A command to copy is then a line of its own, however long: the terminal goes on below, and copies it as one line.
    """
    width = max(width, NARROWEST // 2)
    if len(lines := _broken(text, width)) == 1:
        return lines
    return [line for part in parts(text) for line in ([part.text] if part.is_command else _broken(part.text, width))]


def _broken(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


class Table:
    """Columns as kubectl writes them. A column never gets narrower, so rows may be added."""

    def __init__(self, heads: Sequence[str]) -> None:
        self._heads = [Styled(head, bold=True) for head in heads]
        self._sizes = [0] * len(heads)
        self._gap = GAP

    def lines(
        self,
        rows: Sequence[Sequence[Cell]],
        columns: int | None = None,
        spare: Sequence[str] = (),
        *,
        head: bool = True,
    ) -> list[str]:
        """Lay out rows for a terminal of so many columns, or for a pipe.

        Where they are too wide, the columns move closer; then those in `spare` are left out, those without a value
        and then the first ones first, until the last one has ROOM; it goes on below its beginning, or below the row.
        In a pipe a row is one line, and whole.
        """
        cells = [[_cell(cell) for cell in row] for row in rows]
        for line in (self._heads, *cells):
            self._sizes = [max(size, _width(cell.text)) for size, cell in zip(self._sizes, line, strict=True)]
        kept = list(range(len(self._heads)))
        self._gap = GAP if self._fits(kept, columns) else NARROW_GAP
        empty = {head.text for i, head in enumerate(self._heads) if all(row[i].text == NOTHING for row in cells)}
        for name in sorted(spare, key=lambda name: name not in empty):
            if self._fits(kept, columns):
                break
            kept = [i for i in kept if self._heads[i].text != name]
        return [
            part for line in ([self._heads] if head else []) + cells for part in self._laid_out(line, kept, columns)
        ]

    def _fits(self, kept: Sequence[int], columns: int | None) -> bool:
        return columns is None or self._before(kept) + min(self._sizes[kept[-1]], ROOM) <= columns

    def _before(self, kept: Sequence[int]) -> int:
        """Return where the last column begins."""
        return sum(self._sizes[i] + self._gap for i in kept[:-1])

    def _laid_out(self, line: Sequence[Styled], kept: Sequence[int], columns: int | None) -> list[str]:
        last, before = line[kept[-1]], self._before(kept)
        start = "".join(
            line[i].shown(line[i].text + " " * (self._sizes[i] - _width(line[i].text))) + " " * self._gap
            for i in kept[:-1]
        )
        room = 0 if columns is None else columns - before
        parts = wrapped(last.text, room) if room >= NARROWEST // 2 else [last.text]
        if columns is not None and " " in last.text and max(map(_width, parts)) > room:
            parts = wrapped(last.text, columns - BELOW)
            return [start.rstrip(), *(" " * BELOW + last.shown(part) for part in parts)]
        return [(start + last.shown(parts[0])).rstrip(), *(" " * before + last.shown(part) for part in parts[1:])]


def _cell(cell: Cell) -> Styled:
    given = cell if isinstance(cell, Styled) else Styled(cell)
    return Styled(escaped(given.text) or NOTHING, given.colour, given.bold, given.dim)


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415  # few texts need it, and it takes time

    return cell_len(text)
