"""Searches over results and sources, on a connection of their own. Called in a worker.

Results are read from their tables, which hold what the Parquet files hold, and what was committed since: all fetches of
a search are one statement, so all of them see the database as it was at one moment.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import orjson

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.bounds import Bounds
from rollup_operator.rollup.documents import layout_of
from rollup_operator.rollup.due import position_ms, rolled_up_to
from rollup_operator.stores.duckdb import claims
from rollup_operator.stores.duckdb.claims import ClaimRow
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.database.kept import MOST_BYTES, Kept
from rollup_operator.stores.duckdb.source import digits, sources, spelling
from rollup_operator.stores.duckdb.source.headers import Wanted
from rollup_operator.stores.duckdb.source.judged import Judged
from rollup_operator.stores.duckdb.statements import columns, sql
from rollup_operator.stores.duckdb.statements.buckets import MoreTerms, answer
from rollup_operator.stores.duckdb.statements.plan import COUNT, date_key
from rollup_operator.stores.duckdb.statements.search import Relation, Statement, statement
from rollup_operator.stores.duckdb.target.export import columns_of
from rollup_operator.stores.errors import (
    DocumentsChanged,
    SearchKeysTooLong,
    SearchTooLarge,
    SourceInvalid,
    SourceNotFound,
)
from rollup_operator.stores.search import ByTerms, Documents, Fetch, FieldKind, Level, Partials, Rows, Tier, nothing

_BATCH = 100
"""Rows of an answer that are taken at once: meanwhile nothing else of this process goes on. Each may have long keys."""
MOST_WIDE = 1000
"""Kinds of searches of one store that are known to have many buckets."""
_KINDS: Mapping[str, FieldKind] = {"VARCHAR": "keyword", "BIGINT": "long", "DOUBLE": "double"}


def tiers(lane: Lane, rollup_indices: frozenset[str]) -> list[Tier]:
    """Return what can be read of the jobs of these rollup indices."""

    def read() -> list[Tier]:
        try:
            return _tiers(lane, rollup_indices)
        except duckdb.CatalogException:
            return _tiers(lane, rollup_indices)  # a result was dropped after its record was read

    return list(lane.kept.read(_tiers_of(rollup_indices), read, lambda of: _size_of_tiers(rollup_indices, of)))


def tiers_kept(kept: Kept, rollup_indices: frozenset[str]) -> list[Tier] | None:
    """Return the same without any I/O, where it has been read and nothing was written since; None: it is to be read."""
    found: Sequence[Tier] | None = kept.known(_tiers_of(rollup_indices))
    return None if found is None else list(found)


def _tiers_of(rollup_indices: frozenset[str]) -> Hashable:
    return "tiers", rollup_indices


def _size_of_tiers(rollup_indices: Collection[str], of: Iterable[Tier]) -> int:
    size = len(orjson.dumps(list(rollup_indices)))  # there may be very many that have no tier yet
    for tier in of:
        if (size := size + len(tier.spec.model_dump_json())) > MOST_BYTES:
            break  # there may be very many
    return size


def _tiers(lane: Lane, rollup_indices: Collection[str]) -> list[Tier]:
    found = []
    for record, text in claims.known(lane, rollup_indices):
        if text is None:
            continue
        try:
            spec = RollupJobSpec.model_validate(text)
            Bounds.of(spec.groups.date_histogram)
            position_ms(spec, record.claim.position)
        except ValueError:
            continue  # no operator wrote it
        found.append(_tier(lane, record, spec))
    return found


def _tier(lane: Lane, record: ClaimRow, spec: RollupJobSpec) -> Tier:
    key, groups = record.claim.key, spec.groups
    kinds: dict[str, FieldKind] = {groups.date_histogram.field: "date"}
    kinds |= dict.fromkeys(groups.histogram.fields if groups.histogram else (), "double")
    types = claims.columns_standing(lane, key, record.target)
    if record.target is None or types is None:
        return Tier(key, spec, 0, 0, kinds, record.owner)
    for field in groups.terms.fields if groups.terms else ():
        if (kind := _KINDS.get(types.get(f"{field}.terms", ""))) is not None:
            kinds[field] = kind
    time = sql.name(date_key(groups.date_histogram.field))
    ((first,),) = lane.execute(f"SELECT min({time}) FROM {claims.table(record.target)}")
    end = _end(record, spec)
    if not isinstance(first, int) or end <= first:
        return Tier(key, spec, 0, 0, kinds, record.owner)
    last = position_ms(spec, record.claim.position)
    return Tier(key, spec, first, end, kinds, record.owner, place=record.target, last_ms=last)


class Wide:
    """Which kinds of searches of a store found more buckets of a level than it may have. May be used by any thread."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    @staticmethod
    def kind(fetches: Iterable[Fetch]) -> int:
        """Return a number for the kind: what is read, and the fields whose values are looked for."""
        return hash(tuple((_key_of(f.relation), isinstance(f.relation, Rows), _terms_in(f.levels)) for f in fetches))

    def __contains__(self, kind: int) -> bool:
        return kind in self._known

    def add(self, kind: int) -> None:
        """Take one in. Of very many all are forgotten: each is found out anew then, by one more statement."""
        if len(self._known) >= MOST_WIDE:
            self._known.clear()
        self._known.add(kind)


