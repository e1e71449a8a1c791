"""Which jobs can be searched: those of the namespace, and what the stores hold of jobs that are gone."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from functools import partial

from rollup_operator.concurrency.portions import Work, each, in_portions, sorted_by
from rollup_operator.http.access import store_errors
from rollup_operator.http.access.permits import ALL_JOBS, Permit
from rollup_operator.http.api.every_store import Answers, ask_every_store
from rollup_operator.http.jobs.desired_state import DesiredStates
from rollup_operator.http.ports import Stores
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.job_view import JobView
from rollup_operator.query.sources import Catalog, SearchedJob
from rollup_operator.stores.base import Store
from rollup_operator.stores.search import Tier

MOST_ASKED = 32
"""Names that are looked for in the stores, of one call."""

MOST_NAMESPACES = 64
"""Those whose names of jobs are remembered."""


class Searchable:
    """The jobs whose data can be searched.

    A store may be shared with other namespaces and with other clusters: `cluster` is this one's name.
    """

    def __init__(self, states: DesiredStates, stores: Stores, cluster: str) -> None:
        self._states, self._stores, self._cluster = states, stores, cluster
        self._living: dict[str, _Living] = {}
        """By namespace, those made longest ago first."""
        self._making = asyncio.Lock()

    def is_of(self, tier: Tier, namespace: str) -> bool:
        """Whether documents are those of a job of the namespace, or such as Elasticsearch made."""
        owner = tier.owner
        if tier.lost:
            return False
        return owner is None or (owner.cluster, owner.namespace) == (self._cluster, namespace)

    async def readable(
        self, tiers: Iterable[Tier], jobs: Iterable[SearchedJob], known: Catalog, permit: Permit
    ) -> tuple[Tier, ...]:
        """Return what has been rolled up of jobs that the caller may search; `known` has all jobs of the namespace.

        Of two jobs with the same id one is refused, and shows nothing of what the other has. What a job is to go on
        with that is gone is for callers who may search all jobs. Raises ApiError 503, and StoreTrouble where nobody
        knows whose the documents of a job are.
        """
        names: dict[tuple[str, str], set[str]] = {}
        for job in jobs:
            names.setdefault(job.key, set()).add(job.name)
        of_indices = list(tiers)
        alike: dict[tuple[str, str], set[str]] = {}
        for index in {tier.key[0] for tier in of_indices}:
            for job in known.by_index(index):
                alike.setdefault(job.key, set()).add(job.name)
        found = []
        for tier in of_indices:
            by = names.get(tier.key)
            if by is None:
                continue
            if tier.lost:
                index, job_id = tier.key
                raise store_errors.unavailable(
                    f"RollupStore: the record of job [{job_id}] is gone, so nobody knows whose its documents in "
                    f"[{index}] are: restore the index of records, or delete the documents and create the job again"
                )
            if not self.is_of(tier, permit.namespace):
                continue
            alone = len(alike.get(tier.key, ())) == 1
            if tier.owner is None or by & {tier.owner.name, ""} or (alone and await permit.may(ALL_JOBS)):
                found.append(tier)
        return tuple(found)

    async def living(self, namespace: str) -> Catalog:
        """Return the jobs of a namespace, whoever may search them. Nobody may add to it.

        It is made anew only where a job came, went or has another spec: for ten thousand jobs that takes a tenth of a
        second. Raises ApiError 503 while not all are known.
        """
        specs = {job.uid: job.lasting_spec for job in self._states.unsorted(namespace)}
        known = self._living.get(namespace)
        if known is None or known.specs != specs:
            async with self._making:  # many who come at once wait for one
                jobs = list(self._states.unsorted(namespace))
                specs = {job.uid: job.lasting_spec for job in jobs}
                known = self._living.get(namespace)
                if known is None or known.specs != specs:
                    known = _Living(specs)
                    await in_portions(known.take_in(jobs))
                    self._remember(namespace, known)
        known.specs = specs  # of equal texts the index's own: the others may go
        return known.catalog

    def _remember(self, namespace: str, known: "_Living") -> None:
        self._living.pop(namespace, None)
        if known.specs:
            self._living[namespace] = known
        while len(self._living) > MOST_NAMESPACES:
            del self._living[next(iter(self._living))]

    async def require(self, namespace: str, permit: Permit) -> None:
        """Return if the caller may search any job of the namespace. Raises ApiError 403, 503."""
        if not await permit.may(ALL_JOBS):
            await permit.require_some(await self._states.in_namespace(namespace))

    async def remembered(self, namespace: str, names: Sequence[str]) -> Answers[SearchedJob]:
        """Return the jobs of rollup indices with these names that the stores know, for who may search all jobs.

        Raises StoreTrouble where no store answers.
        """
        wanted = [name for name in names if "*" not in name][:MOST_ASKED]
        if not wanted:
            return Answers((), ())

        async def ask(name: str, store: Store) -> list[SearchedJob]:
            return [
                SearchedJob(
                    index, job_id, name, t.spec.index_pattern, partial(_itself, t.spec), has_rows=t.owner is not None
                )
                for t in await store.tiers(wanted)
                for index, job_id in (t.key,)
                if self.is_of(t, namespace)
            ]

        return await ask_every_store(self._stores, namespace, ask)


class _Living:
    """The names of a namespace's jobs. It keeps none of their views: those have statuses, too, which change often."""

    def __init__(self, specs: dict[str, str]) -> None:
        self.specs = specs
        """By uid."""
        self.catalog = Catalog()

    def take_in(self, jobs: Iterable[JobView]) -> Work[None]:
        """Take the names of the jobs in, in order of their ids."""
        jobs = yield from sorted_by(jobs, lambda job: (job.job_id, job.name))
        yield from self.catalog.take_in((yield from each(self._searched, jobs)))

    def _searched(self, job: JobView) -> SearchedJob:
        spec = partial(self._spec, job.uid)
        return SearchedJob(job.rollup_index, job.job_id, job.store_name, job.index_pattern, spec, job.name)

    def _spec(self, uid: str) -> RollupJobSpec:
        return RollupJobSpec.model_validate(json.loads(self.specs[uid]))


def _itself(spec: RollupJobSpec) -> RollupJobSpec:
    return spec
