"""The protocols of what the endpoint needs from the rest of the operator; `wiring` passes the implementations."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from rollup_operator.kube.events import Regarding
from rollup_operator.kube.paths import ApiPath
from rollup_operator.model.conditions import Reason
from rollup_operator.model.job_view import JobView
from rollup_operator.stores.base import Store

Listener = Callable[[JobView | None], None]
"""Called with each newer view of a job, and with None once it is gone. Called in the event loop; must not block."""


class Jobs(Protocol):
    """The index: the newest body of every job that is watched."""

    @property
    def synced(self) -> bool:
        """Whether the first list is complete, so that a job not found here does not exist."""

    @property
    def leads(self) -> bool:
        """Whether this process decides about the jobs, and knows what its predecessor did."""

    def is_writing(self, uid: str) -> bool:
        """Whether this process may be writing to the job just now."""

    def find(self, namespace: str, job_id: str) -> JobView | None:
        """Return the first of `meant`."""

    def meant(self, namespace: str, job_id: str) -> Sequence[JobView]:
        """Return the job that has this Elasticsearch id, or several if it is ambiguous."""

    def is_gone(self, job: JobView) -> bool:
        """Whether a job was deleted, as far as this process knows: its listeners have been told."""

    def namespaces(self) -> Sequence[str]:
        """Return the namespaces that have jobs."""

    def in_namespace(self, namespace: str) -> Iterable[JobView]:
        """Return all jobs of a namespace, in any order, each in its newest view."""

    def subscribe(self, uid: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` from now on; the returned function ends that. The uid need not be known yet."""

    def reading(self, uid: str) -> AbstractContextManager[None]:
        """Keep the job from being shown as stopped by this process during a block that reads its source."""

    def explain(self, uid: str) -> str:
        """Say in a few words what this process does for the job now, and for how long."""


class Stores(Protocol):
    """The RollupStores that are watched."""

    def usable(self, namespace: str) -> Sequence[str]:
        """Return the names of those of a namespace whose spec can be used."""

    async def open(self, key: tuple[str, str]) -> Store:
        """Return the client of a store, by namespace and name. Raises StoreNotFound, StoreUnavailable."""


class Reads(Protocol):
    """The reading part of `kube.client.KubeClient`. Raises its `KubeError`s."""

    async def get(self, path: ApiPath, **params: str) -> dict[str, Any]:
        """Read an object, or a list that parameters narrow."""

    def pages(self, path: ApiPath, *, metadata_only: bool = False) -> AsyncIterator[dict[str, Any]]:
        """Read a list page by page."""


class Kubernetes(Reads, Protocol):
    """The part of `kube.client.KubeClient` that the endpoint uses. Raises its `KubeError`s."""

    async def post(self, path: ApiPath, body: Mapping[str, Any], *, manager: str = "") -> dict[str, Any]:
        """Create an object."""

    async def check(self, path: ApiPath, body: Mapping[str, Any], *, manager: str, change: bool = False) -> None:
        """Have the creation or the change of an object checked, and keep nothing."""

    async def delete(self, path: ApiPath, *, uid: str, version: int) -> dict[str, Any]:
        """Delete one version of one object."""

    async def apply(
        self, path: ApiPath, body: Mapping[str, Any], *, manager: str, force: bool = True
    ) -> dict[str, Any]:
        """Server-side apply; return the object as it is now."""

    async def patch(self, path: ApiPath, body: Mapping[str, Any], *, manager: str = "") -> dict[str, Any]:
        """Merge-patch an object; return it as it is now."""


class Events(Protocol):
    """The part of `kube.events.EventRecorder` that the endpoint uses."""

    def record(self, about: Regarding, reason: Reason, note: str) -> None:
        """Queue an event. Never blocks and never raises."""


class EndpointTelemetry(Protocol):
    """Telemetry of the endpoint. Must not raise."""

    def request(self, action: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """Surround a call; its headers may name a trace."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """Surround a part of the current call that takes time."""

    def asked(self, job: JobView) -> None:
        """Take in the answer of a write of the current call: its generation requests what was written."""

    def answered(self, action: str, code: int, seconds: float) -> None:
        """Take in how a call ended; 499: the client hung up."""

    def stop_answered(self, result: str, waited: float | None) -> None:
        """Take in how a stop of one job ended, and how many seconds the client waited, if it did."""

    def lagged(self, seconds: float) -> None:
        """Take in by how much the event loop was late."""


class NoTelemetry:
    """Telemetry that ignores everything."""

    def request(self, action: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """Surround with nothing."""
        return nullcontext()

    def step(self, name: str) -> AbstractContextManager[None]:
        """Surround with nothing."""
        return nullcontext()

    def asked(self, job: JobView) -> None:
        """Do nothing."""

    def answered(self, action: str, code: int, seconds: float) -> None:
        """Do nothing."""

    def stop_answered(self, result: str, waited: float | None) -> None:
        """Do nothing."""

    def lagged(self, seconds: float) -> None:
        """Do nothing."""


class NoEvents:
    """Events that are dropped."""

    def record(self, about: Regarding, reason: Reason, note: str) -> None:
        """Drop an event."""
