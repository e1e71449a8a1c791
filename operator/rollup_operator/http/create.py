"""The creation call: look at the source and at what the store remembers, then one POST to the API server.

That POST is all that is changed, so whatever fails leaves either a whole job or none. Where its answer is lost, it is
sent again: the name is the same each time, and an annotation with a number of its own tells whose job has the name.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Mapping
from typing import Any

from rollup_operator.http import errors, job_errors
from rollup_operator.http.config_rules import NewJob
from rollup_operator.http.desired_state import FIELD_MANAGER, READ_SECONDS, WRITE_SECONDS
from rollup_operator.http.errors import ApiError
from rollup_operator.http.ports import Jobs, Kubernetes, Stores
from rollup_operator.http.resource_names import candidates
from rollup_operator.http.source_rules import NO_FIELDS, broken_rules
from rollup_operator.kube.client import Conflict, KubeError, NotFound, Unreachable, may_stand
from rollup_operator.kube.paths import jobs_path, stores_path
from rollup_operator.model.base import API_VERSION, CREATION_ID, CREATION_TIMEOUT
from rollup_operator.model.job import DesiredState, RollupJobSpec
from rollup_operator.model.reader import JobView
from rollup_operator.model.time_values import parse_time_value
from rollup_operator.stores.base import SourceNotFound, Store, StoreError, StoreNotFound, StoreUnavailable

STORE = "default"
"""Name of the RollupStore of jobs that are created here: Elasticsearch's configuration names none."""

DEFAULT_TIMEOUT = "20s"

LOOK_SECONDS = 30.0
"""How long looking at the store may take."""

SEEN_SECONDS = 2.0
"""How long to wait until this process has seen the new job, so that a list shows it."""

PAUSE = 0.2
"""Seconds between two tries after a lost answer."""


class Creations:
    """Creates jobs."""

    def __init__(self, jobs: Jobs, client: Kubernetes, stores: Stores) -> None:
        self._jobs, self._client, self._stores = jobs, client, stores

    async def create(self, namespace: str, job: NewJob) -> None:
        """Return when the job exists. Nobody has its id yet, as far as the caller knows. Raises ApiError."""
        loop = asyncio.get_running_loop()
        timeout = parse_time_value(job.timeout or DEFAULT_TIMEOUT, "timeout")
        arrived = loop.time()
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._check_store(namespace, job)
        except TimeoutError as e:
            why = f"RollupStore [{STORE}] has not answered within {LOOK_SECONDS:g}s; nothing was changed"
            raise errors.unavailable(why) from e
        created = await self._post(namespace, job, timeout.text, arrived + timeout.seconds)
        await self._seen(created)

    async def _check_store(self, namespace: str, job: NewJob) -> None:
        store = await self._open(namespace)
        spec = RollupJobSpec.model_validate(job.spec)
        key = (spec.rollup_index, job.job_id)
        try:
            fields = await store.fields(spec.index_pattern, spec.rollup_index)
            remembered = await store.known_jobs()
        except SourceNotFound as e:
            raise _no_source(spec.index_pattern) from e
        except StoreUnavailable as e:
            raise errors.unavailable(f"RollupStore [{STORE}]: {e}; nothing was changed") from e
        except StoreError as e:
            raise job_errors.validation_failed([str(e)]) from e
        if messages := broken_rules(spec, fields):
            raise job_errors.validation_failed(messages)
        if any(known.key == key and known.has_documents for known in remembered):
            raise job_errors.previously_created(job.job_id)

    async def _open(self, namespace: str) -> Store:
        try:
            return await self._stores.open((namespace, STORE))
        except StoreNotFound as e:
            try:
                async with asyncio.timeout(READ_SECONDS):
                    await self._client.get(stores_path(namespace, STORE))
            except NotFound:
                text = f"No RollupStore named [{STORE}] is in namespace [{namespace}]: create it, then the job"
                raise errors.illegal_argument(text) from e
            except (KubeError, TimeoutError) as silent:
                raise errors.unavailable(f"{e}; nothing was changed") from silent
            why = f"RollupStore [{STORE}] was created just now and is not known here yet; nothing was changed"
            raise errors.unavailable(why) from e
        except StoreUnavailable as e:
            raise errors.unavailable(f"{e}; nothing was changed") from e

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
                break
        raise job_errors.already_created(job.job_id)

    async def _post_one(
        self, namespace: str, body: Mapping[str, Any], job_id: str, timeout: str, deadline: float
    ) -> Mapping[str, Any]:
        """Return what has the name afterwards: the resource that this made, or another. Raises ApiError."""
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
                why = str(error) or "no answer in time"
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


def _refused(namespace: str, job_id: str, error: KubeError | TimeoutError) -> ApiError:
    """Return the answer for a creation that has certainly changed nothing."""
    if isinstance(error, NotFound):
        return job_errors.no_such_namespace(namespace)
    if isinstance(error, KubeError) and error.status in (400, 422):
        return errors.illegal_argument(error.message)
    if isinstance(error, Unreachable) or (isinstance(error, KubeError) and error.status == 429):
        return errors.unavailable(f"The API server cannot take it now; nothing was changed: {error}")
    return job_errors.creation_refused(job_id, str(error))


def _no_source(pattern: str) -> ApiError:
    concrete = [part for part in pattern.split(",") if "*" not in part]
    return job_errors.no_such_index(concrete[0]) if concrete else job_errors.validation_failed([NO_FIELDS])
