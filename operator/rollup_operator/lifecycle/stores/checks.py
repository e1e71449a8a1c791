"""Looking at the stores that this process knows: can each be used, which claims are held? Writes: RollupStore status.

One task a store, while this process leads. A store that can be used again wakes the jobs that name it, and so does one
in which a process of before left claims.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from rollup_operator.background import keep_running
from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.kube.client import Conflict, KubeClient, KubeError, NotFound
from rollup_operator.kube.paths import stores_path
from rollup_operator.kube.status import difference
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.stores.status import store_status
from rollup_operator.model.store import RollupStoreSpec
from rollup_operator.rollup.identity import Owner
from rollup_operator.stores.base import Checkup, Store
from rollup_operator.stores.errors import StoreError, StoreUnavailable

log = structlog.get_logger(__name__)

CONFLICT_SECONDS = 1.0
"""From a status that was refused, since somebody else had written, to the next look: the watch is quicker."""

StoreKey = tuple[str, str]
"""Namespace and name of a RollupStore."""


class HeldClaims:
    """Whose claims had a holder in a store when this process began to look at it."""

    def __init__(self, owners: Iterable[Owner]) -> None:
        self._uids, self._names = set[str](), set[tuple[str, str, str]]()
        for owner in owners:
            self._uids.add(owner.uid)
            self._names.add((owner.cluster, owner.namespace, owner.name))

    def __bool__(self) -> bool:
        return bool(self._uids)

    def one_of(self, owner: Owner) -> bool:
        """Whether one of them may be this job's, or an earlier job's of its name."""
        return owner.uid in self._uids or (owner.cluster, owner.namespace, owner.name) in self._names


@dataclass
class Entry:
    """One RollupStore as known here."""

    uid: str
    version: int
    generation: int
    spec: RollupStoreSpec | None
    store: Store | None
    problem: StoreError | None
    shown: Mapping[str, Any]
    """The status as last seen or written."""
    slots: RunSlots
    held: HeldClaims | None = None
    """None: this leadership has not listed them yet."""

    @property
    def embedded(self) -> bool:
        """Whether one process at a time can open it."""
        return self.spec is not None and self.spec.duckdb is not None


class StoreWatch:
    """The tasks that look."""

    def __init__(
        self,
        *,
        kube: KubeClient,
        now: Callable[[], datetime],
        changed: Callable[[StoreKey], None],
        gate: Gate,
        check_seconds: float,
    ) -> None:
        """See StoreBook, whose part this is."""
        self._kube, self._now, self._changed, self._gate = kube, now, changed, gate
        self._check_seconds = check_seconds
        self._tasks: dict[StoreKey, asyncio.Task[None]] = {}

    def begin(self, key: StoreKey, entry: Entry) -> None:
        """Look at this store from now on, in place of what had its name before."""
        self.end(key)
        self._tasks[key] = keep_running(f"checks of store {key[0]}/{key[1]}", partial(self._watch, key, entry))

    def end(self, key: StoreKey) -> asyncio.Task[None] | None:
        """Look no more. Returns the task that ends."""
        if (task := self._tasks.pop(key, None)) is not None:
            task.cancel()
        return task

    def close(self) -> Sequence[asyncio.Task[None]]:
        """Look at nothing any more. Returns the tasks that end."""
        return [task for key in tuple(self._tasks) if (task := self.end(key)) is not None]

    async def _watch(self, key: StoreKey, entry: Entry) -> None:
        """Look at the store again and again, and write its status whenever it says anything else."""
        while self._gate.open:
            found: Checkup | None = None
            if entry.store is not None:
                found, problem = await _look(entry.store)
                before, entry.problem = entry.problem, problem
                if before is not None and problem is None:
                    log.info("store can be used again", namespace=key[0], store=key[1])
                    self._changed(key)
                if problem is None and entry.held is None:
                    await self._list_claims(key, entry, entry.store)
            try:
                stands = await self._write(key, entry, found)
            except Conflict:
                await asyncio.sleep(CONFLICT_SECONDS)
                continue
            wait = self._next_look(entry) if stands else self._check_seconds / 3
            if wait is None:
                return
            await asyncio.sleep(wait)

    async def _list_claims(self, key: StoreKey, entry: Entry, store: Store) -> None:
        try:
            entry.held = HeldClaims(await store.held())
        except StoreError as e:
            log.warning("claims not listed: tried again", namespace=key[0], store=key[1], error=str(e))
        except Exception:
            log.exception("claims cannot be listed: tried again", namespace=key[0], store=key[1])
        if entry.held:
            self._changed(key)

    async def _write(self, key: StoreKey, entry: Entry, found: Checkup | None) -> bool:
        """Return whether the status says it now, or nobody needs it any more. Raises Conflict.

        It names the version that it was decided on: who leads no more must not overwrite what the next leader found.
        """
        status = store_status(
            entry.shown,
            generation=entry.generation,
            distribution=entry.store.distribution if entry.store is not None else None,
            found=found,
            problem=entry.problem,
            now=self._now(),
        )
        if not (patch := difference(entry.shown, status)) or not self._gate.open:
            return True
        try:
            meta = {"uid": entry.uid, "resourceVersion": str(entry.version)}
            answer = await self._kube.patch(stores_path(*key, "status"), {"metadata": meta, "status": patch})
        except NotFound:
            pass  # deleted; the watch will tell
        except KubeError as e:
            if isinstance(e, Conflict):
                raise
            level = log.info if e.transient else log.warning
            level("status of a store not written", namespace=key[0], store=key[1], error=str(e))
            return False
        else:
            if (version := int(answer["metadata"]["resourceVersion"])) > entry.version:
                entry.version, entry.shown = version, answer.get("status") or {}
        return True

    def _next_look(self, entry: Entry) -> float | None:
        """Return the seconds until the store is to be looked at again; None: only a change of it helps."""
        if entry.store is None:
            return None
        if entry.problem is not None:
            return self._check_seconds / 3
        # What an embedded store finds stays so.
        return None if entry.embedded else self._check_seconds


async def _look(store: Store) -> tuple[Checkup | None, StoreError | None]:
    try:
        return await store.check(), None
    except StoreError as e:
        return None, e
    except Exception as e:
        log.exception("store cannot be looked at")
        return None, StoreUnavailable(f"{type(e).__name__}: {e}")
