"""The purge call: deletes the documents that a deleted job left in its store, and what the store knows of their job.

```
 right to the job's name? ──▶ the record ──▶ right to its owner's name? ──▶ GET of the owner: is it gone?
                                                                                       │
                                  delete, if the record is still that owner's ◀────────┘
```

The store deletes only what the owner left that was seen to be gone. A uid never comes back, and a job that claims the
record meanwhile becomes its owner: so no living job loses a document. Only the leader purges.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from rollup_operator.http.access import store_errors
from rollup_operator.http.access.permits import Permit
from rollup_operator.http.access.store_errors import StoreTrouble
from rollup_operator.http.jobs.desired_state import DesiredStates
from rollup_operator.http.jobs.lookup import Lookup
from rollup_operator.http.ports import Jobs, Stores
from rollup_operator.http.protocol import errors, job_errors
from rollup_operator.http.protocol.turns import Turns
from rollup_operator.rollup.identity import Owner
from rollup_operator.sharing.shares import Shares
from rollup_operator.stores.base import Purged, Retained, Store
from rollup_operator.stores.errors import Fenced, StoreError, StoreNotFound

AT_ONCE = 4
"""Purges and counts at a time in this process, half of them of one namespace."""

WAITING = 16
"""Of one namespace, for their turn."""

TURN_SECONDS = 30.0
"""How long a call waits for its turn. A purge then has as much time as it needs, as long as its client waits."""


@dataclass(frozen=True, slots=True)
class PurgedPlace:
    """Where documents are."""

    namespace: str
    store: str
    """Name of the RollupStore."""
    index: str
    job_id: str

    @property
    def key(self) -> tuple[str, str]:
        """Their job's identity in the store."""
        return self.index, self.job_id


class Purges:
    """Finds and deletes documents whose job is gone.

    `cluster` is the name of this one, `holder` names this process in claims.
    """

    def __init__(
        self, lookup: Lookup, states: DesiredStates, jobs: Jobs, stores: Stores, *, cluster: str, holder: str
    ) -> None:
        self._lookup, self._states, self._jobs, self._stores = lookup, states, jobs, stores
        self._cluster, self._holder = cluster, holder
        what = "Purges of this namespace take all of its turns"
        self._turns = Turns(what, Shares(AT_ONCE, waiting=WAITING), seconds=TURN_SECONDS)

    async def find(self, place: PurgedPlace, permit: Permit) -> dict[str, Any]:
        """Say whose documents are there, and how many. Raises ApiError, StoreTrouble."""
        async with self._opened(place, permit) as store:
            found = await self._retained(store, place, permit)
            lives = await self._lives(found.owner)
        return {
            "store": place.store,
            "rollup_index": place.index,
            "job_id": place.job_id,
            "owner": {"name": found.owner.name, "uid": found.owner.uid, "exists": lives},
            "documents": found.documents,
        }

    async def purge(self, place: PurgedPlace, uid: str | None, permit: Permit) -> Purged:
        """Delete the documents of the resource with that uid, which must be gone. Raises ApiError, StoreTrouble.

        Without a uid the error names it: a caller is to know whose documents go.
        """
        async with self._opened(place, permit) as store:
            found = await self._retained(store, place, permit)
            if found.owner.uid != uid:
                raise job_errors.other_owner(place.job_id, place.index, found.owner.name, found.owner.uid)
            if await self._lives(found.owner):
                raise job_errors.owner_exists(place.job_id, place.index, found.owner.name)
            try:
                return await store.purge(place.key, found.owner, self._holder)
            except Fenced as e:
                raise job_errors.purge_overtaken(str(e)) from e
            except StoreError as e:
                raise store_errors.unfinished(
                    lambda why: job_errors.purge_unfinished(place.job_id, place.index, why), str(e)
                ) from e

    @contextlib.asynccontextmanager
    async def _opened(self, place: PurgedPlace, permit: Permit) -> AsyncIterator[Store]:
        """Check the right, then open the store. Errors of the store become StoreTrouble."""
        await self._lookup.find(place.namespace, place.job_id, permit)
        if not self._states.covers(place.namespace):
            raise job_errors.no_such_namespace(place.namespace)
        if not self._jobs.leads:
            raise errors.unavailable("This replica does not lead, and only the leader purges; nothing was changed")
        async with self._turns.turn(place.namespace):
            try:
                yield await self._stores.open((place.namespace, place.store))
            except StoreNotFound as e:
                raise errors.illegal_argument(
                    f"No RollupStore named [{place.store}] exists in namespace [{place.namespace}]"
                ) from e
            except StoreError as e:
                raise _trouble(place, e) from e

    async def _retained(self, store: Store, place: PurgedPlace, permit: Permit) -> Retained:
        """Return what is there, if it is this namespace's and the caller may purge it. Raises ApiError 404."""
        found = await store.retained(place.key)
        ours = found is not None and (found.owner.cluster, found.owner.namespace) == (self._cluster, place.namespace)
        if found is None or not ours or not await permit.named({found.owner.name}):
            raise job_errors.no_documents(place.job_id, place.index, place.store)
        if found.owner.name not in permit.granted:
            permit.granted.append(found.owner.name)
        return found

    async def _lives(self, owner: Owner) -> bool:
        """Whether the resource exists, by the API server's own word. Raises ApiError 503."""
        job = await self._states.read(owner.namespace, owner.name)
        return job is not None and job.uid == owner.uid


def _trouble(place: PurgedPlace, error: StoreError) -> StoreTrouble:
    why = f"RollupStore [{place.store}]: {error}"
    return store_errors.unavailable(f"{why}; nothing was changed") if error.transient else store_errors.unsuitable(why)
