"""All writes on a job.

| writer | fields | written to |
| --- | --- | --- |
| a call or a command | `spec.desiredState`, the request to run now | this very job, its uid |
| the job's actor | the status, the finalizer | the exact version of the object that it was decided on |
| the actor of another operator | the annotation that says so | this very job, its uid |

No write can create a job or hit another one that took its name: that is a Conflict, and so is a job that is gone.
"""

from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from rollup_operator.kube.client import Body, Conflict, KubeClient, KubeError
from rollup_operator.kube.paths import ApiPath, jobs_path
from rollup_operator.model.base import ALSO_WATCHED_BY, API_VERSION, DRAIN_FINALIZER, RUN_REQUESTED_AT
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView


class Applies(Protocol):
    """The part of `KubeClient` that requesting a state needs."""

    async def apply(self, path: ApiPath, body: Mapping[str, Any], *, manager: str, force: bool = True) -> Body:
        """Server-side apply; return the object as it is now."""


class Patches(Protocol):
    """The part of `KubeClient` that requesting a run needs."""

    async def patch(self, path: ApiPath, body: Mapping[str, Any], *, manager: str = "") -> Body:
        """Merge-patch an object; return it as it is now."""


async def ask(kube: Applies, job: JobView, state: DesiredState, *, manager: str) -> Body:
    """Request a state, whoever owns the field, and return the object as it is then."""
    body = {
        "apiVersion": API_VERSION,
        "kind": "RollupJob",
        "metadata": {"name": job.name, "namespace": job.namespace, "uid": job.uid},
        "spec": {"desiredState": state.value},
    }
    return await _of_uid(kube.apply(jobs_path(job.namespace, job.name), body, manager=manager, force=True))


async def request_run(kube: Patches, job: JobView, value: str, *, manager: str) -> Body:
    """Request a run now, by a value that no earlier request had, and return the object as it is then."""
    body = {"metadata": {"uid": job.uid, "annotations": {RUN_REQUESTED_AT: value}}}
    return await _of_uid(kube.patch(jobs_path(job.namespace, job.name), body, manager=manager))


async def note_rival(kube: Patches, job: JobView, value: str) -> Body:
    """Tell the operator that acts on the job who leaves it alone, and return the object as it is then."""
    body = {"metadata": {"uid": job.uid, "annotations": {ALSO_WATCHED_BY: value}}}
    return await _of_uid(kube.patch(jobs_path(job.namespace, job.name), body))


async def _of_uid(write: Coroutine[Any, Any, Body]) -> Body:
    try:
        return await write
    except KubeError as e:
        if e.status == 404 or (e.status == 422 and "metadata.uid" in e.message):
            # For a name that belongs to another uid the API server says 422, for one that is free 404 or 409.
            raise Conflict(e.status, e.reason, e.message) from e
        raise


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that turns `old` into `new`; empty when nothing differs. Maps are merged by key."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if inner := difference(before, value):
                patch[key] = inner
        elif before != value:
            patch[key] = value
    return patch


async def write_status(kube: KubeClient, job: JobView, status: Mapping[str, Any]) -> Body:
    """Replace the status and return the object as it is then. Raises Conflict on any other version.

    A PUT to this path leaves all but the status as it is, and costs the API server a seventh less than a patch: the
    write is most of what a stop takes.
    """
    about = {"name": job.name, "namespace": job.namespace, "resourceVersion": str(job.version)}
    body = {"apiVersion": API_VERSION, "kind": "RollupJob", "metadata": about, "status": status}
    return await kube.put(jobs_path(job.namespace, job.name, "status"), body)


async def add_finalizer(kube: KubeClient, job: JobView) -> Body:
    """Hold the job's deletion back from now on. Raises Conflict on any other version."""
    if job.finalizers:
        return await _on_version(kube, job, {"op": "add", "path": "/metadata/finalizers/-", "value": DRAIN_FINALIZER})
    return await _on_version(kube, job, {"op": "add", "path": "/metadata/finalizers", "value": [DRAIN_FINALIZER]})


async def remove_finalizer(kube: KubeClient, job: JobView) -> Body:
    """Let the job go. Raises Conflict on any other version."""
    at = job.finalizers.index(DRAIN_FINALIZER)
    return await _on_version(kube, job, {"op": "remove", "path": f"/metadata/finalizers/{at}"})


async def _on_version(kube: KubeClient, job: JobView, operation: dict[str, Any]) -> Body:
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": str(job.version)}
    return await kube.json_patch(jobs_path(job.namespace, job.name), [test, operation])
