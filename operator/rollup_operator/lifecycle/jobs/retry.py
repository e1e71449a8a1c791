"""Retries of failed runs: what is reported, how often, and when the next attempt begins. Repairs of statuses."""

import asyncio
import json
import math
import random
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any

from rollup_operator.freed_memory import lasting
from rollup_operator.lifecycle.jobs.run_facts import RunKind
from rollup_operator.model.conditions import READY, STALLED, Reason, Trouble
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import State

FIRST_RETRY = 1.0
LAST_RETRY = 300.0
"""Seconds between two attempts, doubling from the first to the last, each shortened at random by up to half."""

FIRST_REPAIR = 1.0
LAST_REPAIR = 30.0
"""Seconds before a status that somebody else replaced is published again, doubling likewise."""

PASSING = {
    Reason.INVALID_SPEC,
    Reason.STOPPING,
    Reason.DELETING,
    Reason.DRAIN_TIMEOUT,
    Reason.RUNNING,
    Reason.WAITING,
    Reason.RECONCILING,
    Reason.STOPPED,
}
"""Reasons that say nothing about the last run."""

_NONE: frozenset[Reason] = frozenset()
"""One for all jobs: Python makes a new one each time."""


def backoff(first: float, last: float, failures: int) -> float:
    """Return the seconds to wait after this number of failures in a row, at least one: capped and jittered."""
    return least_backoff(first, last, failures) * random.uniform(1.0, 2.0)  # noqa: S311  # jitter


def least_backoff(first: float, last: float, failures: int) -> float:
    """Return the shortest of these waits."""
    return 0.5 * min(last, first * 2.0 ** min(failures - 1, 16))


@lasting
def timer(seconds: float, wake: Callable[[], None]) -> asyncio.TimerHandle:
    """Call `wake` after so many seconds, in a context of its own: kopf's holds the whole event that it is handling."""
    return asyncio.get_running_loop().call_later(seconds, wake, context=Context())


class Recovery:
    """The trouble of one job. Times are the event loop's."""

    __slots__ = ("_changed", "_quiet_until", "_reported", "_retry_at", "_steps", "by", "failures", "trouble")

    def __init__(self, job: JobView) -> None:
        """Begin with what an earlier process published: only a good run clears it, so one is due.

        `by` is what failed with the trouble. Before the first run has ended, only a check can have; and a run that
        fails takes the place of what a check has found.
        """
        self.failures = 0
        self._changed = False
        self._steps, self._quiet_until = 0, -math.inf
        self.trouble = _published(job)
        checked = job.status.last_run is None or job.status.failed_check is not None
        self.by = RunKind.CHECK if checked else RunKind.INDEX
        self._retry_at = None if self.trouble is None else 0.0
        self._reported: frozenset[Reason] = _NONE if self.trouble is None else frozenset({self.trouble.reason})

    def is_new(self, reason: Reason) -> bool:
        """Whether this is to be reported: the first time for a generation since all was well.

        What an earlier process has published counts as reported.
        """
        if reason in self._reported:
            return False
        self._reported |= {reason}
        return True

    def new_generation(self) -> None:
        """The spec changed: what comes up now is new."""
        self._reported = _NONE
        self.something_changed()

    def begun(self) -> None:
        """A run begins, with spec and store as they are now."""
        self._changed = False

    def failed(self, trouble: Trouble, now: float, by: RunKind = RunKind.INDEX) -> bool:
        """Note a failure. A transient one is retried by itself, any other if something changed since it began.

        Returns whether it begins a step of the back-off: the first failure for a reason does, and then one after each
        wait. Ticks retry more often than that.
        """
        self.trouble, self.by = trouble, by
        self.failures += 1
        wait = backoff(FIRST_RETRY, LAST_RETRY, self.failures)
        self._retry_at = now + wait if trouble.transient or self._changed else None
        if trouble.reason not in self._reported:
            self._begin_steps()
        if now < self._quiet_until:
            return False
        self._steps += 1
        self._quiet_until = now + least_backoff(FIRST_RETRY, LAST_RETRY, self._steps)
        return True

    def _begin_steps(self) -> None:
        self._steps, self._quiet_until = 0, -math.inf

    def mended(self, *, unread: bool = False) -> None:
        """A good run, or a job that is shown as stopped, ends all trouble.

        `unread`: the run had nothing to do. What a check of the source has found stands then, and is checked again.
        """
        if unread and self.trouble is not None and self.by is RunKind.CHECK:
            self._retry_at = 0.0
            return
        if self.trouble is not None:
            self._reported = _NONE
            self._begin_steps()
        self.trouble, self._retry_at, self.failures = None, None, 0

    def something_changed(self) -> None:
        """Spec or store changed: what failed may work now."""
        self._changed = True
        if self.trouble is not None:
            self._retry_at = 0.0

    def retry_in(self, now: float) -> float | None:
        """Return the seconds until the next attempt; None: only a change helps."""
        return None if self._retry_at is None else max(0.0, self._retry_at - now)


class Repair:
    """Publishing a status again after somebody else replaced it. Times are the event loop's.

    Two processes may both believe that they lead, for as long as a lease. If each replaced the other's status at once,
    they would write as fast as the API server answers. So what was published before waits. What is new never does, nor
    does a state other than the one that is read.
    """

    __slots__ = ("_at", "_generation", "_published", "_repairs")

    def __init__(self) -> None:
        self._generation = -1
        self._published = ""  # the text of the status alone, which later views share: there are ten thousand of these
        self._repairs = 0
        self._at: float | None = None

    def published(self, view: JobView) -> None:
        """Note what this process has published."""
        self._generation, self._published, self._at = view.generation, view.status_json, None

    def wait(self, view: JobView, status: Mapping[str, Any], now: float) -> float:
        """Return the seconds until this status may replace the one that the job shows."""
        mine = self._published
        if self._generation != view.generation:
            self._repairs = 0
        elif mine != view.status_json and _same(json.loads(mine), status) and _state_is_shown(view, status):
            if self._at is None:
                self._repairs += 1
                self._at = now + backoff(FIRST_REPAIR, LAST_REPAIR, self._repairs)
            return max(0.0, self._at - now)
        self._at = None
        return 0.0


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two statuses say the same, whenever their conditions changed last."""
    return _timeless(one) == _timeless(other)


def _timeless(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = [
        {key: value for key, value in condition.items() if key != "lastTransitionTime"}
        for condition in status.get("conditions") or ()
    ]
    return {**status, "conditions": conditions}


def _state_is_shown(view: JobView, status: Mapping[str, Any]) -> bool:
    """Whether a job shows the state of a status, for the same generation; `indexing` is a kind of `started`."""
    shown, on = view.status, (State.STARTED, State.INDEXING)
    return shown.observed_generation == view.generation and (
        shown.state == status["state"] or (shown.state in on and status["state"] in on)
    )


def _published(job: JobView) -> Trouble | None:
    ready = next((c for c in job.status.conditions if c.type == READY), None)
    if ready is None or ready.status == "True" or ready.reason not in set(Reason) - PASSING:
        return None
    stalled = any(c.type == STALLED and c.status == "True" for c in job.status.conditions)
    return Trouble(Reason(ready.reason), ready.message, transient=not stalled)
