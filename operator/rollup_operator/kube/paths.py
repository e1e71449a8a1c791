"""URL paths of the API server."""

from rollup_operator.model.base import API_VERSION


def jobs_path(namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    """Path of the RollupJobs of all namespaces, of one, of one job, or of a job's subresource."""
    return _path("rollupjobs", namespace, name, subresource)


def stores_path(namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    """Path of the RollupStores, likewise."""
    return _path("rollupstores", namespace, name, subresource)


def _path(plural: str, namespace: str | None, name: str | None, subresource: str | None) -> str:
    within = f"/namespaces/{namespace}" if namespace is not None else ""
    return f"/apis/{API_VERSION}{within}/{plural}" + "".join(f"/{p}" for p in (name, subresource) if p is not None)
