"""Times, durations and tables as text, and durations from text."""

import re
from collections.abc import Sequence
from datetime import datetime

from rollup_operator.escaping import escaped
from rollup_operator.model.times import duration

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


def seconds_of(text: str) -> float:
    """Read a duration: `30s`, `1m30s`, `500ms`, `0`. Raises ValueError saying what is valid."""
    if text == "0":
        return 0.0
    seconds, at = 0.0, 0
    while part := _PART.match(text, at):
        seconds += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if at and at == len(text):
        return seconds
    raise ValueError(f"'{text}' is no duration: write 30s, 1m30s or 500ms, or 0 for one check without waiting")


def ago(when: datetime | None, now: datetime) -> str:
    """Write how long ago something was, `-` if unknown."""
    return "-" if when is None else f"{duration((now - when).total_seconds())} ago"


def ahead(when: datetime | None, now: datetime) -> str:
    """Write how far ahead something is."""
    if when is None:
        return "-"
    return (
        f"in {duration((when - now).total_seconds())}"
        if when > now
        else f"overdue for {duration((now - when).total_seconds())}"
    )


def command(verb: str, namespace: str, name: str) -> str:
    """Write a command of the plugin in a form to copy."""
    return f"kubectl rollup {verb} {name} -n {namespace}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out columns as kubectl does, and return the lines."""
    lines = [tuple(heads), *(tuple(escaped(cell) or "-" for cell in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
