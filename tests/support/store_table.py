"""Writes into docs/clusters.md what the tests of stores ran on, from the record that `--store-record` leaves.

`python -m support.store_table` does it; a test compares.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).resolve().parent.parent
RECORD = _TESTS / "stores.json"
PAGE = _TESTS.parent / "docs" / "clusters.md"

_BEGIN, _END = "<!-- from tests/stores.json -->\n", "<!-- end -->\n"


def written(page: str, record: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page with the record in its place."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} has no place for the record")
    return f"{before}{begin}{table(record)}{end}{after}"


def table(record: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the record as a table of versions; which test cannot run on which, and why, stays in the record."""
    lines = ["| version | passed | failed | cannot run there |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {kind['release']} | {kind['passed']} | {len(kind['failed'])} | {len(kind['skipped'])} |"
        for kind in sorted(record.values(), key=lambda kind: str(kind["release"]))
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), json.loads(RECORD.read_text())))
