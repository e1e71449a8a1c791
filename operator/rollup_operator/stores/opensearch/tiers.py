"""Finds out what can be read of the jobs of rollup indices, our own and those that Elasticsearch ran.

A job's record says up to where its documents are written, not whether searches see them:

    documents   ─────────────────────────────────▶ position, watermark
    seen        ──────────────▶ since the last refresh

What is said to be readable is seen: where a record has moved on, its rollup index is refreshed first. While a run is
under way, that is not done more often than each EVERY_SECONDS; what was seen then counts meanwhile, and the rest is
read of the source.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from rollup_operator.concurrency.portions import Work, each, in_portions
from rollup_operator.model.elasticsearch_config import spec_of
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.bounds import Bounds
from rollup_operator.rollup.due import position_ms, rolled_up_to
from rollup_operator.stores.errors import DocumentsChanged, StoreError
from rollup_operator.stores.opensearch import records, replication
from rollup_operator.stores.opensearch.records import ALIAS, Record
from rollup_operator.stores.opensearch.replication import Copies
from rollup_operator.stores.opensearch.search_body import FIRST_MS
from rollup_operator.stores.opensearch.target import index as target
from rollup_operator.stores.opensearch.target import mapping
from rollup_operator.stores.opensearch.transport.answers import LISTING, Value
from rollup_operator.stores.opensearch.transport.client import Cluster, name
from rollup_operator.stores.opensearch.transport.errors import NotThere, classify
from rollup_operator.stores.search import Documents, FieldKind, Tier

OPAQUE_ID = "rollup-operator/search"
"""Names searches in the cluster's task list."""

EVERY_SECONDS = 1.0
"""Between two refreshes of a rollup index that a run writes to."""

_LINE = 2000
"""Clusters refuse requests whose first line is longer than 4096 bytes."""
_FILTER = f"*.mappings,*.settings.index.uuid,*.settings.index.{replication.SETTING}"
_KINDS: Mapping[str, FieldKind] = {
    "keyword": "keyword", "date": "date", "date_nanos": "date",
    **dict.fromkeys(("long", "integer", "short", "byte"), "long"),
    **dict.fromkeys(("double", "float", "half_float", "scaled_float"), "double"),
}  # fmt: skip
_REMEMBERED = 20_000
_EPOCHS = 10**9
"""Versions of documents from here on are epochs, which are times in seconds: an operator wrote them. Elasticsearch
counts how often it writes a document."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Index:
    """A rollup index."""

    name: str
    uuid: str
    mappings: mapping.Mappings
    copies: Copies


@dataclass(frozen=True, slots=True)
class _SeenJob:
    """What of a job's documents searches see."""

    written: tuple[str, int]
    """The rollup index's uuid and the epoch, under which documents are only added."""
    end_ms: int
    at: float


@dataclass(frozen=True, slots=True)
class _LastDocument:
    """The last of a job's documents."""

    ms: int
    is_of_an_operator: bool


