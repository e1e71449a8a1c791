"""A RollupStore of kind duckdb: one database file, and the users' folder of its namespace."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar
from weakref import WeakSet

import duckdb
import structlog

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.store import DuckDBStoreSpec
from rollup_operator.rollup import identity
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.base import Checkup, ClockReading, KnownJob, Preview, Purged, Retained, Settled
from rollup_operator.stores.duckdb import claims, fields
from rollup_operator.stores.duckdb import preview as previews
from rollup_operator.stores.duckdb import search as searches
from rollup_operator.stores.duckdb.claims import ClaimRow, ForeignClaim
from rollup_operator.stores.duckdb.database.budget import Budget
from rollup_operator.stores.duckdb.database.database import Database, Lane, Lanes
from rollup_operator.stores.duckdb.database.folders import Folders
from rollup_operator.stores.duckdb.database.inspection import NotOurs
from rollup_operator.stores.duckdb.database.opening import SPILL
from rollup_operator.stores.duckdb.database.reserve import RESERVE
from rollup_operator.stores.duckdb.database.takeover import LOGS
from rollup_operator.stores.duckdb.session import DuckDBSession, Served
from rollup_operator.stores.duckdb.source import sources
from rollup_operator.stores.duckdb.source.judged import Judged
from rollup_operator.stores.duckdb.target import export
from rollup_operator.stores.duckdb.verification import DuckDBVerification
from rollup_operator.stores.errors import SearchTooSlow, StoreElsewhere, StoreUnavailable
from rollup_operator.stores.search import MAX_BUCKETS, SEARCH_SECONDS, Fetch, Partials, Rows, Tier, nothing

log = structlog.get_logger(__name__)

T = TypeVar("T")

_TAKEN = (*LOGS, SPILL, RESERVE)
"""Suffixes that names of databases cannot have, because files beside them do."""
_SEARCHES = 8
"""Of one store at once, of all its users: they share memory and processors with its runs."""
_DATABASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*")


class DuckDBStore:
    """The store of one namespace and database file. The file is open only while something uses it."""

    def __init__(
        self,
        root: Path,
        namespace: str,
        spec: DuckDBStoreSpec,
        *,
        page_seconds: float,
        budget: Budget,
        is_alive: Callable[[Owner], bool],
        may_run: Callable[[], bool] = lambda: True,
        judged: Judged | None = None,
        clock: Callable[[], float] = time.monotonic,
        other_clock: Callable[[], ClockReading | None] = lambda: None,
    ) -> None:
        """Pages aim to take `page_seconds`. All stores of a process share one `budget`, and one `judged`, if any.

        `is_alive` is called, in the event loop, for another owner of a record.
        `other_clock` reads a clock that is not this machine's, without I/O; None: nothing is known of it.
        `may_run` is called before a claim is made; False means that another process may lead by now.

        Raises StoreUnavailable when the namespace or the file's name leads elsewhere. No I/O.
        """
        self._folders = Folders.of(root, namespace)
        if not _DATABASE.fullmatch(spec.database) or spec.database.endswith(_TAKEN):
            raise StoreUnavailable(
                f"spec.duckdb.database is {spec.database!r}: use a path below the folder of the namespace's databases, "
                f"as in rollup.duckdb, that does not end in {', '.join(_TAKEN)}"
            )
        self._name, self._budget = spec.database, budget
        self._page_seconds, self._is_alive, self._may_run, self._clock = page_seconds, is_alive, may_run, clock
        self._other_clock = other_clock
        self._sessions: WeakSet[DuckDBSession] = WeakSet()
        self._lanes = Lanes()
        self._searches = asyncio.Semaphore(_SEARCHES)
        self._judged = judged or Judged()
        self._wide = searches.Wide()

    @property
    def distribution(self) -> str:
        """Return duckdb."""
        return "duckdb"

    @property
    def place(self) -> str:
        """Return the file."""
        return f"{self._folders.root}/{self._folders.namespace}/{self._name}"

    @cached_property
    def _database(self) -> Database:
        return Database.at(self._folders, self._name, self._budget)

    async def check(self) -> Checkup:
        """Return DuckDB's version, after opening the file if there is one. Raises StoreUnavailable."""
        await self._with_lane("opening", lambda lane: lane.execute("SELECT 1"), None)
        return Checkup(duckdb.__version__, results=self._folders.results)

    async def clock(self) -> ClockReading | None:
        """Read the clock that the store was given: DuckDB's own is this machine's."""
        return self._other_clock()

    def session(self, config: JobConfig, holder: str) -> DuckDBSession:
        """Return a session for one run of a job."""
        served = Served(self._database, self._page_seconds, self._is_alive, self._may_run, self._clock)
        session = DuckDBSession(served, config, holder)
        self._sessions.add(session)
        return session

    async def fields(
        self, index_pattern: str, rollup_index: str, spec: RollupJobSpec | None = None, *, uid: str | None = None
    ) -> Mapping[str, SourceField]:
        """Describe the sources. Reading files needs the database, which is made where it is missing."""
        return await self._read_source(
            index_pattern, lambda lane: fields.read(lane, index_pattern, rollup_index, spec), "inspecting the source"
        )

    async def preview(self, config: JobConfig, span: Span, documents: int) -> Preview:
        """Read the first page of the span, and estimate from it."""
        return await self._read_source(
            config.spec.index_pattern,
            lambda lane: previews.preview(lane, config, span, documents, self._page_seconds),
            "reading for a preview",
        )

    @asynccontextmanager
    async def verification(
        self, config: JobConfig, fields: Collection[str] | None = None, *, awaited: bool = False
    ) -> AsyncIterator[DuckDBVerification]:
        """Open a connection for a comparison. The database is made where it is missing."""
        self._must_lead()
        if self._lanes.closed:
            raise StoreUnavailable("the store was closed")
        lane = await self._database.lane(self._lanes)
        try:
            yield DuckDBVerification(lane, config, fields, page_seconds=self._page_seconds, is_alive=self._is_alive)
        finally:
            await self._leave(lane)

    async def tiers(self, rollup_indices: Collection[str]) -> Sequence[Tier]:
        """Read the records, and the kinds of fields from the results."""
        nothing: list[Tier] = []
        names = frozenset(rollup_indices)
        async with self._searching(SEARCH_SECONDS):
            if not self._lanes.closed and (kept := searches.tiers_kept(self._database.kept, names)) is not None:
                return kept
            return await self._with_lane(
                "looking for what can be searched",
                lambda lane: searches.tiers(lane, names),
                nothing,
                interruptible=True,
                searches=True,
            )

    async def search(
        self, fetches: Sequence[Fetch], *, max_buckets: int = MAX_BUCKETS, seconds: float = SEARCH_SECONDS
    ) -> Sequence[Partials]:
        """Answer by one statement, or by two where a level has very many buckets, on a connection of its own."""
        patterns = {f.relation.index_pattern for f in fetches if isinstance(f.relation, Rows)}
        reads_files = any(sources.is_files(part) for pattern in patterns for part in pattern.split(","))
        async with self._searching(seconds), self._searches:
            return await self._with_lane(
                "searching",
                lambda lane: searches.search(lane, fetches, max_buckets, self._judged, self._wide),
                [nothing(fetch) for fetch in fetches],
                make=reads_files,
                interruptible=True,
                searches=True,
            )

    @asynccontextmanager
    async def _searching(self, seconds: float) -> AsyncIterator[None]:
        self._must_lead()
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as e:
            raise SearchTooSlow(seconds) from e

    def _must_lead(self) -> None:
        if not self._may_run():
            raise StoreElsewhere("this process does not lead, and whoever leads has the database open")

    async def rollup_index(self, index: str) -> None:
        """Return None: a result is a table of the store's own."""

    async def known_jobs(self) -> Sequence[KnownJob]:
        """List the records."""

        def work(lane: Lane) -> list[KnownJob]:
            return [KnownJob(r.claim.key, r.owner, spec, r.has_documents) for r, spec in claims.known(lane)]

        return await self._with_lane("listing jobs", work, [], interruptible=True)

    async def held(self, _holder: str) -> Collection[Owner]:
        """Return nothing: an open file is locked, so no other process works on any claim in it."""
        return ()

    async def settle(
        self, config: JobConfig, holder: str, *, delete_documents: bool, verified: bool = False
    ) -> Settled:
        """Take the claim from its holder; with `delete_documents`, delete the result and its export too.

        The lock on the file shows that no other process works on it; a current run of this process
        is fenced. If the file was refused, no run of any operator is there; and no run has claimed, or
        can claim, a record that no operator wrote.
        """
        try:
            return await self._settle_there(config, delete_documents=delete_documents)
        except (NotOurs, ForeignClaim) as e:
            return Settled(None, str(e) if delete_documents else None)

    async def _settle_there(self, config: JobConfig, *, delete_documents: bool) -> Settled:
        key = config.key

        def read(lane: Lane) -> ClaimRow | None:
            return claims.read(lane, key) if claims.exists(lane) else None

        while True:
            seen = await self._with_lane("reading the claim", read, None, ends=True)
            if seen is None:
                return Settled(None)
            delete = delete_documents and identity.made_by(config.owner, seen.owner)
            stays = delete_documents and not delete and seen.has_documents
            kept = identity.kept(config, seen.owner) if stays else None
            if not identity.is_this_job(config.owner, seen.owner, self._is_alive):
                return Settled(None, kept)
            settled = await self._with_lane("settling", partial(self._settle, seen, delete), None, ends=True)
            if settled is not None:
                return Settled(export.claim_of(settled, self._folders), kept)

    async def retained(self, key: tuple[str, str]) -> Retained | None:
        """Read the record, and count the rows of the result."""

        def read(lane: Lane) -> Retained | None:
            seen = claims.read(lane, key) if claims.exists(lane) else None
            if seen is None or not seen.has_documents:
                return None
            return Retained(seen.owner, claims.documents(lane, seen))

        return await self._with_lane("counting the documents", read, None, interruptible=True)

    async def purge(self, key: tuple[str, str], owner: Owner, _holder: str) -> Purged:
        """Take the record as it was read, or read it again, and delete the result and its export."""

        def read(lane: Lane) -> tuple[ClaimRow, int] | None:
            seen = claims.read(lane, key) if claims.exists(lane) else None
            return None if seen is None else (seen, claims.documents(lane, seen))

        while True:
            found = await self._with_lane("reading the claim", read, None, ends=True)
            if found is None or not identity.made_by(owner, found[0].owner):
                raise identity.claimed_meanwhile(key, None if found is None else found[0].owner)
            seen, documents = found
            if await self._with_lane("purging", partial(self._settle, seen, True), None, ends=True) is not None:
                return Purged(documents)

    def _settle(self, seen: ClaimRow, delete: bool, lane: Lane) -> ClaimRow | None:
        """Take the claim and delete the documents, unless somebody has claimed the job since the record was `seen`."""
        key = seen.claim.key

        def work(lane: Lane) -> ClaimRow | None:
            record = claims.read(lane, key)
            if record is None or not record.is_held_as(seen.claim):
                return None
            claims.evict(lane, key)  # held or not: a run that is about to claim the record as it was is fenced
            if delete:
                claims.forget_documents(lane, key, record.target)
                if record.target is not None and not export.Export(self._folders, self._name, key).remove():
                    log.warning(
                        "a file stays that is not this job's result", namespace=self._folders.namespace, job=key[1]
                    )
            return claims.read(lane, key)

        return lane.transaction(work)

    async def retire(self) -> None:
        """Do nothing: the file is open only while something uses it."""

    async def close(self) -> None:
        """End the sessions and calls still open with StoreUnavailable, and close the file."""
        self._lanes.closed = True
        await asyncio.gather(*(session.close() for session in list(self._sessions)))
        await asyncio.to_thread(self._database.leave_all, self._lanes)
        await asyncio.to_thread(self._database.close_if_idle)

    async def _read_source(self, index_pattern: str, work: Callable[[Lane], T], what: str) -> T:
        reads_files = any(sources.is_files(part) for part in index_pattern.split(","))
        nothing: list[T] = []
        found = await self._with_lane(what, lambda lane: [work(lane)], nothing, make=reads_files, interruptible=True)
        if not found:
            raise sources.nothing_found(index_pattern)
        return found[0]

    async def _with_lane(
        self,
        what: str,
        work: Callable[[Lane], T],
        absent: T,
        *,
        make: bool = False,
        interruptible: bool = False,
        ends: bool = False,
        searches: bool = False,
    ) -> T:
        """Run `work`, or return `absent` if there is no file yet: reading does not create one, unless with `make`.

        With `ends` a stop or a deletion waits for it: it may use the reserve on the volume, and needs
        no place if too many databases are open. If it `searches`, another search is likely to follow.
        """
        if self._lanes.closed:
            raise StoreUnavailable("the store was closed")
        database = self._database
        if not make and not await asyncio.get_running_loop().run_in_executor(database.pool, database.exists):
            return absent
        lane = await database.lane(self._lanes, waits=not ends)
        try:
            if ends:
                return await lane.run_in_reserve(what, work)
            return await lane.run(what, work, interruptible=interruptible, at_once=searches)
        finally:
            await self._leave(lane, searched=searches)

    async def _leave(self, lane: Lane, *, searched: bool = False) -> None:
        leave = partial(self._database.leave, lane, searched=searched)
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._database.pool, leave))
