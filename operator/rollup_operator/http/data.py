"""Gathers the jobs whose data can be asked for: from the registry, and from every store of the namespace."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable

from rollup_operator.http import errors
from rollup_operator.http.capabilities import Described
from rollup_operator.http.desired_state import DesiredStates
from rollup_operator.http.ports import Stores
from rollup_operator.model.reader import JobView
from rollup_operator.portions import Work, in_portions
from rollup_operator.stores.base import KnownJob
from rollup_operator.stores.errors import StoreError, StoreNotFound

LOOK_SECONDS = 30.0
"""How long the stores may take."""

Readable = Callable[[Collection[str]], Awaitable[Collection[str]]]
"""Returns those of some resource names that the caller may read."""


class RolledUp:
    """The jobs of a namespace, deleted ones included as long as their documents are there."""

    def __init__(self, states: DesiredStates, stores: Stores) -> None:
        self._states, self._stores = states, stores

    async def jobs(self, namespace: str, readable: Readable) -> list[Described]:
        """Return the jobs that the caller may read. Raises ApiError 503 while nobody can tell which there are."""
        living = await self._states.in_namespace(namespace)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                stores = self._stores.usable(namespace)
                remembered = [known for name in stores for known in await self._remembered(namespace, name)]
        except TimeoutError as e:
            raise errors.unavailable(f"The stores have not answered within {LOOK_SECONDS:g}s") from e
        allowed = await readable({job.name for job in living} | {known.owner.name for known in remembered})
        return await in_portions(_known(living, remembered, allowed))

    async def _remembered(self, namespace: str, name: str) -> list[KnownJob]:
        try:
            store = await self._stores.open((namespace, name))
            return list(await store.known_jobs())
        except StoreNotFound:
            return []  # deleted just now
        except StoreError as e:
            raise errors.unavailable(f"RollupStore [{name}]: {e}") from e


def _known(
    living: Iterable[JobView], remembered: Iterable[KnownJob], allowed: Collection[str]
) -> Work[list[Described]]:
    found: dict[tuple[str, str], Described] = {}
    for known in remembered:
        if known.spec is not None and known.has_documents and known.owner.name in allowed:
            found[known.key] = Described(known.key[1], known.spec)
        yield
    for job in living:
        described = Described(job.job_id, job.raw_spec)
        found.pop((described.rollup_index, job.job_id), None)  # what the resource says is newer
        if job.name in allowed:
            found[described.rollup_index, job.job_id] = described
        yield
    return list(found.values())
