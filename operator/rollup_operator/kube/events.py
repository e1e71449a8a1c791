"""Kubernetes Events, for people: one for each problem, not for every write.

Posted in the background, so that a slow API server never holds a job back; a full queue drops the newest.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from rollup_operator.kube.client import KubeClient, KubeError
from rollup_operator.model.base import API_VERSION
from rollup_operator.model.reader import JobView

log = structlog.get_logger(__name__)

QUEUE = 1000


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object that an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    @classmethod
    def job(cls, job: JobView) -> "Regarding":
        """Return what an event about a job regards."""
        return cls(API_VERSION, "RollupJob", job.namespace, job.name, job.uid)


class EventRecorder:
    """Posts events one after the other. `run` is its task."""

    def __init__(
        self,
        kube: KubeClient,
        *,
        component: str,
        instance: str,
        now: Callable[[], datetime],
        observe: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`observe` is told of each event what became of it: `posted`, `failed` or `dropped`."""
        self._kube, self._component, self._instance, self._now = kube, component, instance, now
        self._observe = observe
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(QUEUE)
        self._count = 0

    def record(self, about: Regarding, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Queue an event. Never blocks and never raises."""
        self._count += 1
        now = self._now().astimezone(UTC)
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{about.name[:200]}.{int(now.timestamp() * 1e6):x}.{self._count:x}"},
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": kind,
            "reason": reason,
            "note": message[:1024],
            "action": "Reconcile",
            "reportingController": self._component,
            "reportingInstance": self._instance[:128],
            "regarding": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
        }
        try:
            self._queue.put_nowait(body)
        except asyncio.QueueFull:
            self._observe("dropped")
            log.warning("event dropped", reason=reason, namespace=about.namespace, name=about.name)

    async def run(self) -> None:
        """Post what is queued, until cancelled."""
        while True:
            body = await self._queue.get()
            namespace = body["regarding"]["namespace"]
            try:
                body["metadata"]["namespace"] = namespace
                await self._kube.post(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body)
                self._observe("posted")
            except KubeError as e:
                self._observe("failed")
                log.warning("event not posted", reason=body["reason"], namespace=namespace, error=str(e))
            except Exception:  # nor may one that cannot be posted hold back those after it
                self._observe("failed")
                log.exception("event not posted", reason=body["reason"], namespace=namespace)
