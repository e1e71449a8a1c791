"""The RollupStores of the cluster: which exist, the client of each, and whether it can be used.

Watches: RollupStore. Writes: its status, one patch per change. A change of a store wakes the jobs that name it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from pydantic import ValidationError

from rollup_operator.kube.client import KubeClient, KubeError, NotFound
from rollup_operator.kube.paths import stores_path
from rollup_operator.lifecycle.report import difference, rfc3339
from rollup_operator.model.conditions import Reason, verdict
from rollup_operator.model.store import RollupStoreSpec, RollupStoreStatus
from rollup_operator.stores.base import HeldClaim, Store, StoreError, StoreNotFound, StoreUnavailable

log = structlog.get_logger(__name__)

StoreKey = tuple[str, str]
"""Namespace and name of a RollupStore."""

RECHECK = 10.0
"""Seconds between two looks at a store that does not answer."""

MakeStore = Callable[[str, RollupStoreSpec], Store]
"""Makes the client of a store in a namespace. Raises StoreError when the spec cannot be used."""


@dataclass
class Entry:
    """One RollupStore as known here."""

    uid: str
    version: int
    generation: int
    spec: RollupStoreSpec | None
    store: Store | None
    problem: str | None
    slots: asyncio.Semaphore
    held: asyncio.Future[frozenset[tuple[str, str]]] | None = field(default=None)


class StoreBook:
    """All stores by name. One instance a process."""

    def __init__(
        self,
        *,
        kube: KubeClient,
        make: MakeStore,
        now: Callable[[], datetime],
        changed: Callable[[StoreKey], None],
    ) -> None:
        self._kube, self._make, self._now, self._changed = kube, make, now, changed
        self._entries: dict[StoreKey, Entry] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def missing(self, key: StoreKey) -> str | None:
        """Say what is wrong when no usable store of that name is known; None: it is there."""
        entry = self._entries.get(key)
        if entry is None:
            return f"no RollupStore named {key[1]!r} in namespace {key[0]!r}: create it, and the job goes on by itself"
        return entry.problem

    def usable(self, namespace: str) -> Sequence[str]:
        """Return the names of the namespace's stores that have a client, in order."""
        return sorted(name for (of, name), entry in self._entries.items() if of == namespace and entry.store)

    async def open(self, key: StoreKey) -> Store:
        """Return the client. Raises StoreNotFound, or StoreUnavailable for a store whose spec cannot be used."""
        entry = self._entries.get(key)
        if entry is None:
            raise StoreNotFound(self.missing(key))
        if entry.store is None:
            raise StoreUnavailable(f"RollupStore {key[1]!r}: {entry.problem}")
        return entry.store

    def slots(self, key: StoreKey) -> asyncio.Semaphore:
        """Return the places for runs; a store that is not known yet has one, where its absence is found out."""
        entry = self._entries.get(key)
        return entry.slots if entry is not None else asyncio.Semaphore(1)

    async def was_held(self, key: StoreKey, job: tuple[str, str]) -> bool:
        """Whether a claim of `job` (rollup index, job id) was held when this process first looked.

        One listing a store and process: what is claimed here later is known here. Raises StoreError.
        """
        store = await self.open(key)
        entry = self._entries[key]
        if entry.held is None:
            entry.held = asyncio.ensure_future(_held(store))
        try:
            return job in await asyncio.shield(entry.held)
        except StoreError:
            entry.held = None
            raise

    def observe(self, body: Mapping[str, Any]) -> None:
        """Take in a RollupStore as an event or a list shows it."""
        meta = body["metadata"]
        key, version = (meta["namespace"], meta["name"]), int(meta["resourceVersion"])
        old = self._entries.get(key)
        if old is not None and old.version >= version and old.uid == meta["uid"]:
            return
        if old is not None and old.uid == meta["uid"] and old.generation == meta.get("generation", 0):
            old.version = version
            return
        entry = self._enter(key, body, old if old is not None and old.uid == meta["uid"] else None)
        self._entries[key] = entry
        self._spawn(self._report(key, entry, body))
        self._changed(key)

    def gone(self, body: Mapping[str, Any]) -> None:
        """Take in that a RollupStore was deleted. Runs under way keep their client."""
        meta = body["metadata"]
        entry = self._entries.get(key := (meta["namespace"], meta["name"]))
        if entry is not None and entry.uid == meta["uid"]:
            del self._entries[key]
            self._changed(key)

    async def close(self) -> None:
        """Close every store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for entry in self._entries.values():
            if entry.store is not None:
                await entry.store.close()

    def _enter(self, key: StoreKey, body: Mapping[str, Any], old: Entry | None) -> Entry:
        meta = body["metadata"]
        store: Store | None = None
        spec: RollupStoreSpec | None = None
        problem: str | None = None
        try:
            spec = RollupStoreSpec.model_validate(body.get("spec") or {})
            same = old is not None and old.spec is not None and old.spec.duckdb == spec.duckdb
            store = old.store if same and old is not None else self._make(key[0], spec)
        except ValidationError as e:
            first = e.errors()[0]
            problem = f"spec.{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except StoreError as e:
            problem = str(e)
        generation = meta.get("generation", 0)
        slots = asyncio.Semaphore(spec.max_concurrent_runs if spec is not None else 1)
        return Entry(meta["uid"], int(meta["resourceVersion"]), generation, spec, store, problem, slots)

    async def _report(self, key: StoreKey, entry: Entry, body: Mapping[str, Any]) -> None:
        """Check the store until it can be used, and write its status whenever it says anything else."""
        shown: Mapping[str, Any] = body.get("status") or {}
        while self._entries.get(key) is entry:
            version, transient = None, False
            if entry.store is not None:
                try:
                    version = (await entry.store.check()).version
                    entry.problem = None
                except StoreError as e:
                    entry.problem, transient = str(e), e.transient
            shown = await self._write(key, entry, shown, version, transient)
            if not transient:
                return
            await asyncio.sleep(RECHECK)

    async def _write(
        self, key: StoreKey, entry: Entry, shown: Mapping[str, Any], version: str | None, transient: bool
    ) -> Mapping[str, Any]:
        old = RollupStoreStatus.model_validate(shown)
        status = RollupStoreStatus(
            observed_generation=entry.generation,
            conditions=verdict(
                ready=entry.problem is None,
                stalled=not transient,
                reason=Reason.AVAILABLE
                if entry.problem is None
                else (Reason.STORE_UNAVAILABLE if transient else Reason.INVALID_SPEC),
                message=entry.problem or "the store can be used",
                generation=entry.generation,
                now=rfc3339(self._now()),
                before=old.conditions,
            ),
            distribution=entry.store.distribution if entry.store is not None else None,
            version=version,
        ).model_dump(mode="json", by_alias=True, exclude_none=True)
        if not (patch := difference(shown, status)):
            return shown
        try:
            await self._kube.patch(stores_path(*key, "status"), {"metadata": {"uid": entry.uid}, "status": patch})
        except NotFound:
            return shown  # deleted; the watch will tell
        except KubeError as e:
            log.warning("status of a store not written", namespace=key[0], store=key[1], error=str(e))
            return shown
        return status

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _held(store: Store) -> frozenset[tuple[str, str]]:
    claims: list[HeldClaim] = list(await store.held_claims())
    return frozenset(claim.key for claim in claims)