@dataclass
class Tiers:
    """What this process knows of it. It belongs to one store."""

    cluster: Cluster
    surest: Copies
    """Those that show everything, of any index of the cluster."""
    _copies: dict[str, Copies] = field(default_factory=dict)
    """Of rollup indices, those that show everything."""
    _seen: dict[Key, _SeenJob] = field(default_factory=dict)
    _first: dict[tuple[Key, str, int], int] = field(default_factory=dict)
    """Where the first document's bucket begins, by job, uuid of the rollup index and epoch: it can only become less."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def copies_of(self, rollup_index: str) -> Copies:
        """Return the copies of a rollup index that show everything."""
        return self._copies.get(rollup_index, self.surest)

    async def of(self, rollup_indices: Collection[str]) -> Sequence[Tier]:
        """Return what can be read of all jobs of these rollup indices. Raises what `Cluster.call` raises."""
        indices = [index async for index in self._indices(rollup_indices)]
        keys = [(index, (index.name, job)) for index in indices for job in mapping.entries(index.mappings) or ()]
        if not keys:
            return []
        known = await self._records([key for _, key in keys])
        ours: list[tuple[_Index, RollupJobSpec, Record]] = []
        theirs: list[tuple[_Index, Key, RollupJobSpec]] = []

        def read(of: tuple[_Index, Key]) -> RollupJobSpec | None:
            index, key = of
            return readable_spec(index.mappings, index.name, key[1], known.get(key))

        # An index may be that of any number of jobs, and its metadata may be anybody's.
        specs = await in_portions(each(read, keys))
        for (index, key), spec in zip(keys, specs, strict=True):
            if spec is None:
                continue
            if (record := known.get(key)) is None:
                theirs.append((index, key, spec))
            else:
                ours.append((index, spec, record))
        ends = await self._visible(ours)
        firsts, lasts = await self._edges([of for of in ours if ends.get(of[2].claim.key)], theirs)
        return await in_portions(self._found(ours, theirs, ends, firsts, lasts))

    @staticmethod
    def _found(
        ours: Sequence[tuple[_Index, RollupJobSpec, Record]],
        theirs: Sequence[tuple[_Index, Key, RollupJobSpec]],
        ends: Mapping[Key, int],
        firsts: Mapping[Key, int],
        lasts: Mapping[Key, _LastDocument],
    ) -> Work[list[Tier]]:
        found = []
        for index, spec, record in ours:
            key = record.claim.key
            first, end = firsts.get(key), ends.get(key, 0)
            if first is not None:  # an earlier version wrote negative times, which a cluster takes for years
                first = max(first, Bounds.of(spec.groups.date_histogram).round_down(0))
            begin, end = (first, end) if first is not None and first < end else (0, 0)
            last_ms = position_ms(spec, record.claim.position)
            kinds = _kinds(index, spec)
            found.append(Tier(key, spec, begin, end, kinds, record.owner, place=index.uuid, last_ms=last_ms))
            yield
        for index, key, spec in theirs:
            begin, end = max(firsts.get(key, 0), FIRST_MS), 0
            if (last := lasts.get(key)) is not None:
                end = Bounds.of(spec.groups.date_histogram).next_edge(last.ms)
            lost = last is not None and last.is_of_an_operator
            found.append(Tier(key, spec, begin, max(begin, end), _kinds(index, spec), lost=lost))
            yield
        return found

    async def must_stand(self, documents: Collection[Documents]) -> None:
        """Raise DocumentsChanged if some of these documents of ours may be gone.

        A deletion takes the position back before the first document goes: what a record says after a search was there
        while it was searched.
        """
        asked = {(of.rollup_index, of.job_id): of for of in documents if of.place}
        known = await self._records(list(asked)) if asked else {}
        for key, of in asked.items():
            record = known.get(key)
            if record is None or record.target != of.place or self._written(record) < of.end_ms:
                raise DocumentsChanged(of.job_id)

    @staticmethod
    def _written(record: Record) -> int:
        """Return up to where a job's documents are written, whether they are seen or not."""
        try:
            spec = RollupJobSpec.model_validate(record.spec)
            return rolled_up_to(spec, record.claim.position, record.claim.watermark_ms, last_is_whole=False)
        except ValueError:
            return 0

    async def _indices(self, names: Collection[str]) -> AsyncIterator[_Index]:
        for line in _lines(sorted({n for n in names if n and not set(n) & set('*,/\\?"<>| #:')})):
            answer = await self.cluster.call(
                "GET",
                f"/{line}",
                doing="looking at rollup indices",
                params={"ignore_unavailable": "true", "allow_no_indices": "true", "filter_path": _FILTER},
                longest=LISTING,
                room=self.cluster.searches,
            )
            for index, told in answer.members():
                if index not in names:
                    continue  # a name for others was given
                settings = told.at("settings", "index")
                found = _Index(
                    index,
                    settings.at("uuid").text(),
                    told.find("mappings").kept(),
                    replication.complete(settings),
                )
                self._copies[index] = found.copies
                yield found

    async def _records(self, keys: Sequence[Key]) -> dict[Key, Record]:
        """Return the records of jobs, as they are now and not as searches see them."""
        found: dict[Key, Record] = {}
        for i in range(0, len(keys), 500):
            ids = [records.document_id(key) for key in keys[i : i + 500]]
            try:
                answer = await self.cluster.call(
                    "POST",
                    f"/{ALIAS}/_mget",
                    doing="reading records",
                    params=self.surest.parameters,
                    body={"ids": ids},
                    longest=LISTING,
                    room=self.cluster.searches,
                )
            except NotThere:
                return {}
            for said in answer.at("docs").items():
                if said.find("error").given:
                    error = classify(404, said.value, "reading records", self.cluster.redact)
                    if not isinstance(error, NotThere):
                        raise error
                elif said.find("found").value is True:
                    record = records.from_document(said)
                    found[record.claim.key] = record
        return found

    async def _visible(self, jobs: Sequence[tuple[_Index, RollupJobSpec, Record]]) -> dict[Key, int]:
        """Return up to where each job's documents are written and seen, once they are."""
        found: dict[Key, int] = {}
        async with self._turn:  # many searches that come at once cause one refresh
            stale: dict[str, list[tuple[Key, _SeenJob]]] = {}
            for index, spec, record in jobs:
                key, now = record.claim.key, self.cluster.clock()
                if record.target != index.uuid:
                    continue  # the documents of the record are gone
                end = rolled_up_to(spec, record.claim.position, record.claim.watermark_ms, last_is_whole=False)
                if not end:
                    continue
                written = index.uuid, record.claim.epoch
                seen = self._seen.get(key)
                if seen is not None and seen.written != written:
                    seen = None
                if seen is not None and (end <= seen.end_ms or (record.held and now - seen.at < EVERY_SECONDS)):
                    found[key] = min(end, seen.end_ms)
                else:
                    stale.setdefault(index.name, []).append((key, _SeenJob(written, end, now)))
            for index_name, moved in stale.items():
                try:
                    await target.refresh(self.cluster, index_name, opaque_id=OPAQUE_ID)
                except NotThere:
                    continue
                for key, seen in moved:
                    if len(self._seen) > _REMEMBERED:
                        self._seen.clear()
                    self._seen[key] = seen
                    found[key] = seen.end_ms
        return found

    async def _edges(
        self,
        ours: Sequence[tuple[_Index, RollupJobSpec, Record]],
        theirs: Sequence[tuple[_Index, Key, RollupJobSpec]],
    ) -> tuple[dict[Key, int], dict[Key, _LastDocument]]:
        """Return where the first document of each job begins, and the last of each without a record."""
        firsts: dict[Key, int] = {}
        wanted: list[tuple[_Index, Key, RollupJobSpec]] = list(theirs)
        for index, spec, record in ours:
            key = record.claim.key
            if (first := self._first.get((key, index.uuid, record.claim.epoch))) is not None:
                firsts[key] = first
            else:
                wanted.append((index, key, spec))
        lasts: dict[Key, _LastDocument] = {}
        epochs = {record.claim.key: record.claim.epoch for _, _, record in ours}
        for i in range(0, len(wanted), 100):
            part = wanted[i : i + 100]
            answer = await self.cluster.call(
                "POST",
                "/_msearch",
                doing="finding the ends of rollup indices",
                body=b"".join(map(_ends_of, part)),
                longest=LISTING,
                room=self.cluster.searches,
            )
            responses = list(answer.at("responses").items())
            for (index, key, _), response in zip(part, responses, strict=False):
                if response.find("error").given:
                    raise _error(response, self.cluster)
                low, high = (response.find("aggregations", end, "value") for end in ("first", "last"))
                if not low.given or not high.given:
                    continue
                firsts[key] = int(low.number())
                versions = [hit.at("_version").whole() for hit in response.find("hits", "hits").items()]
                lasts[key] = _LastDocument(int(high.number()), any(version >= _EPOCHS for version in versions))
                if (epoch := epochs.get(key)) is not None:
                    if len(self._first) > _REMEMBERED:
                        self._first.clear()
                    self._first[key, index.uuid, epoch] = firsts[key]
        return firsts, lasts


