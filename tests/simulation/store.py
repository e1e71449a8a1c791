"""What one replica has of the cluster: the real client, claims, settling, gates, pages and bulks, over a lossy network.

Only two things are not the product's: how a request is sent, and how the source is described, which here takes one
request instead of three.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.comparison import BucketNumbers, Findings, Judge
from rollup_operator.rollup.documents import layout_of
from rollup_operator.rollup.due import rolled_up_to
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.base import Checkup, Claim, Session, Source
from rollup_operator.stores.errors import StoreError
from rollup_operator.stores.opensearch import ClusterStore, claims, settling
from rollup_operator.stores.opensearch.query import ROLLUP, time_range
from rollup_operator.stores.opensearch.records import Record
from rollup_operator.stores.opensearch.session import ClusterSession
from rollup_operator.stores.opensearch.target import index as target
from rollup_operator.stores.opensearch.transport.client import OPAQUE_ID, Cluster
from rollup_operator.stores.opensearch.transport.errors import Cut, Unanswered
from rollup_operator.stores.opensearch.transport.request import NotSent, Request
from rollup_operator.stores.opensearch.transport.wire import Wire as Exchange
from rollup_operator.stores.opensearch.verification import ClusterVerification
from rollup_operator.stores.verification import DayCount, Extent
from simulation.clock import ProcessLoop
from simulation.network import Fate
from simulation.search_cluster import CANCEL_SECONDS, DATE, FIELDS, SearchCluster, Task, failure

ON_ITS_WAY = 0.045
"""Seconds from being sent: a search whose connection is cut before it arrives does so by then, or never.

A node that is paused may read it later, and reads right behind it that the connection is closed."""


@contextmanager
def epochs_in_virtual_time() -> Iterator[None]:
    """Let epochs come from `time.time` as it is now, not as it was when the product was imported."""
    takers = (claims.take, claims.evict, settling.settle)
    before = [taker.__kwdefaults__ for taker in takers]
    for taker in takers:
        taker.__kwdefaults__ = {**(taker.__kwdefaults__ or {}), "now": time.time}
    try:
        yield
    finally:
        for taker, defaults in zip(takers, before, strict=True):
            taker.__kwdefaults__ = defaults


@contextmanager
def evictions_are_judged(judge: Callable[[str, str], None]) -> Iterator[None]:
    """Call `judge` with the uids of who settles and of the record's owner, before a claim is taken to settle."""
    evict = claims.evict

    async def judged(cluster: Cluster, config: JobConfig, holder: str, seen: Record, *args: Any, **more: Any) -> Any:
        judge(config.owner.uid, seen.owner.uid)
        return await evict(cluster, config, holder, seen, *args, **more)

    with patch.object(claims, "evict", judged):
        yield


class Wire:
    """The connections of one replica to the cluster."""

    def __init__(self, cluster: SearchCluster, loop: ProcessLoop, about_to_send: Callable[[str], None]) -> None:
        """`about_to_send` is called with what a request of a run is for, when it is sent."""
        self.cluster, self._loop, self._about_to_send = cluster, loop, about_to_send
        self.cut = False
        self.flights: dict[_Flight, None] = {}

    @property
    def frozen(self) -> bool:
        """Whether the process stands still, and its connections are open."""
        return self._loop.frozen

    def is_asked_for(self, opaque_id: str) -> bool:
        """Whether a request with this id is on its way, or its answer is."""
        return any(flight.opaque_id == opaque_id for flight in self.flights)

    def connections_end(self) -> None:
        """The process is dead, and its connections with it."""
        for flight in tuple(self.flights):
            flight.end()

    async def send(self, request: Request, _session: object, _host: str, exchange: Exchange) -> Any:
        """Send one request. Raises as `Request.send` does.

        Where it is cancelled, it hangs up, and waits until the cluster has read that; now and then nobody can know.
        """
        clock, way = self.cluster.clock, self.cluster.way
        if request.headers["X-Opaque-Id"] != OPAQUE_ID:
            self._about_to_send(request.doing)
        fate, future = way.fate(), self._loop.create_future()
        if self._loop.dead or self.cut or fate is Fate.REFUSED:
            await asyncio.sleep(way.latency())
            raise NotSent(Unanswered(f"{request.doing}: cannot connect", sent=False))
        if fate is Fate.FAILED:
            await asyncio.sleep(way.latency())
            raise failure(way.random.randrange(2), request.doing)
        flight = _Flight(self, request, future, lost_answer=fate is Fate.UNANSWERED)
        if fate in (Fate.LOST, Fate.STRAY):
            clock.after(way.latency(), flight.answer, None, Cut(f"{request.doing}: the connection broke off"))
        if fate is not Fate.LOST:
            clock.after(way.lateness() if fate in (Fate.LATE, Fate.STRAY) else way.latency(), flight.arrive)
        if fate in (Fate.LATE, Fate.UNANSWERED) or way.weather.works[-1] > 1:
            late = Unanswered(f"{request.doing}: no answer within {request.timeout:g} s", sent=True)
            clock.after(request.timeout, flight.give_up, late)
        self.flights[flight] = None
        try:
            return await future
        except Unanswered:
            exchange.unread = True
            raise
        except asyncio.CancelledError:
            exchange.unread = True
            if exchange._waits and fate is Fate.GOOD and way.happens(0.7):
                read = self._loop.create_future()
                flight.hang_up(read)
                await read
                exchange.unread = False
            raise
        finally:
            flight.end()
            del self.flights[flight]


