"""The store's own records, in the schema `_rollup` of the database: claims and targets. Called in a worker.

A claim outlives its holder, its resource and its documents: epochs only grow.
"""

import re
import uuid
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import duckdb
import orjson

from rollup_operator.model.status import JobStats
from rollup_operator.rollup.identity import Owner
from rollup_operator.stores.base import Claim, Position
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.database.inspection import MOST_TEXT, SCHEMA
from rollup_operator.stores.duckdb.statements import sql
from rollup_operator.stores.errors import Fenced, TargetBlocked

_CREATE = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.claims (
    rollup_index VARCHAR NOT NULL, job_id VARCHAR NOT NULL, holder VARCHAR, epoch BIGINT NOT NULL,
    owner VARCHAR NOT NULL, config_hash VARCHAR NOT NULL, position VARCHAR, watermark_ms BIGINT, stats VARCHAR NOT NULL,
    page_hint DOUBLE, target VARCHAR, revision BIGINT NOT NULL, exported BIGINT, updated_ms BIGINT NOT NULL,
    spec VARCHAR, source_ns BIGINT
);
ALTER TABLE {SCHEMA}.claims ADD COLUMN IF NOT EXISTS spec VARCHAR;
ALTER TABLE {SCHEMA}.claims ADD COLUMN IF NOT EXISTS source_ns BIGINT;
CREATE TABLE IF NOT EXISTS {SCHEMA}.targets (
    target VARCHAR NOT NULL, rollup_index VARCHAR NOT NULL, job_id VARCHAR NOT NULL, created_ms BIGINT NOT NULL
);
"""
_COLUMNS = (
    "rollup_index, job_id, holder, epoch, owner, config_hash, position, watermark_ms, stats, page_hint, target, "
    "revision, exported"
)
_NOW = "epoch_ms(now())"
_LONGEST_SPEC = 4 << 20
"""Characters. The API server takes no larger object."""


class ForeignClaim(TargetBlocked):
    """No operator wrote this record, so no run of any operator has claimed it, and none can."""


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """A row of the claims."""

    claim: Claim
    """`holder` is empty if nobody holds it."""
    owner: Owner
    config_hash: str
    target: str | None
    """Name of the result table, a new one each time it is made."""
    revision: int
    """Grows with every change of the documents."""
    exported: int | None
    """The revision that was exported last."""

    @property
    def held(self) -> bool:
        """Whether there is a holder, alive or dead."""
        return bool(self.claim.holder)

    def is_held_as(self, claim: Claim) -> bool:
        """Whether nobody has claimed or settled the job since the record matched `claim`."""
        return (self.claim.holder, self.claim.epoch) == (claim.holder, claim.epoch)

    @property
    def has_documents(self) -> bool:
        """Whether a new configuration would continue what another one began."""
        return self.claim.position is not None or self.target is not None


Known = tuple[ClaimRow, dict[str, Any] | None]
"""A record, with its job's spec where that was recorded."""


def prepare(lane: Lane) -> None:
    """Create missing tables, and the columns that a file of an earlier version lacks."""
    lane.execute(_CREATE)


def is_current(lane: Lane) -> bool:
    """Whether nothing is left to `prepare`. Not within a transaction, which a failed statement could end."""
    return _is_there(lane, f"{SCHEMA}.claims", "spec, source_ns")


def exists(lane: Lane) -> bool:
    """Whether the database has any records. Not within a transaction, which a failed statement could end."""
    return _is_there(lane, f"{SCHEMA}.claims")


def _is_there(lane: Lane, table: str, column: str = "1") -> bool:
    try:
        lane.execute(f"SELECT {column} FROM {table} LIMIT 0")  # ten times as fast as querying the catalog's views
    except (duckdb.CatalogException, duckdb.BinderException):
        return False
    return True


def read(lane: Lane, key: tuple[str, str]) -> ClaimRow | None:
    """Return a job's record. Raises ForeignClaim if no operator wrote it."""
    rows = lane.execute(f"SELECT {_COLUMNS} FROM {SCHEMA}.claims WHERE rollup_index = ? AND job_id = ? LIMIT 2", key)
    if len(rows) > 1:
        raise _foreign(key, "there is more than one")
    return _record(rows[0]) if rows else None


