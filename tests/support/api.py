"""A small synchronous client for tests, on the real API server. Waits by watching, never by sleeping."""

import http.client
import itertools
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from local_control_plane import ControlPlane

Body = dict[str, Any]

OURS = "apis/rollup-operator.dev/v1alpha1"
_RBAC = "apis/rbac.authorization.k8s.io/v1"
_KINDS: Mapping[str, tuple[str, str, bool]] = {
    "RollupJob": (OURS, "rollupjobs", True),
    "RollupStore": (OURS, "rollupstores", True),
    "Secret": ("api/v1", "secrets", True),
    "ServiceAccount": ("api/v1", "serviceaccounts", True),
    "Lease": ("apis/coordination.k8s.io/v1", "leases", True),
    "Event": ("api/v1", "events", True),
    "Role": (_RBAC, "roles", True),
    "RoleBinding": (_RBAC, "rolebindings", True),
    "ClusterRole": (_RBAC, "clusterroles", False),
    "ClusterRoleBinding": (_RBAC, "clusterrolebindings", False),
    "Namespace": ("api/v1", "namespaces", False),
    "CustomResourceDefinition": ("apis/apiextensions.k8s.io/v1", "customresourcedefinitions", False),
}
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


class ApiError(Exception):
    """The API server refused: `code`, `reason`, `message`, and `causes` as (field, message) pairs."""

    def __init__(self, code: int, body: Any) -> None:
        status = body if isinstance(body, dict) else {"message": str(body)}
        self.code = code
        self.reason: str = status.get("reason", "")
        self.message: str = status.get("message", "")
        causes = (status.get("details") or {}).get("causes") or []
        self.causes: list[tuple[str, str]] = [(c.get("field", ""), c.get("message", "")) for c in causes]
        super().__init__(f"{code} {self.reason}: {self.message}")