class _Flight:
    """One request on its way, at work, or with its answer on the way back."""

    def __init__(self, wire: Wire, request: Request, future: "asyncio.Future[Any]", *, lost_answer: bool) -> None:
        self._wire, self._request, self._future, self._lost_answer = wire, request, future, lost_answer
        self._task: Task | None = None
        self._arrived = self._ended = False
        self.sent = wire.cluster.clock.now

    @property
    def opaque_id(self) -> str:
        return str(self._request.headers["X-Opaque-Id"])

    def arrive(self) -> None:
        """Reach the cluster; a search whose sender is gone may do so a moment later, or not at all."""
        self._arrived = True
        if not self._ended:
            self._task = self._wire.cluster.receive(self._request, self.answer, sender_frozen=self._wire.frozen)
        elif not self._is_search():
            self._wire.cluster.receive(self._request, lambda *_: None)

    def answer(self, answer: Any, error: StoreError | None) -> None:
        """Bring the answer back, or lose it."""
        cluster = self._wire.cluster
        if self._lost_answer:
            answer, error = None, Cut(f"{self._request.doing}: the connection broke off")
        cluster.clock.after(cluster.way.latency(), self._settle, answer, error)

    def give_up(self, error: StoreError) -> None:
        """The sender has waited for long enough."""
        self._settle(None, error)

    def end(self) -> None:
        """The sender waits no more: the connection is closed."""
        if self._ended:
            return
        self._ended = True
        cluster = self._wire.cluster
        if self._task is not None:
            cluster.cut(self._task)
        elif not self._arrived and self._is_search() and cluster.way.happens(0.5):
            latest = self.sent + ON_ITS_WAY
            if latest > cluster.clock.now:
                cluster.clock.at(cluster.way.random.uniform(cluster.clock.now, latest), self._begin_late)

    def hang_up(self, read: "asyncio.Future[Any]") -> None:
        """Tell the cluster that nothing more comes; `read` is done once it knows."""
        cluster = self._wire.cluster
        if not self._arrived:
            cluster.clock.after(ON_ITS_WAY, self.hang_up, read)
            return
        self.end()
        cluster.clock.after(CANCEL_SECONDS, lambda: None if read.done() else read.set_result(None))

    def _begin_late(self) -> None:
        task = self._wire.cluster.receive(self._request, lambda *_: None)
        if task is not None:
            self._wire.cluster.cut(task)

    def _is_search(self) -> bool:
        return "/_search" in self._request.target

    def _settle(self, answer: Any, error: StoreError | None) -> None:
        if self._future.done() or self._future.get_loop().dead:  # type: ignore[attr-defined]
            return
        if error is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(answer)


class _NoConnection:
    """Stands where aiohttp's session would."""

    async def close(self) -> None:
        """There is nothing to close."""


class StoreDouble(ClusterStore):
    """The store behind a RollupStore."""

    def __init__(self, wire: Wire, loop: ProcessLoop, may_run: Any, is_alive: Any, opened: Any) -> None:
        """`opened` is called with 1 when a run claims, and with -1 when it has left."""
        self._opened = opened

        async def connect() -> Any:
            return _NoConnection()

        self.cluster = Cluster(("sim:",), connect, may_run=may_run, clock=loop.time, send=wire.send)
        super().__init__("opensearch", self.cluster, is_alive=is_alive)

    async def check(self) -> Checkup:
        """One request instead of three."""
        await self._cluster.call("GET", "/", doing="asking for the version")
        return Checkup("3.0.0", "green")

    @asynccontextmanager
    async def verification(
        self, config: JobConfig, fields: Collection[str] | None = None, *, awaited: bool = False
    ) -> AsyncIterator[Any]:
        """Compare by the product's own requests for the record, and by searches of this world."""
        async with super().verification(config, fields, awaited=awaited) as real:
            yield VerificationDouble(real)

    def session(self, config: JobConfig, holder: str) -> Session:
        return SessionDouble(self._cluster, config, holder, self._is_alive, opened=self._opened)


