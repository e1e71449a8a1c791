"""Compares a job's documents with its source: two composite aggregations, in the same order of the same keys.

The source is read by the pages of a run. The documents are read by an aggregation over the rollup index whose buckets
are the documents' keys: a bucket of two documents is a duplicate, and the greatest of one number is that number.

    source        ── composite: time, size, term ──▶ pages of buckets ──┐
                                                                        ├──▶ pairs of the same key
    rollup index  ── composite: timestamp, value, value ──▶ pages ──────┘
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rollup_operator.concurrency.portions import each, in_portions
from rollup_operator.rollup import identity
from rollup_operator.rollup.bounds import Bounds, Span
from rollup_operator.rollup.comparison import (
    BucketNumbers,
    Findings,
    Judge,
    Merge,
    bucket_of,
    counts_of,
    metrics_of,
    with_reach,
)
from rollup_operator.rollup.documents import layout_of
from rollup_operator.rollup.due import rolled_up_to
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.rollup.page_size import PageSize
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.base import Position, Source
from rollup_operator.stores.errors import StoreError
from rollup_operator.stores.opensearch import claims, records, replication
from rollup_operator.stores.opensearch.query import ROLLUP, time_range
from rollup_operator.stores.opensearch.replication import Copies
from rollup_operator.stores.opensearch.source import buckets, seen, sources
from rollup_operator.stores.opensearch.source.buckets import PageBuckets
from rollup_operator.stores.opensearch.source.pages import Pages
from rollup_operator.stores.opensearch.source.sources import EXACT
from rollup_operator.stores.opensearch.target import index as target
from rollup_operator.stores.opensearch.target.encoder import Batch
from rollup_operator.stores.opensearch.transport.answers import PAGE, SMALL, Value, readable, whole
from rollup_operator.stores.opensearch.transport.client import OPAQUE_ID, Cluster, name
from rollup_operator.stores.opensearch.transport.errors import Overloaded, Unanswered
from rollup_operator.stores.opensearch.transport.retry import Patience
from rollup_operator.stores.verification import DayCount, Extent

_ANY_EPOCH = 1
"""No document is written, so it does not matter of which epoch they would be."""
_NUMBER_BYTES = 40
"""About what one number takes in an answer."""
_WHOLE = frozenset({"long", "integer", "short", "byte", "unsigned_long"})
_PARAMETERS = {"allow_partial_search_results": "false", "request_cache": "false"}
_NOTHING = Extent(Span(0, 0), 0)


@dataclass
class ClusterVerification:
    """One comparison. It belongs to no run, so runs do not wait for it; cancelled, it ends with its requests."""

    cluster: Cluster
    config: JobConfig
    fields: Collection[str] | None
    """Whose metrics are compared; None: all."""
    is_alive: Callable[[Owner], bool]
    may_copy_segments: bool = True
    """The cluster knows `index.replication.type`."""
    opaque_id: str = ""
    """Of all requests; empty: one that no run has, and that needs no leader."""
    _known: Mapping[str, SourceField] = field(default_factory=dict)
    _copies: Copies = replication.ANY
    _target_copies: Copies = replication.ANY
    _stands: bool = False
    """Whether the rollup index exists."""

    def __post_init__(self) -> None:
        spec = with_reach(self.config.spec).model_copy(update={"parallelism": 1})
        self._wide = replace(self.config, spec=spec)
        """The job with what is read beside its own metrics, one page at a time."""
        self._layout = layout_of(self.config.job_id, self.config.spec)
        self._wide_layout = layout_of(self.config.job_id, spec)
        fields = None if self.fields is None else frozenset(self.fields)
        self.judge = Judge(self._layout, exact_up_to=EXACT, fields=fields)
        self._opaque_id = self.opaque_id or f"{OPAQUE_ID}/verify/{self.config.owner.uid}"
        self._timestamp = f"{self._layout.group_keys()[0]}.timestamp"
        self._bounds = Bounds.of(self.config.spec.groups.date_histogram)

    async def begin(self, span: Span) -> Extent:
        """Read the record, see that its index stands, and measure both sides."""
        config, cluster, spec = self.config, self.cluster, self.config.spec
        record = await claims.read(cluster, config.key, opaque_id=self._opaque_id)
        if record is None:
            return _NOTHING
        identity.judge(
            config,
            owner=record.owner,
            config_hash=record.config_hash,
            pattern=record.spec.get("indexPattern"),
            has_documents=record.has_documents,
            is_alive=self.is_alive,
        )
        records.must_continue(record, config)
        await target.must_stand(cluster, record, config.owner, opaque_id=self._opaque_id)
        if (found := await target.read(cluster, spec.rollup_index, opaque_id=self._opaque_id)) is not None:
            self._stands, self._target_copies = True, found.copies
            await target.refresh(cluster, spec.rollup_index, opaque_id=self._opaque_id)
        self._known = await sources.check(cluster, config, opaque_id=self._opaque_id)
        sources.must_go_on(spec, record.claim.position, self._known)
        notes: list[str | None] = [await seen.closed(cluster, spec.index_pattern, opaque_id=self._opaque_id)]
        if self.may_copy_segments:
            self._copies, unknown = await seen.complete_copies(cluster, spec.index_pattern, opaque_id=self._opaque_id)
            notes.append(unknown)
        exact = {m.field for m in spec.metrics if _WHOLE.issuperset(self._known[m.field].types)}
        self.judge = replace(self.judge, exact=frozenset(exact))
        of = record.claim
        end = rolled_up_to(spec, of.position, of.watermark_ms, last_is_whole=False)
        within = Span(span.start_ms, max(span.start_ms, min(span.end_ms, end)))
        rows, firsts = 0, list[int]()
        if not within.empty:
            rows, firsts = await self._measure(within)
        begin = min((self._bounds.round_down(ms) for ms in firsts), default=within.end_ms)
        return Extent(
            Span(max(within.start_ms, begin), within.end_ms), end, rows, [note for note in notes if note is not None]
        )

    async def _measure(self, span: Span) -> tuple[int, list[int]]:
        """Return the number of rows, and the first times of both sides."""
        source = await self._source_of(span)
        answer = await self._search_documents(span, {"first": {"min": {"field": self._timestamp}}}, "measuring")
        first = answer.find("aggregations", "first", "value")
        found = [source.first_ms, int(first.number()) if first.given else None]
        return source.rows, [ms for ms in found if ms is not None]

    async def _source_of(self, span: Span) -> Source:
        return await sources.measure(
            self.cluster,
            self.config,
            start_ms=span.start_ms,
            bound_ms=span.end_ms,
            opaque_id=self._opaque_id,
            fields=self._known,
            copies=self._copies,
        )

    async def count(self, days: Sequence[Span]) -> Sequence[DayCount]:
        """Count by one aggregation on each side; where that is too much for the cluster, by two over half of it."""
        patience = Patience()
        while True:
            try:
                return await self._count(days)
            except (Overloaded, Unanswered) as e:
                if len(days) > 1:
                    middle = len(days) // 2
                    return [*await self.count(days[:middle]), *await self.count(days[middle:])]
                await patience.pause(e)

    async def _count(self, days: Sequence[Span]) -> list[DayCount]:
        span = Span(days[0].start_ms, days[-1].end_ms)
        pattern, date = self.config.spec.index_pattern, self._layout.date_field
        body = {
            "size": 0,
            "track_total_hits": False,
            "query": time_range(date, span.start_ms, span.end_ms),
            "aggregations": {"days": self._by_day(date, days)},
        }
        there = await sources.search(
            self.cluster, pattern, body, doing=f"counting {pattern}", opaque_id=self._opaque_id, copies=self._copies
        )
        rows = {"rows": {"sum": {"field": self.judge.count}}}
        first = Span(self._bounds.round_down(span.start_ms), days[0].end_ms)
        stored = {"days": {**self._by_day(self._timestamp, [first, *days[1:]]), "aggregations": rows}}
        written = await self._search_documents(span, stored, "counting")
        counted = [int(day.at("doc_count").whole()) for day in _days(there, len(days))]
        kept = [int(day.at("rows", "value").number()) for day in _days(written, len(days))]
        return [DayCount(*of) for of in zip(counted, kept, strict=True)]

    @staticmethod
    def _by_day(field: str, days: Sequence[Span]) -> dict[str, Any]:
        ranges = [{"from": day.start_ms, "to": day.end_ms} for day in days]
        return {"date_range": {"field": field, "format": "epoch_millis", "ranges": ranges}}

    async def compare(self, span: Span, into: Findings, reached: Callable[[int], None]) -> None:
        """Compare by pages of both sides, one at a time."""
        pages, documents, merge = await self._pages(span), _Documents(self, span), Merge()
        position: Position | None = None
        try:
            while merge.wants_stored or merge.wants_recomputed:
                if merge.wants_stored:
                    stored, ended = await documents.next()
                    with readable("reading documents", "its buckets are in another order"):
                        merge.add_stored(stored, last=ended)
                if merge.wants_recomputed:
                    page = await pages.next(position)
                    position = page.last_key
                    recomputed = await self._recomputed(page.handle)
                    with readable("reading the source", "its buckets are in another order"):
                        merge.add_recomputed(recomputed, last=page.exhausted)
                    if recomputed:
                        reached(max(span.start_ms, int(recomputed[-1].key[0] or 0)))
                await in_portions(each(lambda pair: into.take(*pair), merge.pairs()))
        finally:
            await pages.close()

    async def _pages(self, span: Span) -> Pages:
        source = await self._source_of(span)
        return Pages(
            self.cluster,
            self._wide,
            epoch=_ANY_EPOCH,
            opaque_id=self._opaque_id,
            first=span.start_ms,
            bound_ms=span.end_ms,
            fields=self._known,
            several=source.several,
            source=source,
            copies=self._copies,
        )

    async def _recomputed(self, batch: object) -> list[BucketNumbers]:
        if not isinstance(batch, Batch):
            return []  # the last page, of no bucket

        def read(i: int) -> BucketNumbers:
            return bucket_of(self._wide_layout, batch.source(i))

        return await in_portions(each(read, range(len(batch))))

    async def _search_documents(
        self,
        span: Span,
        aggregations: Mapping[str, Any],
        doing: str,
        *,
        longest: int = SMALL,
        parse: Callable[[bytes], Any] = whole,
    ) -> Value:
        """Search the job's documents of a span, and that of a bucket that 1970 cuts, which begins before."""
        index = self.config.spec.rollup_index
        query = target.documents(self.config)
        ends = {"gte": self._bounds.round_down(span.start_ms), "lt": span.end_ms, "format": "epoch_millis"}
        query["bool"]["filter"].append({"range": {self._timestamp: ends}})
        room = await self.cluster.pages.take(longest)
        try:
            answer = await self.cluster.call(
                "POST",
                f"/{name(index)}/_search",
                doing=f"{doing} {index}",
                params={**_PARAMETERS, "ignore_unavailable": "true", **self._target_copies.parameters},
                body={"size": 0, "track_total_hits": False, "query": query, "aggregations": aggregations},
                opaque_id=self._opaque_id,
                longest=longest,
                parse=parse,
                page=room,
            )
        finally:
            room.end()
        failed, total = (answer.at("_shards", part).whole() for part in ("failed", "total"))
        if answer.at("timed_out").flag() or failed:
            text = f"{doing} {index}: the answer lacks {failed} of {total} shards, or the time was up"
            raise Overloaded(text, status=200, kind="partial")
        return answer