def pattern(lane: Lane, key: tuple[str, str]) -> str | None:
    """Return the indexPattern that a job's record was claimed with; None: it tells none."""
    where = f"FROM {SCHEMA}.claims WHERE rollup_index = ? AND job_id = ?"
    rows = lane.execute(f"SELECT spec {where} AND strlen(spec) <= {_LONGEST_SPEC} LIMIT 1", key)
    spec = _spec(key, rows[0][0]) if rows else None
    found = None if spec is None else spec.get("indexPattern")
    return found if isinstance(found, str) else None


def documents(lane: Lane, record: ClaimRow) -> int:
    """Return how many documents the job has. Not within a transaction."""
    if record.target is None or not _is_there(lane, table(record.target)):
        return 0
    ((count,),) = lane.execute(f"SELECT count(*) FROM {table(record.target)}")
    return int(str(count))


def known(lane: Lane, rollup_indices: Collection[str] | None = None) -> list[Known]:
    """Return the records of these rollup indices, or all.

    Not within a transaction, which a failed statement could end.

    Raises TargetBlocked if there are more than an operator makes, or one that no operator wrote.
    """
    those = f"FROM {SCHEMA}.claims"
    if rollup_indices is not None:
        those += f" WHERE rollup_index IN ({_texts(rollup_indices)})"

    def read_all(spec: str) -> list[tuple[Any, ...]]:
        # A statement of its own, and no ORDER BY: that is twice as fast.
        ((length,),) = lane.execute(f"SELECT sum(strlen(concat(owner, position, stats, {spec}))) {those}")
        if length is not None and (not isinstance(length, int) or length > MOST_TEXT):
            raise TargetBlocked(f"the records are {length} characters long, and an operator writes {MOST_TEXT} at most")
        return lane.execute(f"SELECT {_COLUMNS}, {spec} {those}")

    return _known(lane, read_all)


def known_jobs(lane: Lane, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], Known]:
    """Return the records of these jobs. Not within a transaction. Raises ForeignClaim."""
    indices, jobs = _texts(index for index, _ in keys), _texts(job for _, job in keys)
    those = f"FROM {SCHEMA}.claims WHERE rollup_index IN ({indices}) AND job_id IN ({jobs})"

    def read_those(spec: str) -> list[tuple[Any, ...]]:
        short = f"CASE WHEN strlen({spec}) <= {_LONGEST_SPEC} THEN {spec} END"
        rows: list[tuple[Any, ...]] = lane.execute(f"SELECT {_COLUMNS}, {short} {those}")
        return [row for row in rows if row[:2] in keys]

    found: dict[tuple[str, str], Known] = {}
    for each in _known(lane, read_those):
        if (key := each[0].claim.key) in found:
            raise _foreign(key, "there is more than one")
        found[key] = each
    return found


def _known(lane: Lane, read_with: Callable[[str], list[tuple[Any, ...]]]) -> list[Known]:
    """Return what records say, given what reads their rows with the expression of the spec."""
    try:
        rows = read_with("spec")
    except duckdb.CatalogException:
        return []  # no job has run
    except duckdb.BinderException:
        rows = read_with("NULL::VARCHAR")  # an earlier version made the file
    found = []
    for *row, spec_text in sorted(rows, key=lambda row: row[:2]):
        lane.go_on()
        record = _record(tuple(row))
        found.append((record, _spec(record.claim.key, spec_text)))
    return found


def _texts(of: Iterable[str]) -> str:
    return ", ".join(map(sql.text, dict.fromkeys(of))) or "NULL"


def take(lane: Lane, key: tuple[str, str], holder: str, owner: Owner, config_hash: str, spec: str) -> ClaimRow:
    """Make the record ours under the next epoch. The caller holds a transaction, and has checked the record."""
    owner_text = orjson.dumps([owner.cluster, owner.namespace, owner.name, owner.uid]).decode()
    if read(lane, key) is None:
        lane.execute(
            f"INSERT INTO {SCHEMA}.claims BY NAME SELECT ? AS rollup_index, ? AS job_id, ? AS holder, 1 AS epoch, "
            f"? AS owner, ? AS config_hash, ? AS stats, 0 AS revision, {_NOW} AS updated_ms, ? AS spec",
            [*key, holder, owner_text, config_hash, JobStats().model_dump_json(), spec],
        )
    else:
        lane.execute(
            f"UPDATE {SCHEMA}.claims SET holder = ?, epoch = epoch + 1, owner = ?, config_hash = ?, spec = ?, "
            f"updated_ms = {_NOW} WHERE rollup_index = ? AND job_id = ?",
            [holder, owner_text, config_hash, spec, *key],
        )
    record = read(lane, key)
    assert record is not None
    return record