class VerificationDouble:
    """A comparison by the numbers of rows, which measures the source by one request instead of six."""

    def __init__(self, of: ClusterVerification) -> None:
        self._of = of
        self.judge = Judge(layout_of(of.config.job_id, of.config.spec), fields=frozenset())

    async def begin(self, span: Span) -> Extent:
        config, of = self._of.config, self._of
        record = await claims.read(of.cluster, config.key, opaque_id=of.opaque_id)
        if record is None or record.owner.uid != config.owner.uid:
            return Extent(Span(0, 0), 0)
        end = rolled_up_to(config.spec, record.claim.position, record.claim.watermark_ms, last_is_whole=False)
        await target.refresh(of.cluster, config.spec.rollup_index, opaque_id=of.opaque_id)
        within = Span(span.start_ms, max(span.start_ms, min(span.end_ms, end)))
        rows = await self._rows(within)
        return Extent(Span(min(rows, default=within.end_ms), within.end_ms), end, sum(rows.values()))

    async def count(self, days: Sequence[Span]) -> Sequence[DayCount]:
        whole = Span(days[0].start_ms, days[-1].end_ms)
        rows, stored = await self._rows(whole), await self._documents(whole)
        return [DayCount(_within(rows, day), _within(stored, day)) for day in days]

    async def compare(self, span: Span, into: Findings, reached: Callable[[int], None]) -> None:
        stored, rows = await self._documents(span), await self._rows(span)
        for bucket in sorted(stored.keys() | rows.keys()):
            into.take(self._bucket(bucket, stored), self._bucket(bucket, rows))
        reached(span.end_ms)

    def _bucket(self, begin: int, counts: dict[int, int]) -> BucketNumbers | None:
        return BucketNumbers((begin,), {self.judge.count: counts[begin]}) if begin in counts else None

    async def _rows(self, span: Span) -> dict[int, int]:
        composite = {"composite": {"size": 10_000}}
        found = await self._search(self._of.config.spec.index_pattern, span, {"aggregations": {ROLLUP: composite}})
        buckets = found.value["aggregations"][ROLLUP]["buckets"]
        return {b["key"]["0"]: b["doc_count"] for piece in buckets.pieces() for b in piece}

    async def _documents(self, span: Span) -> dict[int, int]:
        config = self._of.config
        found = await self._search(config.spec.rollup_index, span, {"job_id": config.job_id})
        return {int(begin): rows for begin, rows in found.value["documents"].items()}

    async def _search(self, index: str, span: Span, more: dict[str, Any]) -> Any:
        return await self._of.cluster.call(
            "POST",
            f"/{index}/_search",
            doing="verifying",
            body={"query": time_range(DATE, span.start_ms, span.end_ms), **more},
            opaque_id=self._of.opaque_id,
        )


def _within(counts: dict[int, int], span: Span) -> int:
    return sum(rows for begin, rows in counts.items() if span.start_ms <= begin < span.end_ms)


@dataclass
class SessionDouble(ClusterSession):
    """A run's session, which describes the source by one request."""

    opened: Callable[[int], None] = lambda _: None
    is_open: bool = False

    async def claim(self) -> Claim:
        self.is_open = True
        self.opened(1)
        return await super().claim()

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            if self.is_open:
                self.is_open = False
                self.opened(-1)

    async def describe(self, claim: Claim, span: Span) -> Source:
        record = self._ours()
        start = max(span.start_ms, self._start(claim))
        self._fields = {name: SourceField(frozenset({kind})) for name, kind in FIELDS.items()}
        answer = await self._or_halted(
            self.cluster.call(
                "POST",
                f"/{self.config.spec.index_pattern}/_search",
                doing="counting",
                body={"query": time_range(DATE, start, span.end_ms)},
                opaque_id=record.opaque_id,
            )
        )
        first, last = answer.value["ends"] or (None, None)
        self._source = Source(1, answer.value["rows"], first, last)
        return self._source
