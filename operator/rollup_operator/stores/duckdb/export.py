"""A job's result as a Parquet file for users, and that file as Elasticsearch documents.

The file is replaced as a whole: who reads sees the old result or the new one. Its columns are named as the keys of
Elasticsearch's documents; the time is a TIMESTAMP in UTC. What all rows have in common is in the file's metadata.
"""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import orjson

from rollup_operator.indexer.documents import Layout, document
from rollup_operator.stores.duckdb import sql
from rollup_operator.stores.duckdb.database import Lane
from rollup_operator.stores.duckdb.plan import COUNT
from rollup_operator.stores.errors import ForbiddenSource, StoreUnavailable

_METADATA = "rollup"
_NAME_BYTES = 200
_BATCH = 10_000
_DICTIONARY = 1_000
"""Columns with more different values are written plainly: numbers seldom repeat, and trying takes half of the time."""


def export_path(folder: Path, rollup_index: str, job_id: str) -> Path:
    """Return where a job's result is exported: `<rollup index>/<job id>.parquet`, the id percent-encoded.

    An id too long for a file's name is cut and ends in its hash.
    """
    name = quote(job_id, safe="")
    if len(name) > _NAME_BYTES:
        name = f"{name[:_NAME_BYTES]}~{hashlib.sha256(job_id.encode()).hexdigest()[:16]}"
    return folder / rollup_index / f"{name}.parquet"


@contextmanager
def written(lane: Lane, table: str, layout: Layout, folder: Path, path: Path) -> Iterator[Path]:
    """Write the result table durably to a file beside `path`, for `place`; otherwise it is removed. Called in a worker.

    Raises ForbiddenSource when the rollup index's folder is a link out of the namespace's.
    """
    check_inside(folder, path)
    (time, key), *others = columns_of(layout)
    columns = ", ".join(f"{e} AS {sql.name(n)}" for n, e in [(time, f"make_timestamp({key} * 1000)"), *others])
    description = sql.text(orjson.dumps(layout.to_json()).decode())
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        lane.execute(
            f"COPY (SELECT {columns} FROM {table}) TO {sql.text(str(part))} "
            f"(FORMAT parquet, DICTIONARY_SIZE_LIMIT {_DICTIONARY}, KV_METADATA {{{_METADATA}: {description}}})"
        )
        _sync(part)
        yield part
    except OSError as e:
        raise StoreUnavailable(f"the result cannot be exported to {path.parent.name}/{path.name}: {e.strerror}") from e
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def place(part: Path, path: Path) -> None:
    """Put a file that was `written` in the place of the exported one, at once and durably.

    Called in the transaction that finds the claim still held, so that no export comes after a deletion.
    """
    part.replace(path)
    _sync(path.parent)


def remove(folder: Path, path: Path) -> None:
    """Delete an exported file, and its folder when it was the last one. Called in the transaction that forgets it."""
    check_inside(folder, path)
    try:
        with suppress(FileNotFoundError):
            path.unlink()
            _sync(path.parent)
    except OSError as e:
        raise StoreUnavailable(f"{path.parent.name}/{path.name} cannot be deleted: {e.strerror}") from e
    with suppress(OSError):
        path.parent.rmdir()


def check_inside(folder: Path, path: Path) -> None:
    """Raise ForbiddenSource when the file would lie outside the namespace's folder."""
    if Path(os.path.realpath(path.parent)) != folder / path.parent.name:
        raise ForbiddenSource(
            f"spec.rollupIndex: {path.parent.name!r} in the namespace's data folder is a link: make it a folder"
        )


def documents_of(parquet_path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield id and document of every bucket in an exported file, by time; the operator may run meanwhile.

    Raises FileNotFoundError, or ValueError when the file is no exported result.
    """
    if not parquet_path.is_file():
        raise FileNotFoundError(f"there is no file {parquet_path}")
    source = sql.files("read_parquet", [str(parquet_path)])
    with duckdb.connect(
        config={"autoload_known_extensions": False, "autoinstall_known_extensions": False}
    ) as connection:
        try:
            found = connection.execute(
                f"SELECT value FROM parquet_kv_metadata({sql.path_list([str(parquet_path)])}) WHERE key = ?",
                [_METADATA.encode()],
            ).fetchone()
            if found is None:
                raise ValueError(
                    f"{parquet_path} is not the result of a rollup job: it has no description of its documents"
                )
            layout = Layout.from_json(orjson.loads(found[0]))
            time, *rest = (sql.name(name) for name, _ in columns_of(layout))
            rows = connection.execute(f"SELECT {', '.join([f'epoch_ms({time})', *rest])} FROM {source} ORDER BY {time}")
            while batch := rows.fetchmany(_BATCH):
                for row in batch:
                    yield document_of(layout, row)
        except duckdb.Error as e:
            raise ValueError(f"{parquet_path} cannot be read: {str(e).splitlines()[0]}") from e


def document_of(layout: Layout, row: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
    """Return id and document of one row of `columns_of`, its time in epoch milliseconds."""
    keys = len(layout.group_keys())
    names = [name for name, _ in columns_of(layout)[keys + 1 :]]
    return document(layout, row[:keys], row[keys], dict(zip(names, row[keys + 1 :], strict=True)))


def columns_of(layout: Layout) -> list[tuple[str, str]]:
    """Return the file's columns and how the result table gives them: time, other groups, count, metrics."""
    time, *others = layout.group_keys()
    columns = [(f"{time}.timestamp", sql.name(time))]
    columns += [(f"{key}.value", sql.name(key)) for key in others]
    columns.append((f"{time}._count", COUNT))
    stored = {"min": "min", "max": "max", "sum": "sum", "avg": "sum", "value_count": "count"}
    for field, metrics in layout.metrics:
        for metric in metrics:
            columns.append((f"{field}.{metric}.value", sql.name(f"{field}.{stored[metric]}")))
            if metric == "avg":
                columns.append((f"{field}.avg._count", sql.name(f"{field}.count")))
    return columns


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