def check(lane: Lane, claim: Claim) -> ClaimRow:
    """Return the record, if it is still as the claim says. Raises Fenced."""
    record = read(lane, claim.key)
    if record is None or not record.is_held_as(claim):
        now = f"{record.claim.holder or 'nobody'} with epoch {record.claim.epoch}" if record else "gone"
        raise Fenced(f"the claim of epoch {claim.epoch} was taken over: its holder is now {now}")
    return record


def commit_page(lane: Lane, claim: Claim, target: str | None) -> str | None:
    """Record position, counters and what the pager learned with the page that the transaction writes. Raises Fenced.

    Returns the name of the result table; None where there is none yet, and then `target` is to be given.
    """
    ((now,),) = _update(
        lane,
        claim,
        "position = ?, stats = ?, page_hint = ?, target = coalesce(?, target), revision = revision + 1",
        [_dump(claim.position), claim.stats.model_dump_json(), claim.page_hint, target],
    )
    return now if isinstance(now, str) else None


def commit_watermark(lane: Lane, claim: Claim, source_ns: int | None) -> None:
    """Record watermark and counters, and up to which change of its files the source was seen; None: it was not."""
    _update(
        lane,
        claim,
        "watermark_ms = ?, stats = ?, source_ns = coalesce(?, source_ns)",
        [claim.watermark_ms, claim.stats.model_dump_json(), source_ns],
    )


def source_seen(lane: Lane, key: tuple[str, str]) -> int | None:
    """Return up to which change of its files a job's source was seen by a run that came to its end; None: by none."""
    rows = lane.execute(f"SELECT source_ns FROM {SCHEMA}.claims WHERE rollup_index = ? AND job_id = ?", key)
    return rows[0][0] if rows and isinstance(rows[0][0], int) else None


def commit_export(lane: Lane, claim: Claim, revision: int) -> None:
    """Record that the documents of `revision` were exported."""
    _update(lane, claim, "exported = ?", [revision])


def commit_rewrite(lane: Lane, claim: Claim) -> None:
    """Record that documents that were written before have changed. Raises Fenced."""
    _update(lane, claim, "revision = revision + 1", [])


def evict(lane: Lane, key: tuple[str, str]) -> None:
    """Leave the record without a holder under the next epoch, so that its former holder is fenced."""
    lane.execute(
        f"UPDATE {SCHEMA}.claims SET holder = NULL, epoch = epoch + 1, updated_ms = {_NOW} "
        "WHERE rollup_index = ? AND job_id = ?",
        key,
    )


def release(lane: Lane, key: tuple[str, str]) -> None:
    """Leave the record without a holder."""
    lane.execute(
        f"UPDATE {SCHEMA}.claims SET holder = NULL, updated_ms = {_NOW} WHERE rollup_index = ? AND job_id = ?", key
    )


def forget_documents(lane: Lane, key: tuple[str, str], target: str | None) -> None:
    """Drop the result table, and position, watermark and counters with it. The epoch stays."""
    if target is not None:
        lane.execute(f"DROP TABLE IF EXISTS {table(target)}")
        lane.execute(f"DELETE FROM {SCHEMA}.targets WHERE target = ?", [target])
    lane.execute(
        f"UPDATE {SCHEMA}.claims SET position = NULL, watermark_ms = NULL, stats = ?, page_hint = NULL, target = NULL, "
        f"revision = revision + 1, exported = NULL, updated_ms = {_NOW} WHERE rollup_index = ? AND job_id = ?",
        [JobStats().model_dump_json(), *key],
    )


def make_target(lane: Lane, key: tuple[str, str], columns: str) -> str:
    """Create an empty result table and return its name, never used before."""
    target = uuid.uuid4().hex
    lane.execute(f"CREATE TABLE {table(target)} ({columns})")
    lane.execute(f"INSERT INTO {SCHEMA}.targets VALUES (?, ?, ?, {_NOW})", [target, *key])
    return target


