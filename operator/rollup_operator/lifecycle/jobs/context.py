"""The dependencies that the actors of all jobs share."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime

from rollup_operator.kube.client import KubeClient
from rollup_operator.kube.events import EventRecorder
from rollup_operator.lifecycle.jobs.rivals import Notes
from rollup_operator.lifecycle.jobs.run_task import Worker
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.stores.book import StoreBook
from rollup_operator.lifecycle.telemetry import Observer
from rollup_operator.model.base import GITOPS_MANAGERS
from rollup_operator.model.job_view import JobView


@dataclass(frozen=True)
class JobContext:
    """There is one instance per process."""

    kube: KubeClient
    books: StoreBook
    events: EventRecorder
    worker: Worker
    gate: Gate
    """Checked before each effect. While it is shut, an actor keeps the newest body and does nothing."""
    now: Callable[[], datetime]
    published: Callable[[JobView], None]
    """Called with each newer view that an actor learns from the API server's answers."""
    forget: Callable[[str], None]
    observer: Observer
    operator: str | None = None
    """What statuses call this operator, all its replicas together; None: it has no Lease."""
    gitops_managers: Collection[str] = GITOPS_MANAGERS
    """Field managers that set the desired state back to what is in Git."""
    notes: Notes = field(default_factory=Notes)
    """Which operators know that this one leaves jobs to them."""
    went_back: Callable[[str], None] = lambda _: None
    """Called, with what showed it, when the API server's revisions are lower than they were: etcd was restored."""
