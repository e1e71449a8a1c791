"""Searches over rolled and live data, and what clients ask of fields before they search.

names ─ resolve ─▶ sources, of the jobs that the caller may search
source ─ Store.tiers ─▶ what is rolled up of it, read once ─ plan ─▶ fetches ─ Store.search ─▶ parts ─ answer
"""

import asyncio
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from rollup_operator.concurrency.once import Once
from rollup_operator.concurrency.portions import in_portions
from rollup_operator.http.access.permits import Permit
from rollup_operator.http.access.store_errors import StoreTrouble
from rollup_operator.http.api.search_errors import asking, refusals
from rollup_operator.http.api.search_fields import Readable, fields_in, spec_of, tell_kinds
from rollup_operator.http.api.search_turns import TURN_SECONDS, SearchTurns
from rollup_operator.http.api.searchable import Searchable
from rollup_operator.http.ports import Stores
from rollup_operator.http.protocol import errors
from rollup_operator.model.time_values import epoch_ms
from rollup_operator.query.answering.answer import Style, answer
from rollup_operator.query.fields import Fields, fields_of, kinds_of
from rollup_operator.query.planning.planner import Live, SearchPlan, plan
from rollup_operator.query.reading.request import Door, SearchRequest, parse_request
from rollup_operator.query.sources import Catalog, IndexOptions, Logical, NoSuchIndex
from rollup_operator.sharing.shares import Held, Shares
from rollup_operator.stores.base import Store
from rollup_operator.stores.errors import (
    DocumentsChanged,
    SourceNotFound,
)
from rollup_operator.stores.search import MAX_BUCKETS, LevelBuckets, Partials, Rows, Tier

PLANS_AT_ONCE = 4
"""Threads of their own: those of the process are for what a stop waits for as well."""

MEMORY_OF_A_BUCKET = 8192
"""Bytes of the process's memory for each bucket that all searches may have at a time: they take a fifth of that, from
the store's answer until they are written as JSON."""

KEY_INCLUDED = 100
KEY_OF_A_BUCKET = 512
"""Bytes of a key that count with its bucket, and of longer ones those that count as another bucket: they are in memory
as texts, as JSON and as what is sent."""

READABLE_SECONDS = 5.0
"""How long what was read of a source for one search of a call counts for the others of it. Rows that are rolled up
later count as live meanwhile, which is right as long as nobody deletes them."""

TRIES = 3
"""How often a search is planned whose documents are deleted meanwhile."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where the searches of one call look, and whose they are; what they find out in common is found out once."""

    namespace: str
    permit: Permit
    catalog: Catalog
    sources: Once[tuple[tuple[str, ...], IndexOptions, Door], list[Logical]] = field(default_factory=Once)
    readable: Once[Hashable, Readable] = field(default_factory=lambda: Once(READABLE_SECONDS))
    rooms: list[Held] = field(default_factory=list)
    """For the buckets of its answers, until the last of them is written."""
    lacking: list[StoreTrouble] = field(default_factory=list)
    """Why some sources are in no answer."""

    def lack(self, troubles: Sequence[StoreTrouble], sources: int) -> None:
        """Take in why some of so many sources are in no answer. Raises the first StoreTrouble if none is, or may be."""
        if troubles and len(troubles) >= sources:
            raise troubles[0]
        self.lacking.extend(troubles)

    def close(self) -> None:
        """Give the room back: the call is over."""
        for held in self.rooms:
            held.end()
        self.rooms.clear()