def _terms_in(levels: Iterable[Level]) -> Hashable:
    return tuple(
        (level.by.field if isinstance(level.by, ByTerms) else None, _terms_in(level.levels)) for level in levels
    )


def search(lane: Lane, fetches: Sequence[Fetch], max_buckets: int, judged: Judged, wide: Wide) -> list[Partials]:
    """Answer fetches by one statement, or by two.

    Raises SearchTooLarge, SearchKeysTooLong, DocumentsChanged, and the errors of a source.
    """
    try:
        return _search(lane, fetches, max_buckets, judged, wide)
    except duckdb.Error:
        # A result that was dropped before the statement began is no table any more.
        now = _results(lane, fetches)
        for fetch in fetches:
            if isinstance(fetch.relation, Documents):
                _documents(now, fetch.relation)
        raise


@dataclass(frozen=True, slots=True)
class _Result:
    """What the records say of a job, and of what it has written."""

    record: ClaimRow | None = None
    text: dict[str, Any] | None = None
    """The job's spec."""
    columns: Mapping[str, str] | None = None
    """Names and types of the result's columns; None: there is no result that is the job's own."""


_Key = tuple[str, str]
_Results = Mapping[_Key, _Result]
_NONE = _Result()


def _results(lane: Lane, fetches: Iterable[Fetch]) -> _Results:
    """Return what is known of the jobs of a search."""
    keys = frozenset(_key_of(fetch.relation) for fetch in fetches)

    def read() -> _Results:
        found = claims.known_jobs(lane, keys).items()
        return {
            key: _Result(record, text, claims.columns_standing(lane, key, record.target))
            for key, (record, text) in found
        }

    return lane.kept.read(("results", keys), read, _size_of_results)


def _size_of_results(of: _Results) -> int:
    return sum(
        len(orjson.dumps([each.text, each.record and each.record.claim.position, each.columns])) for each in of.values()
    )


def _key_of(of: Rows | Documents) -> _Key:
    return (of.spec.rollup_index if isinstance(of, Rows) else of.rollup_index), of.job_id


def _search(lane: Lane, fetches: Sequence[Fetch], max_buckets: int, judged: Judged, wide: Wide) -> list[Partials]:
    asked: list[tuple[int, Fetch, Relation]] = []
    known: dict[int, Relation | None] = {}
    results = _results(lane, fetches)
    for i, fetch in enumerate(fetches):
        of = fetch.relation
        if id(of) not in known:  # the source is listed, and its files are opened, once
            known[id(of)] = _rows(lane, results, of, judged) if isinstance(of, Rows) else _documents(results, of)
        if (relation := known[id(of)]) is not None:
            asked.append((i, fetch, relation))
    found = [nothing(fetch) for fetch in fetches]
    if asked:
        answers = _answered(lane, [(fetch, relation) for _, fetch, relation in asked], max_buckets, wide)
        for (i, _, _), partials in zip(asked, answers, strict=True):
            found[i] = partials
    return found


