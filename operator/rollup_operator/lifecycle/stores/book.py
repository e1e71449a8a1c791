"""The RollupStores of the cluster: which exist, the client of each, and whether it can be used.

Watches: RollupStore. A change of a store wakes the jobs that name it.

Only the leader checks stores, writes their status and opens the files of embedded stores.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from weakref import WeakSet, WeakValueDictionary

import structlog

from rollup_operator.concurrency.background import in_order, spawn
from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.kube.client import KubeClient, KubeError, NotFound
from rollup_operator.kube.events import Regarding
from rollup_operator.kube.paths import stores_path
from rollup_operator.kube.secrets import read_secret
from rollup_operator.kube.sweep import Gone, Sweep
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.stores.known_store import KnownStore, StoreContext, StoreKey
from rollup_operator.lifecycle.stores.status import trouble_of
from rollup_operator.model import hints
from rollup_operator.model.conditions import Reason, Trouble
from rollup_operator.model.store import RollupStoreSpec
from rollup_operator.rollup.identity import Owner
from rollup_operator.sharing.shares import Shares
from rollup_operator.stores.base import Store, closes_with_leadership
from rollup_operator.stores.errors import (
    SecretGone,
    SecretInvalid,
    StoreElsewhere,
    StoreNotFound,
    StoreUnavailable,
)
from rollup_operator.stores.secrets import ReadSecret, SecretContent

log = structlog.get_logger(__name__)

SECRETS_AT_ONCE = 8
"""Secrets read at a time, for all namespaces together: a store that refuses each login causes many reads."""

_COMPARED = 200
"""Stores of a namespace of which a job may mean one that names none: each decision on such a job asks."""

MakeStore = Callable[[str, RollupStoreSpec, ReadSecret], Store]
"""Makes the client of a store in a namespace, with a reader of that namespace's Secrets.