class Searches:
    """Answers searches."""

    def __init__(
        self, searchable: Searchable, stores: Stores, now: Callable[[], datetime], *, memory: int = 2**30
    ) -> None:
        """`memory`: what the process may use."""
        self._room = Shares(max(MAX_BUCKETS, memory // MEMORY_OF_A_BUCKET))
        self._searchable, self._stores, self._now = searchable, stores, now
        self._turns = SearchTurns()
        self._planning = ThreadPoolExecutor(PLANS_AT_ONCE, thread_name_prefix="search")

    async def scope(self, namespace: str, permit: Permit) -> Scope:
        """Return what all searches of one call have in common. Raises ApiError 503 while the list is not complete."""
        return Scope(namespace, permit, await self._searchable.living(namespace))

    async def require(self, namespace: str, permit: Permit) -> None:
        """Return if the caller may search anything. Raises ApiError 403, 503."""
        await self._searchable.require(namespace, permit)

    async def search(
        self, scope: Scope, sources: Sequence[Logical], body: Mapping[str, Any], door: Door, style: Style
    ) -> dict[str, Any]:
        """Return the answer to one search, for which the scope has room until it is closed.

        Raises ApiError, StoreTrouble.
        """
        began = time.monotonic()
        with refusals():
            # A thousand aggregations take it some hundredths of a second.
            request = await asyncio.to_thread(parse_request, body, door, total_hits_as_int=style.total_as_int)
            if request.for_annotations:
                return _of_nothing(style)
            planned, parts, failed = await self._read(scope, sources, request, partial=style.partial)
            if planned is None:
                return _of_nothing(style, failed)
            count, work = len(parts), answer(planned, parts, style, partial(self._take_more, scope))
            del parts  # they go as soon as they are added up
            found = await in_portions(work)
        took = round((time.monotonic() - began) * 1000)
        return {"took": took, "timed_out": False, "_shards": _shards(count, failed), **found}

    async def fields(self, scope: Scope, sources: Sequence[Logical], names: Sequence[str]) -> list[tuple[str, Fields]]:
        """Return what can be asked of each source, by its name. Raises ApiError, StoreTrouble."""
        found: list[Readable] = []
        troubles: list[StoreTrouble] = []
        for source in sources:
            try:
                async with self.turn(scope, source):
                    found.append(await self.readable(scope, source))
            except StoreTrouble as e:
                troubles.append(e)
        scope.lack(troubles, len(sources))
        alone = names[0] if len(found) == 1 == len(names) and "*" not in names[0] else None
        return [(alone or of.logical.like.rollup_index, fields_in(of)) for of in found]

    async def rolled_up(self, scope: Scope, sources: Sequence[Logical]) -> list[Tier]:
        """Return what is rolled up of sources, of jobs that the caller may search. Raises ApiError, StoreTrouble."""
        found: list[Tier] = []
        for source in sources:
            async with self.turn(scope, source):
                found += (await self.readable(scope, source)).tiers
        return found

    async def sources(self, scope: Scope, names: Sequence[str], options: IndexOptions, door: Door) -> list[Logical]:
        """Return the sources that names mean, of the jobs that the caller may search.

        Documents of jobs that are gone, or that Elasticsearch made, are looked for where a name means nothing else.
        Raises ApiError: 403 for callers who may search nothing of it, whether that exists or not; 404, 400;
        StoreTrouble.
        """
        with refusals():
            key = tuple(names), options, door
            return await scope.sources.get(key, lambda: self._sources(scope, names, options, door))

    async def _sources(self, scope: Scope, names: Sequence[str], options: IndexOptions, door: Door) -> list[Logical]:
        candidates = await in_portions(scope.catalog.candidates(names))
        allowed = await scope.permit.named({job.name for job in candidates}) if candidates else frozenset()
        mine = await in_portions(Catalog().take_in([job for job in candidates if job.name in allowed]))
        if not allowed:
            await scope.permit.require_all()
        try:
            return await in_portions(mine.resolve(names, options, door))
        except NoSuchIndex:
            await scope.permit.require_all()
            more = await self._searchable.remembered(scope.namespace, names)
            await in_portions(mine.take_in(more.found))
            try:
                return await in_portions(mine.resolve(names, options, door))
            except NoSuchIndex:
                more.must_be_whole()
                raise

    async def _read(
        self, scope: Scope, sources: Sequence[Logical], request: SearchRequest, *, partial: bool
    ) -> tuple[SearchPlan | None, list[Partials], int]:
        """Read one source after the other; all are answered alike, so their parts are added. None: there is nothing.

        Also returns how many sources could not be read. Raises StoreTrouble if none could, or if not `partial`.
        """
        whole: SearchPlan | None = None
        parts: list[Partials] = []
        troubles: list[StoreTrouble] = []
        now = epoch_ms(self._now())
        for source in sources:
            try:
                async with self.turn(scope, source):
                    planned, found = await self._read_one(scope, source, request, now)
                    await self._take_room(scope, found)
            except StoreTrouble as e:
                troubles.append(e)
                continue
            if planned is None:
                continue
            parts += found
            whole = planned if whole is None else whole.joined(planned, f"[{source.index_pattern}]")
        scope.lack(troubles, len(sources) if partial else 0)
        return whole, parts, len(troubles)

    async def _read_one(
        self, scope: Scope, source: Logical, request: SearchRequest, now: int
    ) -> tuple[SearchPlan | None, Sequence[Partials]]:
        """Read one source. None: nothing is rolled up, and there is no source yet, or none any more."""
        for left in reversed(range(TRIES)):
            readable = await self.readable(scope, source)
            if not readable.tiers and readable.live is None:
                break
            # Many buckets of time in zones whose clocks change take it some tenths of a second.
            planned = await asyncio.get_running_loop().run_in_executor(
                self._planning, plan, request, readable.tiers, readable.live, now
            )
            if not planned.reads:
                return planned, ()
            async with asking(source.store):
                try:
                    return planned, planned.checked(await readable.store.search(planned.reads))
                except DocumentsChanged:
                    if not left:
                        raise
            scope.readable.forget(_key(source), readable)
        return None, ()

    async def _take_room(self, scope: Scope, found: Iterable[Partials]) -> None:
        """Let the call have room for its answer. Raises ApiError 429.

        It is waited for with a turn, so that few wait with all that they have read; and not by who has some already:
        calls that waited for one another would all wait in vain.
        """
        buckets, who = sum(_room_of(level) for each in found for level in each.values()), scope.namespace
        held: Held | None = None
        if scope.rooms:
            held = self._room.take_now(who, buckets)
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(TURN_SECONDS):
                    held = await self._room.take(who, buckets)
        self._keep(scope, held)

    def _take_more(self, scope: Scope, buckets: int) -> None:
        """Let the call have room for buckets that nobody found, or for many numbers in them. Raises ApiError 429."""
        self._keep(scope, self._room.take_now(scope.namespace, buckets))

    @staticmethod
    def _keep(scope: Scope, held: Held | None) -> None:
        if held is None:
            raise errors.too_many("Answers to searches of this namespace take all the memory of their share")
        scope.rooms.append(held)

    def turn(self, scope: Scope, source: Logical) -> AbstractAsyncContextManager[None]:
        """Hold a turn at the store of a source. Raises ApiError 429."""
        return self._turns.turn(scope.namespace, source.store, scope.permit.caller.name)

    async def readable(self, scope: Scope, source: Logical) -> Readable:
        """Return up to where the jobs of a source can be searched. That is read once, before anything is searched."""
        return await scope.readable.get(_key(source), lambda: self._read_tiers(scope, source))

    async def _read_tiers(self, scope: Scope, source: Logical) -> Readable:
        async with asking(source.store):
            store = await self._stores.open((scope.namespace, source.store))
            keys = {job.key for job in source.jobs}
            of_indices = await store.tiers(sorted({index for index, _ in keys})) if keys else ()
            tiers = await self._searchable.readable(of_indices, source.jobs, scope.catalog, scope.permit)
            live = await self._live(store, source, tiers)
        return Readable(source, store, tiers, live)

    async def _live(self, store: Store, source: Logical, tiers: Sequence[Tier]) -> Live | None:
        if source.live is None:
            return None
        spec = spec_of(source.like)
        rows = Rows(source.live, spec, source.like.job_id)
        if tell_kinds(tiers):
            return Live(rows, fields_of(tiers))
        try:
            found = await store.fields(source.live, source.like.rollup_index, spec)
        except SourceNotFound:
            return Live(rows, fields_of(tiers)) if tiers else None
        return Live(rows, kinds_of(found, spec.groups.date_histogram.field))


def _room_of(level: LevelBuckets) -> int:
    return len(level.rows) + max(0, level.key_bytes - KEY_INCLUDED * len(level.rows)) // KEY_OF_A_BUCKET


def _key(source: Logical) -> Hashable:
    """Return what sources of a call have in common that are read alike."""
    return *source.like.source, source.live, tuple((job.key, job.name) for job in source.jobs)


def _shards(parts: int, failed: int) -> dict[str, int]:
    """Return what an answer says of its parts, as Elasticsearch does of shards; a source that failed counts as one."""
    return {"total": parts + failed, "successful": parts, "skipped": 0, "failed": failed}


def _of_nothing(style: Style, failed: int = 0) -> dict[str, Any]:
    """Return the answer to a search of names that mean nothing, of sources that hold nothing yet, or for documents."""
    total = 0 if style.total_as_int else {"value": 0, "relation": "eq"}
    hits: dict[str, Any] = {"total": total, "max_score": 0.0, "hits": []}
    return {"took": 0, "timed_out": False, "_shards": _shards(0, failed), "hits": hits}
