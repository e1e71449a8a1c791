"""A Lease of coordination.k8s.io: read, watch, and write with compare-and-set."""

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rollup_operator.kube.client import Body, KubeClient, NotFound
from rollup_operator.kube.paths import leases_path
from rollup_operator.model.times import micro_time


@dataclass(frozen=True, slots=True)
class Lease:
    """A Lease in the API server."""

    holder: str
    """Empty: it has no holder."""
    version: str
    lasts: float
    """How long its holder may hold it without a renewal, according to the holder, in seconds."""
    body: Body

    @classmethod
    def of(cls, body: Body) -> "Lease":
        """Read an object."""
        spec = body.get("spec") or {}
        lasts = float(spec.get("leaseDurationSeconds") or 0)
        return cls(spec.get("holderIdentity") or "", body["metadata"]["resourceVersion"], lasts, body)


class LeaseClient:
    """One lease, which need not exist yet. Raises KubeErrors."""

    def __init__(self, kube: KubeClient, namespace: str, name: str, now: Callable[[], datetime]) -> None:
        self._kube, self._namespace, self._name, self._now = kube, namespace, name, now
        self._collection, self._path = leases_path(namespace), leases_path(namespace, name)

    def __str__(self) -> str:
        return f"{self._namespace}/{self._name}"

    async def read(self) -> Lease | None:
        """Return the lease; None: there is none."""
        try:
            return Lease.of(await self._kube.get(self._path))
        except NotFound:
            return None

    async def write(self, seen: Lease | None, holder: str, *, lasts: float) -> Lease:
        """Make `holder` the holder of the lease that was seen, or of a new one. Empty: release it.

        `lasts` says to candidates how long it holds without a renewal, in seconds. Raises Conflict or NotFound where it
        is no longer as seen.
        """
        spec: dict[str, Any] = dict(seen.body.get("spec") or {}) if seen is not None else {}
        now = micro_time(self._now())
        if seen is None or seen.holder != holder:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = spec.get("leaseTransitions", 0) + (1 if holder else 0)
        spec |= {"holderIdentity": holder, "leaseDurationSeconds": math.ceil(lasts), "renewTime": now}
        if seen is None:
            whole = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": spec,
            }
            return Lease.of(await self._kube.post(self._collection, whole))
        return Lease.of(await self._kube.put(self._path, seen.body | {"spec": spec}))

    async def watch(self) -> AsyncIterator[Lease | None]:
        """Yield the lease as it is, if it exists, and each change of it; None: it was deleted. Ends now and then."""
        # No version to begin after: the server first sends what exists.
        async for kind, body in self._kube.watch(
            self._collection, since="", fieldSelector=f"metadata.name={self._name}"
        ):
            yield None if kind == "DELETED" else Lease.of(body)
