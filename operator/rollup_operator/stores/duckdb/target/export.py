"""A job's result as a Parquet file for users, and that file as Elasticsearch documents.

The file is replaced as a whole: a reader sees the old result or the new one. Its columns are named like the keys of
Elasticsearch's documents; the time is a TIMESTAMP in UTC. The file's metadata holds what all rows have in common, and
which database the file came from: a file from another database is neither replaced nor deleted.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import orjson

from rollup_operator.rollup.documents import Layout, document
from rollup_operator.stores.base import Claim
from rollup_operator.stores.duckdb.claims import ClaimRow
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.database.folders import Folder, Folders, NotItself
from rollup_operator.stores.duckdb.statements import sql
from rollup_operator.stores.duckdb.statements.plan import COUNT
from rollup_operator.stores.errors import StoreUnavailable, TargetBlocked

_METADATA = "rollup"
_DATABASE = "rollup_database"
_NAME_BYTES = 200
_BATCH = 10_000
_READER_MEMORY = "64MB"
_DICTIONARY = 1_000
"""Columns with more different values are written plainly: numbers seldom repeat, and trying takes half of the time."""


def export_path(rollup_index: str, job_id: str) -> str:
    """Return where a job's result is, below the results: `<rollup index>/<job id>.parquet`, the id percent-encoded.

    An id too long for a file's name is cut and ends in its hash.
    """
    return f"{rollup_index}/{_file(job_id)}"


def _file(job_id: str) -> str:
    name = quote(job_id, safe="")
    if len(name) > _NAME_BYTES:
        name = f"{name[:_NAME_BYTES]}~{hashlib.sha256(job_id.encode()).hexdigest()[:16]}"
    return f"{name}.parquet"


def claim_of(record: ClaimRow, folders: Folders) -> Claim:
    """Return the claim of a record, with where its result is, if it was ever exported."""
    exported = record.exported is not None
    return replace(record.claim, result=f"{folders.results}/{export_path(*record.claim.key)}" if exported else None)


@dataclass(frozen=True, slots=True)
class Export:
    """The exported file of one job of a database. All methods are called in a worker."""

    folders: Folders
    database: str
    key: tuple[str, str]

    @property
    def shown(self) -> str:
        """Where users find it, below the data root."""
        return f"{self.folders.results}/{export_path(*self.key)}"

    def exists(self) -> bool:
        """Whether a file is there. Raises TargetBlocked, StoreUnavailable."""
        with self.folders.exports(self.key[0]) as folder:
            return folder.stat(_file(self.key[1])) is not None

    @contextmanager
    def written(self, lane: Lane, table: str, layout: Layout) -> Iterator[Callable[[], None]]:
        """Write the result table durably to a file of its own, and yield what puts it in its place, at once.

        That is called in the transaction that finds the claim still held, so that no export comes after a deletion.
        Otherwise the file is removed. Raises TargetBlocked where something is in the way, StoreUnavailable.
        """
        (time, key), *others = columns_of(layout)
        columns = ", ".join(f"{e} AS {sql.name(n)}" for n, e in [(time, f"make_timestamp({key} * 1000)"), *others])
        metadata = {_METADATA: orjson.dumps(layout.to_json()).decode(), _DATABASE: self.database}
        pairs = ", ".join(f"{name}: {sql.text(value)}" for name, value in metadata.items())
        part = lane.part_name()
        with self.folders.exports() as results:
            seen = self._seen(results)
            try:
                lane.execute(
                    f"COPY (SELECT {columns} FROM {table}) TO {sql.text(f'{results.path}/{part}')} "
                    f"(FORMAT parquet, DICTIONARY_SIZE_LIMIT {_DICTIONARY}, KV_METADATA {{{pairs}}})"
                )
                results.sync(part)
                yield partial(self._place, results, part, seen)
            except OSError as e:
                raise StoreUnavailable(f"the result cannot be exported to {self.shown}: {e.strerror}") from e
            finally:
                with suppress(OSError):
                    os.unlink(part, dir_fd=results.fd)

    def _place(self, results: Folder, part: str, seen: os.stat_result | None) -> None:
        index, name = self.key[0], _file(self.key[1])
        with self.folders.exports(index) as folder:
            if not _same(folder.stat(name), seen):
                raise self._blocked("was changed by another process just now")
            move = os.rename if seen is not None else os.link  # a link replaces nothing
            move(part, name, src_dir_fd=results.fd, dst_dir_fd=folder.fd)
            folder.sync()

    def remove(self) -> bool:
        """Delete it, and its folder when it was the last one. Called in the transaction that forgets it.

        False: what is there did not come from this database, and stays. Raises TargetBlocked, StoreUnavailable.
        """
        index, name = self.key[0], _file(self.key[1])
        with self.folders.exports() as results:
            try:
                if self._seen(results) is None:
                    return True
                with results.enter(index) as folder:
                    os.unlink(name, dir_fd=folder.fd)
                    folder.sync()
            except TargetBlocked:
                return False
            except OSError as e:
                raise StoreUnavailable(f"{self.shown} cannot be deleted: {e.strerror}") from e
            with suppress(OSError):
                os.rmdir(index, dir_fd=results.fd)
        return True

    def _seen(self, results: Folder) -> os.stat_result | None:
        """Return what is there; None: nothing. Raises TargetBlocked where it did not come from this database."""
        try:
            with results.enter(self.key[0]) as folder:
                fd = folder.open(_file(self.key[1]))
        except FileNotFoundError:
            return None
        except NotItself as e:
            raise self._blocked(str(e.strerror)) from e
        try:
            with closing(_reader()) as connection:
                if _metadata(connection, f"/proc/self/fd/{fd}", _DATABASE) != self.database.encode():
                    raise self._blocked("exists, and did not come from this store")
            return os.fstat(fd)
        except duckdb.Error as e:
            raise self._blocked("exists, and is no result") from e
        finally:
            os.close(fd)

    def _blocked(self, why: str) -> TargetBlocked:
        return TargetBlocked(
            f"{self.shown} in the data root {why}: the operator does not touch it. Move it away, or choose another "
            "spec.rollupIndex or spec.jobId"
        )


def _same(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    return one is other or (one is not None and other is not None and os.path.samestat(one, other))


def _metadata(connection: duckdb.DuckDBPyConnection, path: str, key: str) -> bytes | None:
    """Return an entry of a Parquet file's metadata; None: it has none."""
    found = connection.execute(
        f"SELECT value FROM parquet_kv_metadata({sql.path_list([path])}) WHERE key = ?", [key.encode()]
    ).fetchone()
    return bytes(found[0]) if found is not None else None


def _reader() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        config={
            "autoload_known_extensions": False,
            "autoinstall_known_extensions": False,
            "threads": 1,
            "memory_limit": _READER_MEMORY,
        }
    )


def documents_of(parquet_path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield id and document of every bucket in an exported file, by time; the operator may run meanwhile.

    Raises FileNotFoundError, or ValueError when the file is no exported result.
    """
    if not parquet_path.is_file():
        raise FileNotFoundError(f"there is no file {parquet_path}")
    source = sql.files("read_parquet", [str(parquet_path)])
    with closing(_reader()) as connection:
        try:
            if (found := _metadata(connection, str(parquet_path), _METADATA)) is None:
                raise ValueError(
                    f"{parquet_path} is not the result of a rollup job: it has no description of its documents"
                )
            layout = Layout.from_json(orjson.loads(found))
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
