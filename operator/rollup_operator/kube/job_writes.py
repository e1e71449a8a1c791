"""The writes by which somebody asks something of a job. Each is for this very job, its uid.

None can create a job or hit another one that took its name: that, and a job that is gone, is a Conflict.
"""

from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from rollup_operator.kube.client import Body, Conflict, KubeClient, KubeError
from rollup_operator.kube.paths import ApiPath, jobs_path
from rollup_operator.model.base import API_VERSION, RUN_REQUESTED_AT
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView


class Applies(Protocol):
    """The part of `KubeClient` that asking for a state needs."""

    async def apply(self, path: ApiPath, body: Mapping[str, Any], *, manager: str, force: bool = True) -> Body:
        """Server-side apply; return the object as it is now."""


async def ask(kube: Applies, job: JobView, state: DesiredState, *, manager: str) -> Body:
    """Ask for a state, whoever owns the field, and return the object as it is then."""
    body = {
        "apiVersion": API_VERSION,
        "kind": "RollupJob",
        "metadata": {"name": job.name, "namespace": job.namespace, "uid": job.uid},
        "spec": {"desiredState": state.value},
    }
    return await _of_uid(kube.apply(jobs_path(job.namespace, job.name), body, manager=manager, force=True))


async def request_run(kube: KubeClient, job: JobView, value: str, *, manager: str) -> Body:
    """Ask for a run now, by a value that no earlier request had, and return the object as it is then."""
    body = {"metadata": {"uid": job.uid, "annotations": {RUN_REQUESTED_AT: value}}}
    return await _of_uid(kube.patch(jobs_path(job.namespace, job.name), body, manager=manager))


async def _of_uid(write: Coroutine[Any, Any, Body]) -> Body:
    try:
        return await write
    except KubeError as e:
        if e.status == 404 or (e.status == 422 and "metadata.uid" in e.message):
            # For a name that belongs to another uid the API server says 422, for one that is free 404 or 409.
            raise Conflict(e.status, e.reason, e.message) from e
        raise
