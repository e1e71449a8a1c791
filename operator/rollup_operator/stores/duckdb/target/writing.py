"""The writing side of a run: a page into the result table. Called in a worker."""

from collections.abc import Collection, Iterable

from rollup_operator.rollup.documents import SAME_SUM
from rollup_operator.stores.base import Claim, Rewritten
from rollup_operator.stores.duckdb import claims
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.source.reading import Range, Reading
from rollup_operator.stores.duckdb.statements import sql
from rollup_operator.stores.duckdb.statements.columns import Column
from rollup_operator.stores.duckdb.statements.plan import COUNT, Plan
from rollup_operator.stores.errors import SourceInvalid

DOCUMENTS = "_documents"
"""The column that counts the documents of a bucket: a second one was written by somebody else."""

_EXACT = 2**53
"""Up to here a DOUBLE holds every whole number."""


def widen(lane: Lane, claim: Claim, plan: Plan) -> None:
    """Change the result's keys to the plan's types, if whole numbers became decimals. Raises Fenced, SourceInvalid.

    In a transaction of its own: the documents say the same afterwards.
    """
    record = claims.read(lane, claim.key) if plan.widens else None
    if record is None or record.target is None:
        return
    target = claims.table(record.target)

    def work(lane: Lane) -> None:
        claims.check(lane, claim)
        for column in plan.widens:
            key = sql.name(column)
            if lane.execute(f"SELECT 1 FROM {target} WHERE abs({key}) > {_EXACT} LIMIT 1"):
                raise SourceInvalid(
                    f"spec.groups.terms.fields: column {column.removesuffix('.terms')!r} holds decimals now, and what "
                    f"is written has whole numbers above {_EXACT} for it, which decimals cannot tell apart: continue "
                    "with a new job of another spec.rollupIndex or jobId"
                )
            lane.execute(f"ALTER TABLE {target} ALTER {key} TYPE DOUBLE")

    types = {str(name): str(type_) for name, type_, *_ in lane.execute(f"DESCRIBE {target}")}
    if any(types[column] != "DOUBLE" for column in plan.widens):
        lane.transaction(work)


def replace_range(lane: Lane, after: Claim, found: Range, plan: Plan) -> None:
    """Replace the page's range and commit `after` with it, in the caller's transaction. Raises Fenced."""
    target = claims.commit_page(lane, after, None)
    if target is None:
        columns = ", ".join(f"{sql.name(n)} {t}" for n, t in plan.columns)
        target = claims.make_target(lane, after.key, columns)
        claims.commit_page(lane, after, target)
    lane.execute(f"DELETE FROM {claims.table(target)} WHERE {_within(plan, found)}")
    lane.execute(f"INSERT INTO {claims.table(target)} BY NAME {found.select}")


def rewrite_range(lane: Lane, claim: Claim, found: Range, reading: Reading) -> Rewritten:
    """Replace the documents of the page's range that changed, unless they count fewer rows. Raises Fenced.

    In a separate transaction, after the differences are found: only the claim's holder changes the result.
    """
    record = claims.check(lane, claim)
    if record.target is None:
        return Rewritten(0, 0)
    target = claims.table(record.target)
    keys = [sql.name(n) for n in (reading.plan.date_key, *(c.name for c in reading.plan.groups))]
    different = reading.scratch(lane, _different(target, found, reading.plan))
    ((changed, kept),) = lane.execute(f"SELECT count(*) FILTER (NOT _less), count(*) FILTER (_less) FROM {different}")
    assert isinstance(changed, int)
    assert isinstance(kept, int)

    def work(lane: Lane) -> None:
        claims.commit_rewrite(lane, claim)
        where = " AND ".join(f"c.{k} IS NOT DISTINCT FROM {target}.{k}" for k in keys)
        lane.execute(f"DELETE FROM {target} USING {different} c WHERE NOT c._less AND {where}")
        lane.execute(f"INSERT INTO {target} BY NAME SELECT * EXCLUDE (_less) FROM {different} WHERE NOT _less")

    if changed:
        lane.transaction(work)
    reading.forget(lane, different)
    return Rewritten(changed, kept)


def stored(target: str, plan: Plan, written: Collection[str], begin: int, end: int) -> str:
    """Return the statement for the result's buckets of [begin, end), each once, with the number of its `_documents`.

    `written`: the result's columns, the plan's keys among them.
    """
    key = sql.name(plan.date_key)
    keys = [key, *(sql.name(c.name) for c in plan.groups)]
    numbers = [COUNT, *(sql.name(c.name) for c in plan.aggregates if c.name in written)]
    return (
        f"SELECT {', '.join([*keys, *(f'first({n}) AS {n}' for n in numbers)])}, count(*) AS {DOCUMENTS} "
        f"FROM {target} WHERE {key} >= {begin} AND {key} < {end} GROUP BY {', '.join(keys)}"
    )


def same_key(plan: Plan) -> str:
    """Return the condition that a bucket `b` of the source is the bucket `r` of the result."""
    keys = [sql.name(n) for n in (plan.date_key, *(c.name for c in plan.groups))]
    return " AND ".join(f"b.{k} IS NOT DISTINCT FROM r.{k}" for k in keys)


def differences(aggregates: Iterable[Column], exact: Collection[str] = ()) -> str:
    """Return the condition that a bucket `b` of the source is not stored once and alike as `r`.

    `exact`: names of columns whose sums are compared exactly; others may differ as sums in another order do.
    """
    differs = [f"b.{COUNT} IS DISTINCT FROM r.{COUNT}", f"r.{DOCUMENTS} > 1"]
    for column in aggregates:
        name = sql.name(column.name)
        old, new = f"r.{name}", f"b.{name}"
        if column.name.endswith(".sum") and column.name not in exact:
            # Infinity is as far from each number as it may be, and NaN is greater than all.
            finite = f"isfinite({new}) AND isfinite({old})"
            near = f"{finite} AND abs({new} - {old}) <= {SAME_SUM} * greatest(abs({new}), abs({old}))"
            differs.append(f"{new} IS DISTINCT FROM {old} AND NOT coalesce({near}, false)")
        else:
            differs.append(f"{new} IS DISTINCT FROM {old}")
    return " OR ".join(differs)


def _different(target: str, found: Range, plan: Plan) -> str:
    """Return the statement for the page's buckets that differ from the result."""
    written = stored(target, plan, [c.name for c in plan.aggregates], found.key_from, found.end)
    return (
        f"SELECT b.*, coalesce(b.{COUNT} < r.{COUNT}, false) AS _less FROM ({found.select}) b "
        f"LEFT JOIN ({written}) r ON {same_key(plan)} "
        f"WHERE r.{COUNT} IS NULL OR {differences(plan.aggregates)}"
    )


def _within(plan: Plan, found: Range) -> str:
    key = sql.name(plan.date_key)
    return f"{key} >= {found.key_from} AND {key} < {found.end}"