Raises StoreError when the spec cannot be used. No I/O.
"""


class StoreBook:
    """All stores by name. There is one instance per process."""

    def __init__(
        self,
        *,
        kube: KubeClient,
        make: MakeStore,
        now: Callable[[], datetime],
        gate: Gate,
        holder: str = "",
        check_seconds: float = 30.0,
        namespaces: Sequence[str] = (),
        record: Callable[[Regarding, Reason, str], None] = lambda *_: None,
        others_act: Callable[[StoreKey], bool] = lambda _: False,
        went_back: Callable[[str], None] = lambda _: None,
    ) -> None:
        """No namespaces: the stores of all. `went_back` is called, with what showed it, when etcd was restored.

        A cluster is checked every `check_seconds`; any store that cannot be used, three times as often. `record`
        posts an event about a store. A store with jobs on which `others_act` is left to those.
        """
        self._kube, self._make, self._gate = kube, make, gate
        self._environment = StoreContext(
            kube=kube,
            make=self._client,
            retire=self._retire,
            changed=self._changed,
            now=now,
            gate=gate,
            holder=holder,
            check_seconds=check_seconds,
            record=record,
            others_act=others_act,
        )
        self._sweep = Sweep(kube, stores_path, self, namespaces=namespaces, went_back=went_back)
        self._stores: dict[StoreKey, KnownStore] = {}
        self._names: dict[str, hints.Names] = {}
        """Of the stores of each namespace in which one was missed since the last one came or went."""
        self._listeners: list[Callable[[StoreKey], None]] = []
        self._gone = Gone()
        self._slots: WeakValueDictionary[StoreKey, RunSlots] = WeakValueDictionary()
        """One for each name, as long as a store or a run has it. Runs that began before an edit, before a store was
        created again or in an earlier leadership still load the cluster, so they count until they end."""
        self._retired: WeakSet[Store] = WeakSet()
        """Clients that were replaced, as long as some run uses them."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading = Shares(SECRETS_AT_ONCE)

    def subscribe(self, listener: Callable[[StoreKey], None]) -> None:
        """Call `listener` with each store whose jobs should decide again."""
        self._listeners.append(listener)

    def trouble(self, key: StoreKey) -> Trouble | None:
        """Say why there is no usable store of that name; None: there is one."""
        known = self._stores.get(key)
        if known is None:
            return Trouble(Reason.STORE_NOT_FOUND, str(self._not_found(key)), transient=True)
        return None if known.problem is None else trouble_of(key[1], known.problem)

    def edition(self, key: StoreKey) -> tuple[str, int] | None:
        """Return what changes with the store's spec, and with the store that has the name; None: there is none."""
        known = self._stores.get(key)
        return None if known is None else known.edition

    def held(self, key: StoreKey, owner: Owner) -> bool | None:
        """Whether another process, alive or dead, holds a claim of this job in the store.

        None: the store can be used, but its claims have not been listed yet. An unusable store says nothing.
        """
        known = self._stores.get(key)
        return False if known is None else known.held(owner)

    def usable(self, namespace: str) -> Sequence[str]:
        """Return the names of the namespace's stores that have a client, in order."""
        return sorted(name for (of, name), known in self._stores.items() if of == namespace and known.client)

    def readiness(self) -> Sequence[tuple[StoreKey, bool]]:
        """Return every store, and whether it can be used."""
        return [(key, known.problem is None) for key, known in self._stores.items()]

    def _not_found(self, key: StoreKey) -> StoreNotFound:
        namespace, name = key
        if (names := self._names.get(namespace)) is None:
            stores = sorted(each for of, each in self._stores if of == namespace)
            names = hints.Names(stores, compared=_COMPARED)
            if stores:
                self._names[namespace] = names
        there = names.instead(name)
        missing = f"no RollupStore named {name!r} in namespace {namespace!r}" + (f" ({there})" if there else "")
        return StoreNotFound(f"{missing}: once it is there, the job goes on by itself")

    async def open(self, key: StoreKey) -> Store:
        """Return the client. Raises StoreNotFound, or StoreUnavailable for an unusable store."""
        known = self._stores.get(key)
        if known is None:
            raise self._not_found(key)
        if known.embedded and not self._gate.open:
            raise StoreElsewhere(
                f"RollupStore {key[1]!r} is embedded and open in another replica, the leader: send the request again"
            )
        if known.client is None or (known.problem is not None and not known.problem.transient):
            raise StoreUnavailable(f"RollupStore {key[1]!r}: {known.problem}")
        return known.client

    def slots(self, key: StoreKey) -> RunSlots:
        """Return the slots for runs; there is one until the store is known, since a run finds out that it is not."""
        if (slots := self._slots.get(key)) is None:
            slots = self._slots[key] = RunSlots(1)
        return slots

    def observe(self, body: Mapping[str, Any]) -> None:
        """Take in a RollupStore as an event or a list shows it."""
        meta = body["metadata"]
        key, uid = (meta["namespace"], meta["name"]), meta["uid"]
        known = self._stores.get(key)
        if uid in self._gone:
            return  # read or listed before it was deleted
        if known is not None and known.uid == uid:
            if known.observe(body):
                self._changed(key)
            return
        if known is not None:
            if known.version >= int(meta["resourceVersion"]):
                return  # of a store that was deleted before this one took its name
            self._drop(known)  # deleted and created again, and no event has said so yet
        self._stores[key] = KnownStore(key, body, self.slots(key), self._environment)
        self._names.pop(key[0], None)
        self._changed(key)

    def gone(self, uid: str) -> None:
        """Take in that a RollupStore was deleted. Current runs keep their client."""
        self._gone.add(uid)
        for key, known in self._stores.items():
            if known.uid == uid:
                del self._stores[key]
                self._names.pop(key[0], None)
                self._drop(known)
                self._changed(key)
                return

    async def sweep(self, *, whole: bool = False) -> None:
        """List the stores, drop those that are gone, read those that the watch has not brought. Raises KubeError.

        `whole`: list whole bodies, and take them in.
        """
        await self._sweep.run(whole=whole)

    def versions(self, namespace: str | None) -> Mapping[str, int]:
        """Return uid and resourceVersion of each store in a namespace; None: in all."""
        return {known.uid: known.version for (of, _), known in self._stores.items() if namespace in (None, of)}

    def dead(self) -> Collection[str]:
        """Return the uids of deleted stores, as far as they are remembered."""
        return frozenset(self._gone)

    def version(self, uid: str) -> int | None:
        """Return the resourceVersion of a store; None: it is unknown."""
        return next((known.version for known in self._stores.values() if known.uid == uid), None)

    def lead(self) -> None:
        """The gate has opened: check every store again."""
        for known in self._stores.values():
            known.lead()

    def stand_down(self) -> asyncio.Task[None]:
        """This process leads no more: check nothing and write nothing.

        Returns what ends once no file of an embedded store is open. New clients of them are made at once.
        """
        left = [store for store in self._retired if closes_with_leadership(store)]
        left += [store for known in self._stores.values() if (store := known.stand_down()) is not None]
        return self._spawn("closing embedded stores", _close(left))

    async def close(self) -> None:
        """Close every store."""
        ending = [task for known in self._stores.values() if (task := known.end()) is not None]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*ending, *self._tasks, return_exceptions=True)
        await _close([*self._retired, *(known.client for known in self._stores.values())])

    def _client(self, namespace: str, spec: RollupStoreSpec) -> Store:
        return self._make(namespace, spec, self._secrets_of(namespace))

    def _changed(self, key: StoreKey) -> None:
        for listener in self._listeners:
            listener(key)

    def _drop(self, known: KnownStore) -> None:
        known.end()
        if known.client is not None:
            self._retire(known.key, known.client)

    def _retire(self, key: StoreKey, client: Store) -> None:
        self._retired.add(client)
        self._spawn(f"retiring a client of store {key[1]}", client.retire())

    def _secrets_of(self, namespace: str) -> ReadSecret:
        async def read(name: str) -> SecretContent:
            try:
                async with self._reading.taking(namespace):
                    found = await read_secret(self._kube, namespace, name)
                annotations = found.get("metadata", {}).get("annotations") or {}
                return SecretContent(found["data"], found.get("type", ""), annotations)
            except NotFound as e:
                raise SecretGone(f"it does not exist in namespace {namespace!r}: create it") from e
            except KubeError as e:
                raise SecretInvalid(f"cannot be read: {e}") from e

        return read

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = spawn(name, work, follows="the client stays open")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _close(stores: Iterable[Store | None]) -> None:
    """Close all; a failure is logged and does not keep the others open."""
    await in_order(*(("a store is closed", store.close) for store in stores if store is not None))