def target_stands(lane: Lane, key: tuple[str, str], target: str) -> bool:
    """Whether the result table is the one that was made for the job."""
    return _is_listed(lane, key, target) and _is_there(lane, table(target))


def _is_listed(lane: Lane, key: tuple[str, str], target: str) -> bool:
    where = "target = ? AND rollup_index = ? AND job_id = ?"
    return bool(lane.execute(f"SELECT 1 FROM {SCHEMA}.targets WHERE {where}", [target, *key]))


def columns_written(lane: Lane, key: tuple[str, str]) -> dict[str, str] | None:
    """Return names and types of the result's columns; None: there is no result. Not within a transaction."""
    record = read(lane, key) if exists(lane) else None
    return None if record is None or record.target is None else _columns_of(lane, record.target)


def columns_standing(lane: Lane, key: tuple[str, str], target: str | None) -> dict[str, str] | None:
    """Likewise, where the result table is the one that was made for the job; None: it is not, or there is none."""
    if target is None or not _is_listed(lane, key, target):
        return None
    return _columns_of(lane, target)


def _columns_of(lane: Lane, target: str) -> dict[str, str] | None:
    try:
        return {str(name): str(type_) for name, type_, *_ in lane.execute(f"DESCRIBE {table(target)}")}
    except duckdb.CatalogException:
        return None


def table(target: str) -> str:
    """Return the result table's name, quoted."""
    return f"{SCHEMA}.{sql.name(f'result_{target}')}"


def _update(lane: Lane, claim: Claim, changes: str, values: list[Any]) -> list[tuple[object, ...]]:
    rows = lane.execute(
        f"UPDATE {SCHEMA}.claims SET {changes}, updated_ms = {_NOW} "
        "WHERE rollup_index = ? AND job_id = ? AND holder = ? AND epoch = ? RETURNING target",
        [*values, *claim.key, claim.holder, claim.epoch],
    )
    if not rows:
        check(lane, claim)
    return rows


def _dump(value: object) -> str | None:
    return orjson.dumps(value).decode() if value is not None else None


LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""
_LARGEST = 2**62
_TARGET = re.compile(r"[0-9a-f]{32}")


def _record(row: tuple[Any, ...]) -> ClaimRow:
    """Read a row. Raises ForeignClaim where no operator wrote it: users could write to files of earlier versions."""
    index, job_id, holder, epoch, owner, config_hash, position, watermark, stats, hint, target, revision, exported = row
    key = (index, job_id)
    try:
        record = ClaimRow(
            claim=Claim(
                key=key,
                holder=holder or "",
                epoch=_whole(epoch, _LARGEST),
                position=_position(position),
                watermark_ms=None if watermark is None else _whole(watermark, LAST_MS),
                stats=JobStats.model_validate_json(stats),
                page_hint=hint,
            ),
            owner=Owner(*_owner(owner)),
            config_hash=config_hash,
            target=target,
            revision=_whole(revision, _LARGEST),
            exported=exported,
        )
    except (ValueError, TypeError) as e:
        raise _foreign(key, str(e)) from e
    if target is not None and not _TARGET.fullmatch(target):
        raise _foreign(key, f"its result is {target[:100]!r}")
    return record


def _whole(value: int, most: int) -> int:
    if not 0 <= value <= most:
        raise ValueError(f"{value} is out of bounds")
    return value


def _position(text: str | None) -> Position | None:
    if text is None:
        return None
    position = orjson.loads(text)
    if not isinstance(position, dict) or any(isinstance(value, dict | list) for value in position.values()):
        raise TypeError("its position is none")
    return position


def _owner(text: str) -> list[str]:
    found = orjson.loads(text)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise TypeError("its owner is none")
    return found


def _spec(key: tuple[str, str], text: object) -> dict[str, Any] | None:
    if not isinstance(text, str):
        return None
    try:
        spec = orjson.loads(text)
    except ValueError as e:
        raise _foreign(key, str(e)) from e
    if not isinstance(spec, dict):
        raise _foreign(key, "its spec is none")
    return spec


def _foreign(key: tuple[str, str], why: str) -> ForeignClaim:
    index, job_id = key
    why = why.splitlines()[0][:200] if why else "it cannot be read"
    return ForeignClaim(
        f"no operator wrote the record of job {job_id[:100]!r} in rollup index {index[:100]!r}: {why}. Name another "
        "database in spec.duckdb.database, or restore this one"
    )