class _Documents:
    """The stored documents of a span, page by page in order of their keys."""

    def __init__(self, of: ClusterVerification, span: Span) -> None:
        self._of, self._span, self._layout = of, span, of._layout
        time, *others = self._layout.group_keys()
        keys: list[dict[str, Any]] = [{"terms": {"field": f"{time}.timestamp"}}]
        keys += [{"terms": {"field": f"{name}.value", "missing_bucket": True}} for name in others]
        self._keys: Sequence[Mapping[str, Any]] = [{str(i): key} for i, key in enumerate(keys)]
        self._names = [*counts_of(self._layout), *metrics_of(self._layout)]
        self._numbers = {f"m{i}": {"max": {"field": name}} for i, name in enumerate(self._names)}
        limit = of.config.spec.page_size
        self._size = PageSize.begin(limit, None, _NUMBER_BYTES * (len(self._names) + len(keys)))
        self._after: Mapping[str, Any] | None = None

    async def next(self) -> tuple[list[BucketNumbers], bool]:
        """Return the next page, and whether it is the last."""
        if not self._of._stands:
            return [], True
        patience = Patience()
        while True:
            asked = self._size.ask()
            composite: dict[str, Any] = {"size": asked, "sources": self._keys}
            if self._after is not None:
                composite["after"] = self._after
            try:
                answer = await self._of._search_documents(
                    self._span,
                    {ROLLUP: {"composite": composite, "aggregations": self._numbers}},
                    "reading",
                    longest=PAGE,
                    parse=buckets.parse,
                )
            except StoreError as e:
                if isinstance(e, Overloaded | Unanswered):
                    self._size.failed(asked)
                await patience.pause(e)
            else:
                self._size.succeeded(asked)
                return await self._page(answer, asked)

    async def _page(self, answer: Value, asked: int) -> tuple[list[BucketNumbers], bool]:
        if not answer.find("aggregations").given:  # no shard at all
            return [], True
        with readable(answer.doing):
            found = answer.at("aggregations", ROLLUP, "buckets").value
            if not isinstance(found, PageBuckets) or found.count > asked:
                raise ValueError("there are no buckets, or more than were asked for")
            made: list[BucketNumbers] = []
            for piece in found.pieces():
                made += await in_portions(each(self._bucket, piece))
            if found.count < asked:
                return made, True
            self._after = found.last["key"]
            return made, False

    def _bucket(self, found: Mapping[str, Any]) -> BucketNumbers:
        key = found["key"]
        numbers = {name: value for i, name in enumerate(self._names) if (value := found[f"m{i}"]["value"]) is not None}
        numbers |= {count: int(numbers[count]) for count in counts_of(self._layout) if count in numbers}
        return BucketNumbers(tuple(key[str(i)] for i in range(len(self._keys))), numbers, found["doc_count"])


def _days(answer: Value, count: int) -> list[Value]:
    """Return the buckets of days; none where there is no shard to search."""
    if not answer.find("aggregations").given:
        return []
    found = list(answer.at("aggregations", "days", "buckets").items())
    if len(found) != count:
        raise answer.odd("has another number of days than were asked for")
    return found
