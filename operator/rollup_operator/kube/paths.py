"""URL paths of the API server. The client accepts no others, so that no name becomes part of a path unchecked.

Names come from specs, from calls and from the cluster. The operator has more rights than the users who write them: a
store named `../../secrets/x` would make it read that Secret. So a path consists of valid names only.
"""

from typing import NewType

from rollup_operator.model.base import API_VERSION
from rollup_operator.model.names import is_name, is_namespace

ApiPath = NewType("ApiPath", str)
"""A path that this module built."""

NAMESPACES = ApiPath("/api/v1/namespaces")
TOKEN_REVIEWS = ApiPath("/apis/authentication.k8s.io/v1/tokenreviews")
ACCESS_REVIEWS = ApiPath("/apis/authorization.k8s.io/v1/subjectaccessreviews")

_SHOWN = 100


class InvalidName(ValueError):
    """A text that cannot be the name of an object. Nothing was sent."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"{name[:_SHOWN]!r} cannot be the name of {what}")


def jobs_path(namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> ApiPath:
    """Path of the RollupJobs of all namespaces, of one, of one job, or of a job's subresource. Raises InvalidName."""
    return _path(f"/apis/{API_VERSION}", "rollupjobs", namespace, name, subresource)


def stores_path(namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> ApiPath:
    """Path of the RollupStores, likewise."""
    return _path(f"/apis/{API_VERSION}", "rollupstores", namespace, name, subresource)


def secret_path(namespace: str, name: str) -> ApiPath:
    """Path of one Secret. Raises InvalidName."""
    return _path("/api/v1", "secrets", namespace, name)


def account_token_path(namespace: str, name: str) -> ApiPath:
    """Path under which tokens of a service account are requested. Raises InvalidName."""
    return _path("/api/v1", "serviceaccounts", namespace, name, "token")


def leases_path(namespace: str, name: str | None = None) -> ApiPath:
    """Path of the Leases of a namespace, or of one of them. Raises InvalidName."""
    return _path("/apis/coordination.k8s.io/v1", "leases", namespace, name)


def events_path(namespace: str) -> ApiPath:
    """Path under which Events are posted. Raises InvalidName."""
    return _path("/apis/events.k8s.io/v1", "events", namespace)


def events_about_path(namespace: str) -> ApiPath:
    """Path under which Events can be selected by the object that they are about. Raises InvalidName."""
    return _path("/api/v1", "events", namespace)


def _path(
    group: str, plural: str, namespace: str | None, name: str | None = None, subresource: str | None = None
) -> ApiPath:
    parts = [group]
    if namespace is not None:
        if not is_namespace(namespace):
            raise InvalidName("a namespace", namespace)
        parts += ["namespaces", namespace]
    parts.append(plural)
    if name is not None:
        if not is_name(name):
            raise InvalidName(f"one of the {plural}", name)
        parts.append(name)
    if subresource is not None:
        parts.append(subresource)
    return ApiPath("/".join(parts))