class Api:
    """One user's view of one API server. `namespace` is meant wherever none is named; `kind` is a RollupJob by default.

    Threads may share it: each has a connection of its own. A context manager: its end closes the connections.
    """

    def __init__(self, plane: ControlPlane, namespace: str = "default", *, user: str = "admin") -> None:
        self.plane = plane
        self.namespace = namespace
        self.user = user
        self._tls = ssl.create_default_context(cafile=plane.ca)
        self._token = plane.token(user)
        self._local = threading.local()
        self._open: list[http.client.HTTPSConnection] = []
        self._derived: list[Api] = []

    def within(self, namespace: str | None = None, *, user: str | None = None) -> "Api":
        """The same server with another default namespace or as another user; closed with this one."""
        other = Api(self.plane, namespace or self.namespace, user=user or self.user)
        self._derived.append(other)
        return other

    def close(self) -> None:
        for api in self._derived:
            api.close()
        for connection in self._open:
            connection.close()

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- one request -------------------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", accept: str = ""
    ) -> Any:
        """Send one request and return the parsed answer. Raises ApiError for a status of 400 and above."""
        headers = {"Authorization": f"Bearer {self._token}", "Accept": accept or "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        data = None if body is None else json.dumps(body)
        for attempt in (1, 2):
            connection = self._connection()
            try:
                connection.request(method, path, data, headers)
                answer = connection.getresponse()
                break
            except (http.client.RemoteDisconnected, ConnectionError, ssl.SSLEOFError):
                connection.close()  # the server closes idle connections; only a reused one may have been stale
                if attempt == 2:
                    raise
        text = answer.read()
        is_json = "json" in answer.headers.get("Content-Type", "")
        parsed = json.loads(text) if is_json else text.decode()
        if answer.status >= 400:
            raise ApiError(answer.status, parsed)
        return parsed

    def path(self, kind: str, name: str = "", *, namespace: str | None = None, subresource: str = "") -> str:
        """The URL path of a kind's collection, or of one object."""
        group, plural, namespaced = _KINDS[kind]
        parts = [group]
        if namespaced:
            parts += ["namespaces", namespace or self.namespace]
        parts += [plural, *([quote(name)] if name else []), *([subresource] if subresource else [])]
        return "/" + "/".join(parts)

    # -- objects -----------------------------------------------------------------------------------------------------

    def get(self, name: str, *, kind: str = "RollupJob") -> Body:
        return self.request("GET", self.path(kind, name))

    def find(self, name: str, *, kind: str = "RollupJob") -> Body | None:
        """The object, None when there is none."""
        try:
            return self.get(name, kind=kind)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(self, *, kind: str = "RollupJob", selector: str = "") -> list[Body]:
        query = f"?{urlencode({'fieldSelector': selector})}" if selector else ""
        return self.request("GET", self.path(kind) + query)["items"]

    def create(self, body: Body) -> Body:
        """Create an object of any known kind, in its own or the default namespace."""
        return self.request("POST", self._path_of(body, named=False), body)

    def apply(self, body: Body, *, manager: str = "test", force: bool = False, subresource: str = "") -> Body:
        """Apply an object server-side."""
        query = urlencode({"fieldManager": manager, "force": str(force).lower()})
        path = self._path_of(body, named=True, subresource=subresource)
        return self.request("PATCH", f"{path}?{query}", body, content_type=APPLY)

    def install(self, crd: Body) -> None:
        """Apply a CustomResourceDefinition, and wait until its resources are served."""
        name = self.apply(crd)["metadata"]["name"]
        established = lambda body: (condition(body, "Established") or {}).get("status") == "True"  # noqa: E731
        self.wait(name, established, kind="CustomResourceDefinition")

    def replace(self, body: Body, *, subresource: str = "") -> Body:
        """PUT an object; its metadata.resourceVersion, where given, must be the newest."""
        return self.request("PUT", self._path_of(body, named=True, subresource=subresource), body)

    def patch(self, name: str, patch: Any, *, kind: str = "RollupJob", subresource: str = "") -> Body:
        """Send a merge patch (an object) or a JSON patch (a list)."""
        content_type = JSON_PATCH if isinstance(patch, list) else MERGE_PATCH
        return self.request("PATCH", self.path(kind, name, subresource=subresource), patch, content_type=content_type)

    def patch_job(self, name: str, spec: Body) -> Body:
        """Merge into a job's spec; None removes a field."""
        return self.patch(name, {"spec": spec})

    def patch_status(self, name: str, status: Body, *, kind: str = "RollupJob") -> Body:
        """Merge into the status, as an operator would."""
        return self.patch(name, {"status": status}, kind=kind, subresource="status")

    def start(self, name: str) -> Body:
        return self.patch_job(name, {"desiredState": "started"})

    def stop(self, name: str) -> Body:
        return self.patch_job(name, {"desiredState": "stopped"})

    def delete(self, name: str, *, kind: str = "RollupJob") -> None:
        self.request("DELETE", self.path(kind, name))

    def delete_all(self, label: str, *, kind: str = "RollupJob") -> None:
        """Delete those of a collection that carry the label `name=value`."""
        self.request("DELETE", f"{self.path(kind)}?{urlencode({'labelSelector': label})}")

    def table(self, *, kind: str = "RollupJob") -> Body:
        """The collection as `kubectl get` asks for it."""
        return self.request("GET", self.path(kind), accept="application/json;as=Table;g=meta.k8s.io;v=v1")

    def events(self, name: str) -> "list[Body]":
        """The events about an object of that name, oldest first."""
        items = self.list(kind="Event", selector=f"involvedObject.name={name}")
        return sorted(items, key=lambda event: int(event["metadata"]["resourceVersion"]))

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait(
        self, name: str, predicate: Callable[[Body], Any], timeout: float = 10.0, *, kind: str = "RollupJob"
    ) -> Body:
        """Return the first version of the object for which `predicate` holds; it need not exist yet.

        Fails with the last version seen after `timeout` seconds.
        """
        for body in self._versions(name, kind, timeout):
            if body is not None and predicate(body):
                return body
        raise AssertionError("unreachable: the versions end by failing")

    def wait_state(self, name: str, state: str, timeout: float = 10.0) -> Body:
        """Wait until status.state is `state` and decided on the newest generation of that version."""

        def there(body: Body) -> bool:
            status = body.get("status", {})
            return status.get("state") == state and status["observedGeneration"] >= body["metadata"]["generation"]

        return self.wait(name, there, timeout)

    def wait_condition(
        self,
        name: str,
        type_: str = "Ready",
        status: str = "True",
        *,
        reason: str | None = None,
        timeout: float = 10.0,
        kind: str = "RollupJob",
    ) -> Body:
        """Wait until a condition has that status (and reason) for the newest generation of that version."""

        def holds(body: Body) -> bool:
            found = condition(body, type_)
            return (
                found is not None
                and found["status"] == status
                and found.get("observedGeneration", 0) >= body["metadata"]["generation"]
                and reason in (None, found["reason"])
            )

        return self.wait(name, holds, timeout, kind=kind)

    def wait_gone(self, name: str, timeout: float = 10.0, *, kind: str = "RollupJob") -> None:
        """Wait until there is no such object."""
        for body in self._versions(name, kind, timeout):
            if body is None:
                return

    def wait_event(self, name: str, reason: str, timeout: float = 10.0) -> Body:
        """The first event about an object of that name with that reason; it need not be there yet."""
        deadline = time.monotonic() + timeout
        while True:
            page = self.request("GET", self.path("Event"))
            changes = ((None, item) for item in page["items"])
            since = page["metadata"]["resourceVersion"]
            left = deadline - time.monotonic()
            for _, event in itertools.chain(changes, self.watch(kind="Event", since=since, timeout=left)):
                if event["involvedObject"]["name"] == name and event["reason"] == reason:
                    return event

    def watch(
        self, *, kind: str = "RollupJob", since: str = "", selector: str = "", timeout: float = 10.0
    ) -> Iterator[tuple[str, Body]]:
        """Yield (type, object) of a collection's changes after the version `since`; raises TimeoutError at the end.

        Without `since`, what exists comes first as ADDED.
        """
        deadline = time.monotonic() + timeout
        query = {"watch": "true", "resourceVersion": since, "fieldSelector": selector}
        path = f"{self.path(kind)}?{urlencode({k: v for k, v in query.items() if v})}"
        connection = self._connect(timeout)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._token}"})
            answer = connection.getresponse()
            if answer.status >= 400:
                raise ApiError(answer.status, json.loads(answer.read()))
            while (left := deadline - time.monotonic()) > 0:
                if connection.sock is not None:
                    connection.sock.settimeout(left)
                line = answer.readline()
                if not line:
                    return
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 500), event["object"])
                yield event["type"], event["object"]
            raise TimeoutError
        finally:
            connection.close()

    # -- inner parts -------------------------------------------------------------------------------------------------

    def _versions(self, name: str, kind: str, timeout: float) -> Iterator[Body | None]:
        """Yield the object as it is and as it becomes, None while there is none; fails when the time is over."""
        deadline = time.monotonic() + timeout
        selector = f"metadata.name={name}"
        last: Body | None = None
        while True:
            page = self.request("GET", f"{self.path(kind)}?{urlencode({'fieldSelector': selector})}")
            last = next(iter(page["items"]), None)
            yield last
            version = page["metadata"]["resourceVersion"]
            try:
                for type_, body in self.watch(
                    kind=kind, since=version, selector=selector, timeout=deadline - time.monotonic()
                ):
                    last = None if type_ == "DELETED" else body
                    yield last
            except TimeoutError:
                shown = json.dumps(_without_noise(last), indent=2) if last else "no such object"
                raise AssertionError(f"{kind} {name}: not as awaited after {timeout} s. Last seen: {shown}") from None
            except ApiError as error:
                if error.code != 410:
                    raise

    def _path_of(self, body: Body, *, named: bool, subresource: str = "") -> str:
        meta = body["metadata"]
        name = meta["name"] if named else ""
        return self.path(body["kind"], name, namespace=meta.get("namespace"), subresource=subresource)

    def _connection(self) -> http.client.HTTPSConnection:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect(30.0)
            self._open.append(connection)
        return connection

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        netloc = urlsplit(self.plane.server).netloc
        return http.client.HTTPSConnection(netloc, context=self._tls, timeout=max(timeout, 0.001))


def condition(body: Body, type_: str = "Ready") -> Body | None:
    """The condition of that type, None where it is not shown."""
    conditions = body.get("status", {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == type_), None)


def _without_noise(body: Body) -> Body:
    return body | {"metadata": {k: v for k, v in body["metadata"].items() if k != "managedFields"}}
