"""Turns DuckDB's errors about CSV files into one sentence: file, line, column, value and fix. Pure.

DuckDB's messages have many lines; the first says little, and parts of them come from the file. This module searches
them for fixed words, in time linear in their length.
"""

import codecs
from collections.abc import Callable

_LONGEST = 200
_LINE = "CSV Error on Line: "
_FILE = "\n  file = "
_COLUMN, _VALUE, _TYPE = 'Error when converting column "', '". Could not convert string "', "\" to '"
_TIMES = ("DATE", "TIMESTAMP")
_FOUND = "Expected Number of Columns: "
_ENCODING = ("not utf-8 encoded", "invalid unicode", "byte sequence mismatch")
_QUOTES = "unterminated quote"
_STATE = "state machine reached an invalid state"
_ENDS = (
    "its ends of lines differ (LF, CR, CRLF), or a line ends within quotes: give all lines the same end, for instance "
    "with dos2unix, and close all quotes"
)
_RECODE = "convert the file to it, for instance with iconv"


def explain(text: str, hide: Callable[[str], str]) -> str | None:
    """Return what is wrong with which file; None: DuckDB's message is about something else.

    `hide` gives files the names that users know.
    """
    if _STATE in text:
        return f"{_file(text, hide)}: {_ENDS}"
    if (at := text.find(_LINE)) < 0:
        return None
    line = text[at + len(_LINE) :].split("\n", 1)[0].strip()[:20]
    where = f"{_file(text, hide)}, line {line}"
    if (converting := _converting(text)) is not None:
        column, value, type_ = converting
        written = "in spec.csv.timeFormat how times are written, " if type_.startswith(_TIMES) else ""
        return (
            f"{where}, column {column!r}: {value!r} is no {type_}: correct the file, or say {written}in "
            "spec.csv.nullText which text stands for a missing value, or in spec.csv.columns that the column is "
            "VARCHAR, if it may be"
        )
    lower = text.lower()
    if any(words in lower for words in _ENCODING):
        return f"{where}: the text is not UTF-8: {_RECODE}"
    if (at := text.rfind(_FOUND)) >= 0:
        counts = text[at + len(_FOUND) :].split("\n", 1)[0].replace(" Found: ", " columns are expected, and there are ")
        return f"{where}: {counts[:_LONGEST]}: correct the line, or spec.csv.delimiter"
    if _QUOTES in lower:
        return f"{where}: a quote is opened and not closed: correct the file"
    reason = next((part for part in text.split("\n", 4)[2:4] if part.strip()), "it cannot be read")
    return f"{where}: {hide(reason[:_LONGEST]).strip()}: correct the file"


def not_readable(text: str, head: bytes) -> str:
    """Return what is to be said of a file whose beginning is not understood."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # which may end within a character
    except UnicodeDecodeError as e:
        line = head.count(b"\n", 0, e.start) + 1
        return f"is not UTF-8 in line {line}: {_RECODE}"
    if len({head.count(b"\r\n"), head.count(b"\n"), head.count(b"\r")} - {0}) > 1:
        return f"cannot be read as CSV: {_ENDS}"
    said = next((line for line in text.splitlines() if line.strip()), "")
    said = said.partition(" when sniffing file ")[0][:_LONGEST].strip()
    return f"cannot be read as CSV: {said}: say in spec.csv how it is written (delimiter, header, columns)"


def _file(text: str, hide: Callable[[str], str]) -> str:
    # The last one: what stands above may be the file's own words.
    at = text.rfind(_FILE)
    return hide(text[at + len(_FILE) :].split("\n", 1)[0].strip()[:_LONGEST]) if at >= 0 else "a CSV file"


def _converting(text: str) -> tuple[str, str, str] | None:
    if (begin := text.rfind(_COLUMN)) < 0:
        return None
    rest = text[begin + len(_COLUMN) :]
    column, found, rest = rest.partition(_VALUE)
    if not found or (end := rest.rfind(_TYPE)) < 0:
        return None
    type_ = rest[end + len(_TYPE) :].partition("'")[0]
    return column[:_LONGEST], rest[: min(end, _LONGEST)], type_[:_LONGEST]
