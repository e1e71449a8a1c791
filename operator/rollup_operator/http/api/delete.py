"""The deletion call: deletes a job only if it is stopped, and only the version that was seen stopped.

The request to the API server names that version. If a start comes in between, the API server refuses the deletion,
and the call reads the job again. So no start is lost, and nothing that runs is deleted.
"""

import asyncio
import contextlib
from functools import partial

from rollup_operator.http.access.permits import Permit
from rollup_operator.http.jobs.desired_state import ATTEMPTS, WRITE_SECONDS, DesiredStates
from rollup_operator.http.jobs.lookup import Lookup
from rollup_operator.http.jobs.newest import Newest
from rollup_operator.http.jobs.presentation import held_up, job_state
from rollup_operator.http.ports import Jobs, Kubernetes
from rollup_operator.http.protocol import errors, job_errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.kube.client import Conflict, KubeError, NotFound, Unreachable, may_stand
from rollup_operator.kube.paths import jobs_path
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import State

GONE_SECONDS = 8.0
"""How long to wait until a deleted job is gone: Elasticsearch's clients wait 10 s for an answer."""


class Deletions:
    """Deletes jobs."""

    def __init__(self, lookup: Lookup, newest: Newest, states: DesiredStates, jobs: Jobs, client: Kubernetes) -> None:
        self._lookup, self._newest, self._states, self._jobs, self._client = lookup, newest, states, jobs, client

    async def delete(self, namespace: str, job_id: str, permit: Permit) -> JobView | None:
        """Delete the job in the version that is found, if the caller may. Raises ApiError.

        Returns the last view of the job if it still exists; None: it is gone.
        """
        job = await self._lookup.find(namespace, job_id, permit)
        for _ in range(ATTEMPTS):
            if job is None:
                raise job_errors.task_not_found(job_id)
            self._states.refuse_namesakes(job)
            if _state(job) is not State.STOPPED and (job := await self._newest.one(job, permit)) is None:
                raise job_errors.task_not_found(job_id)
            if (state := _state(job)) is not State.STOPPED:
                ending = state in (State.STOPPING, State.ABORTING)
                raise job_errors.NotDeleted(job_id, state, job.generation, held_up(job) if ending else "")
            gone = asyncio.Event()
            unsubscribe = self._jobs.subscribe(job.uid, partial(_hear, gone))
            try:
                if await self._send(job):
                    return await self._wait(job, gone)
            finally:
                unsubscribe()
            job = await self._states.replaced(job)
            await permit.require(job_id, job)
        raise errors.unavailable(f"Rollup job [{job_id}] keeps changing; nothing was changed")

    async def _send(self, job: JobView) -> bool:
        """Return whether the deletion stands; False: the job has another version by now, or is gone. Raises ApiError.

        The deletion names one version of one uid, so it is sent again after a broken connection if nothing has changed.
        """
        lost: KubeError | TimeoutError | None = None
        for _ in range(2):
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._client.delete(jobs_path(job.namespace, job.name), uid=job.uid, version=job.version)
                return True
            except (Conflict, NotFound):
                if lost is None:
                    return False
            except (KubeError, TimeoutError) as e:
                if lost is None and not may_stand(e):
                    raise _refused(job.job_id, e) from e
                lost = e
            now = await self._after(job, lost)
            if now is None or now.deleting:
                return True
            if now.version != job.version:
                return False  # nor can what was lost stand any more
            if not isinstance(lost, Unreachable):
                break
        raise _unknown(job, lost) from lost

    async def _after(self, job: JobView, lost: KubeError | TimeoutError) -> JobView | None:
        """Return the job after a deletion whose answer was lost; None: it is gone. Raises ApiError."""
        try:
            return await self._states.now(job)
        except (KubeError, TimeoutError):
            raise _unknown(job, lost) from lost

    async def _wait(self, job: JobView, gone: asyncio.Event) -> JobView | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GONE_SECONDS):
                await gone.wait()
            return None
        with contextlib.suppress(KubeError, TimeoutError):
            return await self._states.now(job)
        return job


def unfinished(job: JobView | None) -> str | None:
    """Return the warning about a deletion that takes long; None: there is nothing to warn of."""
    if job is None or not (why := held_up(job)):
        return None
    return f"Rollup job [{job.job_id}] is being deleted and not gone yet: {why}"


def _hear(gone: asyncio.Event, newer: JobView | None) -> None:
    if newer is None:
        gone.set()


def _state(job: JobView) -> State:
    """Return the state that keeps the job from being deleted; STOPPED: nothing does."""
    if job.deleting:
        return State.ABORTING
    state = job_state(job)
    return State.STARTED if state is State.STOPPED and job.desired is DesiredState.STARTED else state


def _unknown(job: JobView, lost: KubeError | TimeoutError | None) -> ApiError:
    return job_errors.deletion_unknown(job.job_id, "no answer in time" if lost is None else errors.said(lost))


def _refused(job_id: str, error: KubeError | TimeoutError) -> ApiError:
    if isinstance(error, Unreachable) or (isinstance(error, KubeError) and error.status == 429):
        return errors.unavailable(f"The API server cannot take it now; nothing was changed: {errors.said(error)}")
    return job_errors.deletion_refused(job_id, errors.said(error))
