"""One RollupStore: its client, its health checks, and the holders of claims in it.

Writes: the status of the RollupStore, and an event for each change of whether it can be used. While this process leads,
one task checks the store. A store that is usable again wakes the jobs that name it, and so does one in which an earlier
process left claims.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from pydantic import ValidationError

from rollup_operator.concurrency.background import keep_running
from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.kube.client import Conflict, KubeClient, KubeError, NotFound
from rollup_operator.kube.events import Regarding
from rollup_operator.kube.job_writes import difference
from rollup_operator.kube.paths import stores_path
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.stores.status import store_status
from rollup_operator.lifecycle.stores.store_events import store_event
from rollup_operator.model.conditions import Reason
from rollup_operator.model.store import RollupStoreSpec
from rollup_operator.rollup.identity import Owner
from rollup_operator.stores.base import Checkup, Store
from rollup_operator.stores.errors import StoreError, StoreUnavailable, StoreUnsuitable

log = structlog.get_logger(__name__)

CONFLICT_SECONDS = 1.0
"""From a status that was refused, since somebody else had written, to the next check: the watch is quicker."""

StoreKey = tuple[str, str]
"""Namespace and name of a RollupStore."""


class HeldClaims:
    """Whose claims in a store another process holds, or died holding, as last listed."""

    def __init__(self, owners: Iterable[Owner] = ()) -> None:
        self._uids, self._names = set[str](), set[tuple[str, str, str]]()
        for owner in owners:
            self._uids.add(owner.uid)
            self._names.add((owner.cluster, owner.namespace, owner.name))

    def has_more_than(self, before: "HeldClaims") -> bool:
        """Whether one of them was not held before."""
        return not self._uids <= before._uids

    def one_of(self, owner: Owner) -> bool:
        """Whether one of them may be this job's, or an earlier job's of its name."""
        return owner.uid in self._uids or (owner.cluster, owner.namespace, owner.name) in self._names


@dataclass(frozen=True)
class StoreContext:
    """What all stores share: the seams through which one acts on the world."""

    kube: KubeClient
    make: Callable[[str, RollupStoreSpec], Store]
    """Makes the client of a store in a namespace. Raises StoreError when the spec cannot be used. No I/O."""
    retire: Callable[[StoreKey, Store], None]
    """Called with a client that another one replaces. Current runs keep it."""
    changed: Callable[[StoreKey], None]
    """Called when the jobs of a store should decide again."""
    now: Callable[[], datetime]
    gate: Gate
    holder: str
    """The name of this process in claims."""
    check_seconds: float
    record: Callable[[Regarding, Reason, str], None]
    """Posts an event about a store."""
    others_act: Callable[[StoreKey], bool]
    """Whether another operator acts on jobs of a store: it checks the store, and writes its status."""


class KnownStore:
    """One RollupStore, from its first body to its last. Only this object changes what is known of it."""

    def __init__(self, key: StoreKey, body: Mapping[str, Any], slots: RunSlots, env: StoreContext) -> None:
        self.key, self.uid = key, str(body["metadata"]["uid"])
        self.client: Store | None = None
        """None: the spec cannot be used."""
        self.problem: StoreError | None = None
        """Why the store cannot be used, as last found."""
        self._slots, self._env = slots, env
        self._spec: RollupStoreSpec | None = None
        self._held: HeldClaims | None = None
        """None: this leadership has not listed them yet."""
        self._shown: Mapping[str, Any] = {}
        self.version = self._generation = -1
        self._task: asyncio.Task[None] | None = None
        self._take_in(body)

    # What is known of the store

    @property
    def edition(self) -> tuple[str, int]:
        """What another spec, or another store of this name, changes."""
        return self.uid, self._generation

    @property
    def embedded(self) -> bool:
        """Whether one process at a time can open it."""
        return self._spec is not None and self._spec.duckdb is not None

    def held(self, owner: Owner) -> bool | None:
        """Whether another process, alive or dead, holds a claim of this job here.

        None: the cluster can be used, but its claims have not been listed yet. An unusable store says nothing.
        """
        if self._held is None:
            may_tell = self.client is not None and self.problem is None and not self.embedded
            return None if may_tell else False
        return self._held.one_of(owner)

    # What happens to it

    def observe(self, body: Mapping[str, Any]) -> bool:
        """Take in a body of this uid; an older one is dropped. Returns whether the spec is another one."""
        meta = body["metadata"]
        if int(meta["resourceVersion"]) <= self.version:
            return False
        if meta.get("generation", 0) == self._generation:
            self.version, self._shown = int(meta["resourceVersion"]), body.get("status") or {}
            return False
        self._take_in(body)
        return True

    def lead(self) -> None:
        """Check the store from now on: the gate is open."""
        self._held = None
        self._check_anew()

    def stand_down(self) -> Store | None:
        """End the checks. Return the client of an embedded store, whose file the next leader opens; replace it."""
        self._end_checks()
        if self.client is None or self._spec is None:
            return None
        self.problem = None  # this process would not see it fixed, and calls that read the store continue
        if not self.embedded:
            return None
        old, self.client = self.client, self._env.make(self.key[0], self._spec)
        return old

    def end(self) -> asyncio.Task[None] | None:
        """End the checks for good. Returns the task that ends."""
        task = self._task
        self._end_checks()
        return task

    def _end_checks(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _take_in(self, body: Mapping[str, Any]) -> None:
        meta, env = body["metadata"], self._env
        self.version = int(meta["resourceVersion"])
        self._generation = meta.get("generation", 0)
        self._shown = body.get("status") or {}
        before, client = self._spec, self.client
        self._spec = self.client = self.problem = self._held = None
        try:
            self._spec = RollupStoreSpec.model_validate(body.get("spec") or {})
            same = before is not None and before.place == self._spec.place
            self.client = (client if same else None) or env.make(self.key[0], self._spec)
        except ValidationError as e:
            first = e.errors()[0]
            self.problem = StoreUnsuitable(f"spec.{'.'.join(map(str, first['loc']))}: {first['msg']}")
        except StoreError as e:
            self.problem = e
        if client is not None and client is not self.client:
            env.retire(self.key, client)
        if self._spec is not None:  # else the limit stays, also for the runs that go on
            self._slots.resize(self._spec.max_concurrent_runs)
        if env.gate.open:
            self._check_anew()

    # Looking at it

    def _check_anew(self) -> None:
        self._end_checks()
        self._task = keep_running(f"checks of store {self.key[0]}/{self.key[1]}", self._keep_checking)

    async def _keep_checking(self) -> None:
        """Check periodically, and write the status whenever it changes."""
        while self._env.gate.open:
            if self._env.others_act(self.key):
                await asyncio.sleep(self._env.check_seconds)
                continue
            found: Checkup | None = None
            if (client := self.client) is not None:
                before = self.problem
                found, self.problem = await _check(client)
                self._log_problem(before)
                if before is not None and self.problem is None:
                    log.info("store can be used again", namespace=self.key[0], store=self.key[1])
                    self._env.changed(self.key)
                if self.problem is None:
                    await self._list_claims(client)
            try:
                stands = await self._write(found)
            except Conflict:
                await asyncio.sleep(CONFLICT_SECONDS)
                continue
            wait = self._next_check() if stands else self._env.check_seconds / 3
            if wait is None:
                return
            await asyncio.sleep(wait)

    def _log_problem(self, before: StoreError | None) -> None:
        """Log what is wrong with the store, once for each reason."""
        problem = self.problem
        if problem is not None and (before is None or before.reason != problem.reason):
            log.warning(
                "store cannot be used",
                namespace=self.key[0],
                store=self.key[1],
                reason=problem.reason.value,
                message=str(problem),
            )

    async def _list_claims(self, client: Store) -> None:
        """List the claims of others each time: a claim that a dead process has sent may land late."""
        before = self._held or HeldClaims()
        try:
            self._held = HeldClaims(await client.held(self._env.holder))
        except StoreError as e:
            log.info("claims not listed", namespace=self.key[0], store=self.key[1], error=str(e))
        except Exception:
            log.exception("claims not listed", namespace=self.key[0], store=self.key[1])
        if self._held is not None and self._held.has_more_than(before):
            self._env.changed(self.key)

    async def _write(self, found: Checkup | None) -> bool:
        """Return whether the status is written, or no longer needed. Raises Conflict.

        It names the version that it was decided on: a former leader must not overwrite what the next leader found.
        """
        before = self._shown  # the watch may be quicker than the answer
        status = store_status(
            before,
            generation=self._generation,
            distribution=self.client.distribution if self.client is not None else None,
            found=found,
            problem=self.problem,
            now=self._env.now(),
        )
        if not (patch := difference(before, status)) or not self._env.gate.open:
            return True
        try:
            meta = {"uid": self.uid, "resourceVersion": str(self.version)}
            answer = await self._env.kube.patch(stores_path(*self.key, "status"), {"metadata": meta, "status": patch})
        except NotFound:
            pass  # deleted; the watch will report it
        except KubeError as e:
            if isinstance(e, Conflict):
                raise
            level = log.info if e.transient else log.warning
            level("status of a store not written", namespace=self.key[0], store=self.key[1], error=str(e))
            return False
        else:
            after = answer.get("status") or {}
            if (event := store_event(before, after)) is not None:
                self._env.record(Regarding.store(*self.key, self.uid), *event)
            if (version := int(answer["metadata"]["resourceVersion"])) > self.version:
                self.version, self._shown = version, after
        return True

    def _next_check(self) -> float | None:
        """Return the seconds until the next check of the store; None: only a change of it helps."""
        if self.client is None:
            return None
        if self.problem is not None:
            return self._env.check_seconds / 3
        # What an embedded store finds stays so.
        return None if self.embedded else self._env.check_seconds


async def _check(store: Store) -> tuple[Checkup | None, StoreError | None]:
    try:
        return await store.check(), None
    except StoreError as e:
        return None, e
    except Exception as e:
        log.exception("store cannot be checked")
        return None, StoreUnavailable(f"{type(e).__name__}: {e}")