def _answered(lane: Lane, asked: Sequence[tuple[Fetch, Relation]], max_buckets: int, wide: Wide) -> Sequence[Partials]:
    """Ask for all buckets; once more for those of the most documents, where there are more than levels may have.

    Searches of a kind that had too many are asked for the latter at once.
    """

    def ask(made: Statement) -> Sequence[Partials]:
        return answer(made, (row for batch in lane.batches(made.text, _BATCH) for row in batch))

    if (kind := Wide.kind(fetch for fetch, _ in asked)) not in wide:
        whole = statement(asked, max_buckets, cuts=False)
        try:
            return ask(whole)
        except (MoreTerms, SearchTooLarge, SearchKeysTooLong, duckdb.OutOfMemoryException):
            if whole.cuts:
                raise
            wide.add(kind)
    return ask(statement(asked, max_buckets))


def _documents(results: _Results, of: Documents) -> Relation | None:
    """Return a job's documents, with the names that a rollup index has for their fields; None: there are none.

    Raises DocumentsChanged.
    """
    of_job = results.get(_key_of(of), _NONE)
    record, text, written = of_job.record, of_job.text, of_job.columns
    if record is None or record.target is None or text is None or written is None:
        if of.place:
            raise DocumentsChanged(of.job_id)
        return None
    spec = RollupJobSpec.model_validate(text)
    if of.place and (record.target != of.place or _end(record, spec) < of.end_ms):
        raise DocumentsChanged(of.job_id)
    layout = layout_of(of.job_id, spec)
    given = dict(columns_of(layout))
    given |= {f"{group}._count": COUNT for group in layout.group_keys()}
    # The time stays a whole number here: it is compared as such.
    parts = [f"{expression} AS {sql.name(name)}" for name, expression in given.items()]
    types = {name: written[_unquoted(expression)] for name, expression in given.items()}
    return Relation(f"(SELECT {', '.join(parts)} FROM {claims.table(record.target)})", types)


def _end(record: ClaimRow, spec: RollupJobSpec) -> int:
    return rolled_up_to(spec, record.claim.position, record.claim.watermark_ms, last_is_whole=True)


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _rows(lane: Lane, results: _Results, of: Rows, judged: Judged) -> Relation | None:
    """Return the rows of a source; None: there is none any more, or not yet."""
    written = results.get(_key_of(of), _NONE).columns or {}
    try:
        wanted = Wanted.of(of.spec, written)
        found = sources.find(of.index_pattern, of.spec.rollup_index, lane, wanted, beside=True)
    except SourceNotFound:
        return None
    catalog = str(lane.execute("SELECT current_database()")[0][0]) if found.tables else ""
    relation = found.relation(catalog)

    def judge() -> Mapping[str, str]:
        sources.check_columns(lane, found)
        spelling.check(lane, of.spec, found)
        types = {str(n): str(type_) for n, type_, *_ in lane.execute(f"DESCRIBE SELECT * FROM {relation}")}
        digits.check(lane, of.spec, found, types)
        return types

    types = judged.types(of.spec, found, judge)
    _must_be_alike(of.spec, written, types)
    return Relation(relation, types)


def _must_be_alike(spec: RollupJobSpec, written: Mapping[str, str], types: Mapping[str, str]) -> None:
    """Raise SourceInvalid where what was rolled up are texts and the rows hold numbers now, or the other way round."""
    for field in spec.groups.terms.fields if spec.groups.terms else ():
        if (was := written.get(f"{field}.terms")) is None or field not in types:
            continue
        now = columns.terms(field, types[field]).type
        if (was == "VARCHAR") != (now == "VARCHAR"):
            raise SourceInvalid(f"column {field!r} is {types[field]} now, and {was} in all that was rolled up")
