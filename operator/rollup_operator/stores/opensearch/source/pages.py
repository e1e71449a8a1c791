"""Reads a job's pages in the order of their keys, some of them ahead.

While a page is written, the next ones are read: as many as the job's parallelism allows, counting the page that is
being written, and as many as the memory budget allows. The page that must come next is read in any case, once it is
this run's turn: a run that holds other pages could not free their room without it.

A search that is too much for the cluster is repeated later, for half as many buckets; a search whose answer is lost,
over half of the time.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import itemgetter
from typing import Any

from rollup_operator.concurrency.background import dropped, ended
from rollup_operator.model.times import minute
from rollup_operator.rollup.bounds import Bounds
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.rollup.page_size import PageSize
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.sharing.shares import Held
from rollup_operator.stores.base import Page, Position, Source
from rollup_operator.stores.errors import StoreError, StoreUnavailable
from rollup_operator.stores.opensearch.query import ROLLUP, Query, time_of
from rollup_operator.stores.opensearch.replication import ANY, Copies
from rollup_operator.stores.opensearch.source.buckets import PageBuckets
from rollup_operator.stores.opensearch.source.sources import countable, search
from rollup_operator.stores.opensearch.source.stretches import Key, Stretch, StretchQueue
from rollup_operator.stores.opensearch.target.encoder import Batch, Encoder
from rollup_operator.stores.opensearch.transport.answers import Value, readable
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.errors import Odd, Overloaded, Unanswered, may_go_on
from rollup_operator.stores.opensearch.transport.retry import Patience

_LOST = 5
"""How often a search is repeated whose answer is lost, each time over half of the time."""

_ROWS = itemgetter("doc_count")


class Pages:
    """The pages of one run, from a position up to a bound."""

    def __init__(
        self,
        cluster: Cluster,
        config: JobConfig,
        *,
        epoch: int,
        opaque_id: str,
        first: int,
        bound_ms: int,
        fields: Mapping[str, SourceField],
        several: frozenset[str] = frozenset(),
        source: Source | None = None,
        copies: Copies = ANY,
        page_size: float | None = None,
        patience: Callable[[], Patience] = Patience,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Make no request yet.

        `first`: where to begin without a position. `fields`: the fields of the sources. `several`: those of
        which a document may have several values. `copies`: the copies of the sources to read. `page_size`: what was
        learned last time, in buckets.
        """
        self._cluster, self._config, self._opaque_id = cluster, config, opaque_id
        self._first, self._bound, self._copies = first, bound_ms, copies
        self._ends = (source.first_ms, source.last_ms) if source is not None else (None, None)
        self._patience, self._clock = patience, clock
        self._bounds = Bounds.of(config.spec.groups.date_histogram)
        self._query = Query.of(config.job_id, config.spec, fields, several)
        self._scripted = sorted(several & {*countable(config.spec, fields)})
        self._encoder = Encoder(self._query, epoch)
        self._size = PageSize.begin(config.spec.page_size, page_size, self._encoder.bucket_bytes)
        self._tasks: dict[Stretch, asyncio.Task[Page | None]] = {}
        self._rooms: dict[Stretch | None, Held] = {}
        """The budget held by pages that are being read or are read; that of the last handed-out page is under None."""
        self._line: StretchQueue | None = None
        self._handed: Position | None = None
        self._halted = False
        self.fewest_shards: int | None = None
        """The size that a search led to; None: there was no search."""
        self.unclean = False
        """Whether a search failed, was abandoned, or lost its answer: the cluster may still work on it."""

    @property
    def page_size(self) -> int:
        """The known number of buckets that the cluster can take."""
        return self._size.size

    async def next(self, position: Position | None) -> Page:
        """Return the page after `position`, in key order, and read on behind it.

        Raises SourceNotFound, SourceInvalid, and what `Cluster.call` raises if retries have not helped.
        If cancelled, it ends all reading first. After `halt` it raises CancelledError.
        """
        if self._line is None or position != self._handed:
            await self.close()
            key = self._query.key(position) if position is not None else None
            begin = time_of(key) if key is not None else self._first
            parallelism = self._config.spec.parallelism
            self._line = StretchQueue(self._bounds, begin, key, self._bound, *self._ends, parallelism)
            self._handed = position
        self._give_back(None)
        line, began = self._line, self._clock()
        while True:
            if self._halted:
                raise asyncio.CancelledError
            self._fill(line)
            if not line.stretches:
                return Page(0, 0, None, exhausted=True, took_s=self._clock() - began)
            stretch = line.stretches[0]
            page = await self._finished(self._tasks[stretch])
            self._tasks.pop(stretch, None)
            if page is None:
                continue
            line.stretches.remove(stretch)
            self._rooms[None] = self._rooms.pop(stretch)
            self._fill(line)
            self._handed = page.last_key
            return replace(page, exhausted=line.ended)

    def started(self) -> list[Page]:
        """Return the pages after the last handed-out one that are read already, in order.

        They will be handed out nevertheless, with the same `handle`.
        """
        pages: list[Page] = []
        for stretch in self._line.stretches if self._line is not None and not self._halted else ():
            task = self._tasks.get(stretch)
            if task is None or not task.done() or task.cancelled() or task.exception() is not None:
                break
            if (page := task.result()) is not None:
                pages.append(page)
        return pages[: self._config.spec.parallelism - 1]

    def halt(self) -> None:
        """End all reading for good; `close` waits until it has ended."""
        self._halted = True
        for task in self._tasks.values():
            task.cancel()

    async def close(self) -> None:
        """End all reading and wait until it has ended, however often this is cancelled. `next` may begin again."""
        tasks, self._tasks, self._line = list(self._tasks.values()), {}, None
        try:
            await (ended if self._halted else dropped)(*tasks)
        finally:
            for of in tuple(self._rooms):
                self._give_back(of)

    async def _finished(self, task: asyncio.Task[Page | None]) -> Page | None:
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            await self.close()
            raise
        return task.result()

    def _fill(self, line: StretchQueue) -> None:
        """Start as many searches as pages may be held, and as the budget allows."""
        while not self._halted and sum(s.started for s in line.stretches) < self._config.spec.parallelism:
            comes_next = not any(s.started for s in line.stretches[:1])
            room = self._cluster.pages.take_now(self._page_bytes(), force=comes_next and bool(self._rooms))
            stretch = line.start(self._size.ask()) if room is not None or comes_next else None
            if stretch is None:
                if room is not None:
                    room.end()
                return
            if room is not None:
                self._rooms[stretch] = room
            self._tasks[stretch] = asyncio.get_running_loop().create_task(self._read(line, stretch))

    def _page_bytes(self) -> int:
        """Return the bytes that a page should take: an answer, and later its documents, each twice in between."""
        return int(2 * self._size.ask() * self._size.bucket_bytes)

    def _give_back(self, of: Stretch | None) -> None:
        if (room := self._rooms.pop(of, None)) is not None:
            room.end()

    async def _read(self, line: StretchQueue, stretch: Stretch) -> Page | None:
        """Read a page of a stretch; None: there is no bucket in it."""
        if stretch not in self._rooms:
            self._rooms[stretch] = await self._cluster.pages.take(self._page_bytes())
        began = self._clock()
        buckets, rest = await self._gather(line, stretch)
        took = self._clock() - began
        line.found(stretch, buckets.count, rest)
        if not buckets.count:
            self._give_back(stretch)
            self._fill(line)
            self._tasks.pop(stretch, None)
            return None
        items: list[bytes] = []
        rows = 0
        with readable(self._doing(stretch.begin)):
            for piece in buckets.pieces():
                items += self._encoder.encode(piece)
                rows += sum(map(_ROWS, piece))
                if len(items) == len(piece):  # before more is requested, perhaps many pages at a time
                    self._size.learn(len(items), sum(map(len, items)))
                    self._fill(line)  # the cluster continues reading while these become documents
                await asyncio.sleep(0)
            last = self._query.position(buckets.last["key"])
        if (twice := self._encoder.id_of_two(items)) is not None:
            raise Odd(f"{self._doing(stretch.begin)}: two buckets have one id, {twice}: neither is written")
        batch = Batch.of(items)
        self._size.learn(len(items), batch.size)
        self._rooms[stretch].resize(batch.size, force=True)
        return Page(len(items), rows, last, exhausted=False, took_s=took, handle=batch)

    def _doing(self, begin: int) -> str:
        doing = f"reading {self._config.spec.index_pattern} from {minute(begin)}"
        if self._scripted:
            names = ", ".join(self._scripted)
            doing += f" (by a script, since documents have several values in {names} and count once per bucket)"
        return doing

    async def _gather(self, line: StretchQueue, stretch: Stretch) -> tuple[PageBuckets, tuple[int, Key] | None]:
        """Return the first buckets of a stretch, and time and key of the last one if more may follow.

        If the clock changes in between, that takes several searches.
        """
        buckets = PageBuckets()
        begin, after, wanted = stretch.begin, stretch.after, self._size.ask()
        first = None
        if after is not None and not self._query.others and (edge := self._bounds.next_edge(time_of(after))) > begin:
            # A bucket is one key, so other time follows. OpenSearch fails if it is to continue after the last
            # bucket there is, and there are no metrics: "Index 0 out of bounds for length 0".
            begin = first = edge
            after = None
        while begin < stretch.end:
            found, last, end = await self._search(line, stretch, begin, after, wanted - buckets.count)
            # A document of several times counts under earlier ones, too, which are read.
            buckets += found if first is None else found.within(first, end)
            if last is not None:
                return buckets, (max(begin, time_of(last)), last)
            begin, after = end, None
        return buckets, None

    async def _search(
        self, line: StretchQueue, stretch: Stretch, begin: int, after: Key | None, wanted: int
    ) -> tuple[PageBuckets, Key | None, int]:
        """Return the first buckets of a stretch from `begin` on, and up to where it was searched.

        Between them: the key of the last bucket if more of the searched time may follow.
        """
        doing = self._doing(begin)
        steady = self._bounds.steady(self._bounds.round_down(begin))
        patience, lost = self._patience(), 0
        while True:
            asked, end = min(wanted, self._size.ask()), min(steady.end, stretch.end)
            try:
                body = self._query.search(begin, steady, end, after, asked)
                answer = await self._call(body, doing, self._rooms[stretch])
                with readable(doing):
                    found, last = _page(answer, after, asked)
            except Overloaded as e:
                self._size.failed(asked)
                await patience.pause(e)
            except Unanswered as e:
                lost += 1
                if lost == _LOST:
                    raise
                if e.sent:
                    line.shorten(stretch, begin)
                    patience = self._patience()
                await patience.pause(e)
            except StoreUnavailable as e:
                await patience.pause(e)
            else:
                self._size.succeeded(asked)
                if last is not None and time_of(last) >= end:
                    last = None
                with readable(doing):
                    return found.within(steady.begin, end), last, end

    async def _call(self, body: Mapping[str, Any], doing: str, room: Held) -> Value:
        try:
            pattern = self._config.spec.index_pattern
            answer = await search(
                self._cluster, pattern, body, doing=doing, opaque_id=self._opaque_id, page=room, copies=self._copies
            )
        except StoreError as e:
            self.unclean |= may_go_on(e)
            raise
        except asyncio.CancelledError:
            self.unclean = True
            raise
        shards = answer.at("_shards", "total").whole()
        self.fewest_shards = shards if self.fewest_shards is None else min(shards, self.fewest_shards)
        return answer


def _page(answer: Value, after: Key | None, asked: int) -> tuple[PageBuckets, Key | None]:
    """Return the buckets, and the key of the last one if more may follow. Raises ValueError and the like."""
    if not answer.find("aggregations").given:  # no shard at all
        return PageBuckets(), None
    found = answer.at("aggregations", ROLLUP, "buckets").value
    if not isinstance(found, PageBuckets) or found.count > asked:
        raise ValueError("there are no buckets, or more than were asked for")
    last = found.last["key"] if found.count == asked else None
    if last is not None and last == after:
        raise ValueError("they do not go on where the last ones ended")
    return found, last
