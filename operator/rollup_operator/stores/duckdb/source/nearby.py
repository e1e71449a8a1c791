"""Lists what a pattern could have meant: the tables of the database and the files of the users' folder. In a worker."""

from collections.abc import Iterator

from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.database.folders import Folder, NotItself
from rollup_operator.stores.errors import StoreError

_MOST_ENTRIES = 2000
_MOST_STEPS = 3
"""Folders that are searched, one in another."""


def listed(lane: Lane, endings: tuple[str, ...], own: str) -> list[str]:
    """Return names of tables and patterns of files, except those of the job's own result; no more than a hint needs."""
    rows = lane.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = 'main' "
        f"AND NOT temporary AND NOT internal ORDER BY table_name LIMIT {_MOST_ENTRIES}"
    )
    tables = [name for (name,) in rows if isinstance(name, str)]
    return [*tables, *_files(lane, endings, own)]


def _files(lane: Lane, endings: tuple[str, ...], own: str) -> list[str]:
    try:
        if (folder := lane.folders.users()) is None:
            return []
    except StoreError:
        return []
    found: dict[tuple[str, str], list[str]] = {}
    with folder:
        for above, name in _walk(lane, folder, "", [_MOST_ENTRIES]):
            ending = next((end for end in endings if name.lower().endswith(end)), "")
            if ending and not f"{above}{name}".startswith(f"{own}/"):
                found.setdefault((above, ending), []).append(name)
    return sorted(
        f"{above}*{ending}" if len(names) > 1 else f"{above}{names[0]}" for (above, ending), names in found.items()
    )


def _walk(lane: Lane, folder: Folder, above: str, left: list[int]) -> Iterator[tuple[str, str]]:
    """Yield the folder and the name of each file, links left out. `left`: how many more entries may be looked at."""
    try:
        names = sorted(name for name, _ in zip(folder.names(), range(left[0]), strict=False))
        for name in names:
            lane.go_on()
            left[0] -= 1
            if left[0] < 0:
                return
            if name.startswith(".") or folder.is_link(name):
                continue
            if not folder.is_folder(name):
                yield above, name
            elif above.count("/") < _MOST_STEPS:
                with folder.enter(name) as inner:
                    yield from _walk(lane, inner, f"{above}{name}/", left)
    except (OSError, NotItself):
        return
