"""The writes that an actor makes on its own job. Each names the exact version of the object that it was decided on."""

from collections.abc import Mapping
from typing import Any

from rollup_operator.kube.client import Body, KubeClient
from rollup_operator.kube.paths import jobs_path
from rollup_operator.model.base import API_VERSION, DRAIN_FINALIZER
from rollup_operator.model.job_view import JobView


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
