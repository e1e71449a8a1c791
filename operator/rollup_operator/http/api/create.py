"""The creation call: checks the source and the store's records, then sends one POST to the API server.

The POST is the only change, so a failure leaves either a whole job or none. If its answer is lost, the call sends it
again: the name is the same each time, and a random number in an annotation shows whose job has the name.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Mapping
from typing import Any

from rollup_operator.http.job_config.rules import NewJob
from rollup_operator.http.job_config.source_check import SourceChecks, source_errors_answered, within_limit
from rollup_operator.http.jobs.desired_state import FIELD_MANAGER, READ_SECONDS, WRITE_SECONDS
from rollup_operator.http.ports import Jobs, Kubernetes, Stores
from rollup_operator.http.protocol import errors, job_errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.kube.client import Conflict, KubeError, NotFound, Unreachable, may_stand
from rollup_operator.kube.paths import jobs_path
from rollup_operator.model.base import API_VERSION, CREATION_ID, CREATION_TIMEOUT
from rollup_operator.model.job import DesiredState, RollupJobSpec
from rollup_operator.model.job_ids import candidates
from rollup_operator.model.job_view import JobView
from rollup_operator.model.time_values import parse_time_value

STORE = "default"
"""The RollupStore of jobs that this call creates: Elasticsearch's configuration names none."""

DEFAULT_TIMEOUT = "20s"

SEEN_SECONDS = 2.0
"""How long to wait until the watch has brought the new job, so that a list shows it."""

PAUSE = 0.2
"""Seconds between two attempts after a lost answer."""


class Creations:
    """Creates jobs."""

    def __init__(self, jobs: Jobs, client: Kubernetes, stores: Stores) -> None:
        self._jobs, self._client, self._sources = jobs, client, SourceChecks(client, stores)

    async def create(self, namespace: str, job: NewJob, known: JobView | None) -> None:
        """Return when the job exists. `known` has its id already. Raises ApiError."""
        loop = asyncio.get_running_loop()
        timeout = parse_time_value(job.timeout or DEFAULT_TIMEOUT, "timeout")
        arrived = loop.time()
        async with within_limit(STORE):
            await self._check_store(namespace, job)
        if known is not None:
            raise _taken(job, known)
        created = await self._post(namespace, job, timeout.text, arrived + timeout.seconds)
        await self._seen(created)

    async def _check_store(self, namespace: str, job: NewJob) -> None:
        spec = RollupJobSpec.model_validate(job.spec)
        store = await self._sources.open(namespace, STORE)
        await self._sources.check(store, STORE, spec)
        with source_errors_answered(STORE, spec):
            remembered = await store.known_jobs()
            target = await store.rollup_index(spec.rollup_index)
        if target is not None and target.lacks:
            raise job_errors.not_a_rollup_index(spec.rollup_index, target.lacks)
        key = (spec.rollup_index, job.job_id)
        if any(known.key == key and known.has_documents for known in remembered):
            raise job_errors.previously_created(job.job_id)
        if target is not None and job.job_id in target.jobs:
            raise job_errors.previously_created(job.job_id)

    async def _post(self, namespace: str, job: NewJob, timeout: str, deadline: float) -> JobView:
        """Create the resource under the first name that no other job has. Raises ApiError."""
        mine = uuid.uuid4().hex
        for name in candidates(job.job_id):
            body = _resource(name, job, timeout, mine)
            found = await self._post_one(namespace, body, job.job_id, timeout, deadline)
            view = JobView.of(found)
            if (found["metadata"].get("annotations") or {}).get(CREATION_ID) == mine:
                return view
            if view.job_id == job.job_id:
                raise _taken(job, view)
        raise job_errors.already_created(job.job_id)

    async def _post_one(
        self, namespace: str, body: Mapping[str, Any], job_id: str, timeout: str, deadline: float
    ) -> Mapping[str, Any]:
        """Return the resource that then has the name: the one that this call made, or another. Raises ApiError."""
        path = jobs_path(namespace, body["metadata"]["name"])
        lost = False
        while True:
            error: KubeError | TimeoutError
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    return await self._client.post(jobs_path(namespace), body, manager=FIELD_MANAGER)
            except (KubeError, TimeoutError) as e:
                error = e
            lost = lost or may_stand(error)
            if not lost and not isinstance(error, Conflict):
                raise _refused(namespace, job_id, error) from error
            with contextlib.suppress(KubeError, TimeoutError):
                async with asyncio.timeout(READ_SECONDS):
                    return await self._client.get(path)
            if asyncio.get_running_loop().time() >= deadline:
                why = errors.said(error)
                if not lost:
                    raise errors.unavailable(f"The API server does not answer; nothing was changed: {why}") from error
                raise job_errors.creation_unknown(job_id, timeout, why) from error
            await asyncio.sleep(PAUSE)

    async def _seen(self, job: JobView) -> None:
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def hear(_: JobView | None) -> None:
            if not arrived.done():
                arrived.set_result(None)

        unsubscribe = self._jobs.subscribe(job.uid, hear)
        try:
            if self._jobs.find(job.namespace, job.job_id) is None:
                await asyncio.wait({arrived}, timeout=SEEN_SECONDS)
        finally:
            unsubscribe()
            arrived.cancel()


def _resource(name: str, job: NewJob, timeout: str, mine: str) -> dict[str, Any]:
    spec = {"desiredState": DesiredState.STOPPED.value, **job.spec}
    if name != job.job_id:
        spec["jobId"] = job.job_id
    return {
        "apiVersion": API_VERSION,
        "kind": "RollupJob",
        "metadata": {"name": name, "annotations": {CREATION_TIMEOUT: timeout, CREATION_ID: mine}},
        "spec": spec,
    }


def _taken(job: NewJob, other: JobView) -> ApiError:
    """Return the answer if another job has the id.

    The rollup index describes its jobs, and is checked first: only if the other job has another index, its task counts.
    """
    if other.raw_spec.get("rollupIndex") == job.spec["rollupIndex"]:
        return job_errors.previously_created(job.job_id)
    return job_errors.already_created(job.job_id)


def _refused(namespace: str, job_id: str, error: KubeError | TimeoutError) -> ApiError:
    """Return the answer of a creation that has certainly changed nothing."""
    if isinstance(error, NotFound):
        return job_errors.no_such_namespace(namespace)
    if isinstance(error, KubeError) and error.status in (400, 422):
        return errors.illegal_argument(error.message)
    if isinstance(error, Unreachable) or (isinstance(error, KubeError) and error.status == 429):
        return errors.unavailable(f"The API server cannot take it now; nothing was changed: {errors.said(error)}")
    return job_errors.creation_refused(job_id, errors.said(error))
