"""A simulated API server: objects with versions, uids, generations and finalizers, and what a write does to them.

Every method is one moment. Bodies are values: a change makes a new body, so whoever holds one may keep it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rollup_operator.kube.client import Body, Conflict, KubeError, NotFound

JOBS, STORES, LEASES = "rollupjobs", "rollupstores", "leases"
NAMESPACE = "n"


@dataclass(frozen=True, slots=True)
class Change:
    """One accepted write."""

    revision: int
    type: str
    """ADDED, MODIFIED or DELETED, as a watch says."""
    plural: str
    before: Body | None
    body: Body
    by: str
    """Who wrote."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What etcd held at a moment."""

    revision: int
    objects: dict[tuple[str, str], Body]


class ApiServer:
    """The objects of one cluster, all in one namespace."""

    def __init__(self, changed: Callable[[Change], None]) -> None:
        """`changed` is called with each change, before any watcher."""
        self.revision = 100
        self.objects: dict[tuple[str, str], Body] = {}
        self.log: list[Change] = []
        self.watchers: dict[Callable[[Change], None], None] = {}
        self._changed = changed
        self._uids = 0

    # Reading

    def find(self, plural: str, name: str) -> Body | None:
        return self.objects.get((plural, name))

    def get(self, plural: str, name: str) -> Body:
        if (body := self.objects.get((plural, name))) is None:
            raise NotFound(404, "NotFound", f"{plural} {name!r} not found")
        return body

    def all(self, plural: str) -> list[Body]:
        return [body for (of, _), body in self.objects.items() if of == plural]

    # Writing

    def create(self, plural: str, body: Mapping[str, Any], by: str) -> Body:
        name = body["metadata"]["name"]
        if (plural, name) in self.objects:
            raise Conflict(409, "AlreadyExists", f"{plural} {name!r} already exists")
        self._uids += 1
        meta = {
            **body["metadata"],
            "namespace": NAMESPACE,
            "uid": f"{name}.{self._uids}",
            "generation": 1,
        }
        new = {**body, "metadata": meta}
        if plural == JOBS:
            new["status"] = body.get("status") or {"observedGeneration": -1}
        return self._announce("ADDED", plural, None, new, by)

    def replace(self, plural: str, name: str, body: Mapping[str, Any], by: str) -> Body:
        """PUT of a whole object, status apart."""
        old = self._as_expected(plural, name, body["metadata"])
        return self._update(plural, old, {**old, "spec": body["spec"]}, by)

    def replace_status(self, plural: str, name: str, body: Mapping[str, Any], by: str) -> Body:
        """PUT of the status. Without a resourceVersion it replaces whatever is there."""
        old = self._as_expected(plural, name, body["metadata"])
        return self._update(plural, old, {**old, "status": body["status"]}, by)

    def merge_status(self, plural: str, name: str, body: Mapping[str, Any], by: str) -> Body:
        """Merge patch of the status."""
        old = self._as_expected(plural, name, body.get("metadata") or {})
        return self._update(plural, old, {**old, "status": merged(old.get("status") or {}, body["status"])}, by)

    def edit(self, plural: str, name: str, by: str, *, spec: Mapping[str, Any] | None = None, **meta: Any) -> Body:
        """Merge patch of spec and metadata, as kubectl sends it. Raises what the CRD's rules refuse."""
        old = self.get(plural, name)
        new = {**old, "spec": merged(old["spec"], spec or {}), "metadata": merged(old["metadata"], meta)}
        return self._update(plural, old, new, by)

    def apply(self, plural: str, name: str, body: Mapping[str, Any], by: str) -> Body:
        """Server-side apply with force. A uid in it must be that of the object."""
        uid = body["metadata"].get("uid")
        old = self.objects.get((plural, name))
        if old is None and uid is not None:
            raise Conflict(409, "Conflict", f"uid mismatch: the provided object specified uid {uid}, and none exists")
        if old is None:
            raise KubeError(422, "Invalid", "spec.cron: Required value")
        if uid is not None and uid != old["metadata"]["uid"]:
            raise KubeError(422, "Invalid", "metadata.uid: Invalid value: field is immutable")
        return self._update(plural, old, {**old, "spec": {**old["spec"], **body["spec"]}}, by)

    def json_patch(self, plural: str, name: str, operations: list[dict[str, Any]], by: str) -> Body:
        """Tests of the version and changes of the list of finalizers, which is all that is needed."""
        old = self.get(plural, name)
        finalizers = list(old["metadata"].get("finalizers") or ())
        for operation in operations:
            match operation["op"], operation["path"].removeprefix("/metadata/"):
                case "test", "resourceVersion":
                    if operation["value"] != old["metadata"]["resourceVersion"]:
                        text = "the server rejected our request due to an error in our request"
                        raise Conflict(422, "Invalid", text)
                case "add", "finalizers":
                    finalizers = list(operation["value"])
                case "add", "finalizers/-":
                    finalizers.append(operation["value"])
                case "remove", path:
                    del finalizers[int(path.removeprefix("finalizers/"))]
                case unknown:
                    raise NotImplementedError(str(unknown))
        return self._update(plural, old, {**old, "metadata": {**old["metadata"], "finalizers": finalizers}}, by)

    def delete(self, plural: str, name: str, by: str, *, uid: str = "", version: str = "") -> Body:
        """Delete an object, or mark it where it has finalizers."""
        old = self.get(plural, name)
        meta = old["metadata"]
        if (uid and uid != meta["uid"]) or (version and version != meta["resourceVersion"]):
            raise Conflict(409, "Conflict", "the precondition failed")
        if not meta.get("finalizers"):
            return self._remove(plural, old, by)
        if "deletionTimestamp" in meta:
            return old
        meta = {**meta, "deletionTimestamp": "now", "generation": meta["generation"] + 1}
        return self._announce("MODIFIED", plural, old, {**old, "metadata": meta}, by)

    def lose_status(self, name: str, by: str) -> None:
        """Put a job back from a backup of its manifest: a new uid, its finalizers, no status."""
        old = self.get(JOBS, name)
        kept = {key: old["metadata"][key] for key in ("name", "finalizers", "annotations") if key in old["metadata"]}
        self._remove(JOBS, old, by)
        self.create(JOBS, {**{k: v for k, v in old.items() if k != "status"}, "metadata": kept}, by)

    def backup(self) -> Backup:
        """Return what etcd holds."""
        return Backup(self.revision, dict(self.objects))

    def restore(self, backup: Backup) -> None:
        """Go back to a backup: revisions begin again from there."""
        self.revision, self.objects = backup.revision, dict(backup.objects)
        self.log = [change for change in self.log if change.revision <= backup.revision]

    # Inside

    def _as_expected(self, plural: str, name: str, meta: Mapping[str, Any]) -> Body:
        old = self.get(plural, name)
        for field in ("uid", "resourceVersion"):
            if field in meta and meta[field] != old["metadata"][field]:
                raise Conflict(409, "Conflict", f"the object has another {field}")
        return old

    def _update(self, plural: str, old: Body, new: Body, by: str) -> Body:
        if new == old:
            return old
        if plural == JOBS:
            _check_desired_state(old, new)
        if new["spec"] != old["spec"]:
            new["metadata"] = {**new["metadata"], "generation": old["metadata"]["generation"] + 1}
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
            return self._remove(plural, new, by)
        return self._announce("MODIFIED", plural, old, new, by)

    def _remove(self, plural: str, old: Body, by: str) -> Body:
        del self.objects[plural, old["metadata"]["name"]]
        return self._announce("DELETED", plural, old, old, by)

    def _announce(self, type_: str, plural: str, old: Body | None, new: Body, by: str) -> Body:
        self.revision += 1
        body = {**new, "metadata": {**new["metadata"], "resourceVersion": str(self.revision)}}
        if type_ != "DELETED":
            self.objects[plural, body["metadata"]["name"]] = body
        change = Change(self.revision, type_, plural, old, body, by)
        self.log.append(change)
        self._changed(change)
        for watcher in tuple(self.watchers):
            watcher(change)
        return body


def merged(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a merge patch makes of an object: null removes a field."""
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(new.get(key), Mapping):
            new[key] = merged(new[key], value)
        else:
            new[key] = value
    return new


def _check_desired_state(old: Body, new: Body) -> None:
    """The CRD's rule: desiredState can be dropped only once the status has recorded it."""
    asked = old["spec"].get("desiredState")
    if asked is None or "desiredState" in new["spec"]:
        return
    if (new.get("status") or {}).get("desiredState") != asked:
        raise KubeError(422, "Invalid", "spec.desiredState: is not recorded yet")