def _error(response: Value, cluster: Cluster) -> StoreError:
    status = response.find("status").value
    return classify(
        status if type(status) is int else 500, response.value, "finding the ends of rollup indices", cluster.redact
    )


def _ends_of(of: tuple[_Index, Key, RollupJobSpec]) -> bytes:
    index, (_, job_id), spec = of
    time = f"{spec.groups.date_histogram.field}.date_histogram.timestamp"
    header = {"index": [index.name], "ignore_unavailable": True, "allow_partial_search_results": False}
    header |= index.copies.parameters
    body = {
        "size": 1, "version": True, "_source": False, "sort": [{time: {"order": "desc", "unmapped_type": "date"}}],
        "track_total_hits": False, "query": {"bool": {"filter": [{"term": {"_rollup.id": job_id}}]}},
        "aggregations": {"first": {"min": {"field": time}}, "last": {"max": {"field": time}}},
    }  # fmt: skip
    return orjson.dumps(header) + b"\n" + orjson.dumps(body) + b"\n"


def _lines(names: Sequence[str]) -> Iterator[str]:
    """Yield the names, quoted and with commas between them, in parts that fit into the first line of a request."""
    line = ""
    for part in map(name, names):
        if line and len(line) + len(part) > _LINE:
            yield line
            line = ""
        line = f"{line},{part}" if line else part
    if line:
        yield line


def readable_spec(
    mappings: mapping.Mappings, rollup_index: str, job_id: str, record: Record | None
) -> RollupJobSpec | None:
    """Return what a job is, by its record or by what an index says of it; None: that cannot be read.

    Whoever may change the index's mappings wrote the latter.
    """
    try:
        if record is not None:
            found = RollupJobSpec.model_validate(record.spec)
            position_ms(found, record.claim.position)
        else:
            told = spec_of((mapping.entries(mappings) or {})[job_id], rollup_index)
            if told is None:
                return None
            found = RollupJobSpec.model_validate(told)
        Bounds.of(found.groups.date_histogram)
        return found
    except ValueError:
        return None


def _kinds(index: _Index, spec: RollupJobSpec) -> dict[str, FieldKind]:
    groups = spec.groups
    found: dict[str, FieldKind] = {groups.date_histogram.field: "date"}
    found |= dict.fromkeys(groups.histogram.fields if groups.histogram else (), "double")
    for of in groups.terms.fields if groups.terms else ():
        kind = _KINDS.get(mapping.found_type(index.mappings, f"{of}.terms.value") or "")
        if kind is not None:
            found[of] = kind
    return found
