"""Every kopf decorator of the operator. kopf watches and hands over; it decides nothing and writes nothing.

Only `on.event` is used: the other kinds work on differences between two bodies, or keep state of their own on the
object, and can lose a transition.
"""

import random
from collections.abc import Iterator
from typing import Any

import kopf

from rollup_operator.kube.watch_liveness import Watches
from rollup_operator.lifecycle.jobs.actors import Actors
from rollup_operator.lifecycle.stores.book import StoreBook
from rollup_operator.model.base import GROUP, VERSION


def register(handlers: kopf.OperatorRegistry, *, actors: Actors, books: StoreBook, watches: Watches) -> None:
    """Attach the watches of both resources to `handlers`."""

    @kopf.on.event(GROUP, VERSION, "rollupjobs", registry=handlers)
    async def job(event: kopf.RawEvent, **_: Any) -> None:
        watches.brought("rollupjobs", event["object"]["metadata"]["namespace"])
        if event["type"] == "DELETED":
            actors.gone(event["object"]["metadata"]["uid"])
        else:
            actors.observe(event["object"])

    @kopf.on.event(GROUP, VERSION, "rollupstores", registry=handlers)
    async def store(event: kopf.RawEvent, **_: Any) -> None:
        watches.brought("rollupstores", event["object"]["metadata"]["namespace"])
        if event["type"] == "DELETED":
            books.gone(event["object"]["metadata"]["uid"])
        else:
            books.observe(event["object"])


def configure(settings: kopf.OperatorSettings) -> None:
    """Configure kopf to react at once, retry quickly for ever, and leave objects alone."""
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 0.5
    settings.queueing.error_delays = (0.5, 1, 2, 5, 10)
    settings.networking.error_backoffs = ShortBackoffs()
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 15
    settings.watching.reconnect_backoff = 0.05
    settings.watching.inactivity_timeout = 30
    settings.persistence.finalizer = f"{GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP, v1=False)
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.process.ultimate_exiting_timeout = 10


class NoDiffBase(kopf.DiffBaseStorage):
    """kopf keeps no last-handled state: nothing is written, nothing deeply copied."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """Return an empty essence: no difference is ever seen."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Return None: nothing was ever stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing."""


class ShortBackoffs:
    """Delays of kopf's own requests: jittered, below a fifth of a second, without an end."""

    def __iter__(self) -> Iterator[float]:
        while True:
            yield random.uniform(0.02, 0.2)  # noqa: S311  # jitter, no secret
