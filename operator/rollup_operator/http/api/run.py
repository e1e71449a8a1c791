"""Requests a run now, beside the schedule, as `kubectl rollup run` does: a new value of an annotation."""

from collections.abc import Callable, Iterable
from datetime import datetime

from rollup_operator.http.access.permits import Permit
from rollup_operator.http.jobs.attempt import aborting
from rollup_operator.http.jobs.desired_state import FIELD_MANAGER
from rollup_operator.http.jobs.lookup import Lookup
from rollup_operator.http.ports import Kubernetes
from rollup_operator.http.protocol import errors, state_errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.kube.client import Conflict, KubeError, may_stand
from rollup_operator.kube.job_writes import request_run
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.run_request import Stretch, request_of
from rollup_operator.model.times import micro_time


class Runs:
    """Requests runs of single jobs."""

    def __init__(self, lookup: Lookup, client: Kubernetes, now: Callable[[], datetime]) -> None:
        self._lookup, self._client, self._now = lookup, client, now

    async def run(
        self, namespace: str, job_id: str, permit: Permit, stretches: Iterable[Stretch] = (), *, uid: str | None = None
    ) -> JobView:
        """Return the job once the request is durable. Only a started job runs; it reads `stretches` again.

        `uid`: of the one that is meant; None: whichever has the id now. Raises ApiError, 409 where another one has it.
        """
        job = await self._lookup.existing(namespace, job_id, permit)
        if uid not in (None, job.uid):
            raise _replaced(job_id)
        if aborting(job):
            raise state_errors.cannot("run", job_id, "ABORTING")
        if job.desired is DesiredState.STOPPED:
            raise ApiError(409, "status_exception", f"rollup job [{job_id}] is stopped; start it first")
        value = request_of(micro_time(self._now()), stretches)
        try:
            return JobView.of(await request_run(self._client, job, value, manager=FIELD_MANAGER))
        except Conflict as e:
            raise _replaced(job_id) from e
        except KubeError as e:
            if may_stand(e):
                raise ApiError(
                    500,
                    "exception",
                    f"It is not known whether the run of rollup job [{job_id}] is requested: {errors.said(e)}",
                ) from e
            raise errors.unavailable(f"The API server does not take the request: {errors.said(e)}") from e


def _replaced(job_id: str) -> ApiError:
    return ApiError(409, "status_exception", f"rollup job [{job_id}] was replaced meanwhile; nothing was changed")
