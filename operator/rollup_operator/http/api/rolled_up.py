"""Collects the jobs whose data can be queried, from the index and from every store of the namespace."""

from collections.abc import Iterable

from rollup_operator.concurrency.portions import Work, in_portions
from rollup_operator.http.access.permits import ALL_JOBS, Permit
from rollup_operator.http.api.capabilities import Described
from rollup_operator.http.api.every_store import Answers, ask_every_store
from rollup_operator.http.jobs.newest import Newest
from rollup_operator.http.ports import Stores
from rollup_operator.model.job_view import JobView
from rollup_operator.stores.base import KnownJob, Store


class RolledUp:
    """The jobs of a namespace, including deleted ones as long as their documents exist.

    A store may be shared with other namespaces and clusters: `cluster` is the name of this one.
    """

    def __init__(self, newest: Newest, stores: Stores, cluster: str) -> None:
        self._newest, self._stores, self._cluster = newest, stores, cluster

    async def jobs(self, namespace: str, permit: Permit) -> Answers[Described]:
        """Return the jobs that the caller may read.

        The stores are queried for deleted jobs only if the caller may read all jobs of the namespace: no other call
        reaches them. Raises StoreTrouble if none of them answers.
        """
        living = await self._newest.all(namespace, permit)
        if not await permit.may(ALL_JOBS):
            return Answers(await in_portions(_known(living, ())), ())
        remembered = await ask_every_store(self._stores, namespace, _remembered)
        ours = [known for known in remembered.found if self._is_of(known, namespace)]
        return Answers(await in_portions(_known(living, ours)), remembered.troubles)

    def _is_of(self, known: KnownJob, namespace: str) -> bool:
        return (known.owner.cluster, known.owner.namespace) == (self._cluster, namespace)


async def _remembered(_: str, store: Store) -> list[KnownJob]:
    return list(await store.known_jobs())


def _known(living: Iterable[JobView], remembered: Iterable[KnownJob]) -> Work[list[Described]]:
    """Describe the jobs."""
    found: dict[tuple[str, str], Described] = {}
    for known in remembered:
        if known.spec is not None and known.has_documents:
            found[known.key] = Described.remembered(known.key[1], known.spec)
        yield
    for job in living:
        key = job.rollup_index, job.job_id
        found.pop(key, None)  # what the resource says is newer
        found[key] = Described.of(job)
        yield
    return list(found.values())
