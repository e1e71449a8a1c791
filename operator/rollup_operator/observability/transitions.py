"""Notices what becomes of jobs: one line of the log for each change of state and each run, stops measured.

Input: each newer view of a job, whoever brought it, in order; the ends of runs. Output: log lines, and calls of
`Metrics` and of whoever traces stops. It keeps a few words of each job, so that it can see what is new; it never
touches the job.

| line | level |
| --- | --- |
| a run completed or was halted | info; debug for a tick that found nothing to do |
| a run failed | warning, once for each step of the back-off; debug between |
| the job was started or stopped, or its reason changed | info; warning for a trouble that no run's line has told |
| a run began or ended | debug |
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from sys import intern
from typing import Any, Protocol

import structlog

from rollup_operator.freed_memory import lasting
from rollup_operator.lifecycle.telemetry import RunReport
from rollup_operator.model.conditions import READY, Reason
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import LONGEST_MESSAGE, shortened
from rollup_operator.observability.job_series import Job
from rollup_operator.observability.metrics import Metrics

log = structlog.get_logger("rollup_operator.transitions")

REMEMBERED = 10_000
"""Requests whose stops and starts are still to be reported."""

_ON = ("started", "indexing")
_WELL = frozenset({Reason.RUNNING, Reason.WAITING})
"""Reasons that alternate with each run."""
_HARMLESS = frozenset({Reason.STOPPING, Reason.DELETING, Reason.RECONCILING, Reason.WAITING})
"""Reasons for which a job is not Ready though nothing is wrong with it."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop that is over."""

    uid: str
    namespace: str
    name: str
    generation: int
    asked_at: float
    """When this process learnt of it, in seconds since the epoch."""
    steps: tuple[tuple[str, float], ...]
    """The states that were shown meanwhile, with their times; the last one is `stopped`."""


class Tracer(Protocol):
    """What traces stops."""

    def stopped(self, stop: Stop) -> None:
        """A stop is over."""


@dataclass(slots=True)  # not frozen: one is made for every event, and that takes three times as long
class _Seen:
    """The last observation of a job."""

    state: str | None
    reason: str | None
    stop: int | None
    """The generation that requests the current stop."""
    asked_at: float
    asked_after: float
    """The same by a clock without steps."""
    steps: tuple[tuple[str, float], ...] = ()
    told: str | None = None
    """The reason that the line of a failed run has told before the status shows it."""


class Transitions:
    """Observes transitions. `leading` says whether this process acts: a standby logs at level debug."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        leading: Callable[[], bool],
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives the time of day for traces, `elapsed` the duration of a stop, both in seconds."""
        self._metrics, self._leading, self._tracer = metrics, leading, tracer
        self._clock, self._elapsed = clock, elapsed
        self._seen: dict[str, _Seen] = {}
        self._requests: dict[str, str] = {}

    def asked(self, job: JobView, request_id: str | None) -> None:
        """Note which request of this process's endpoint has written the job's newest generation."""
        if request_id is None:
            return
        if not self._leading():
            log.info(
                "asked",
                namespace=job.namespace,
                job=job.name,
                uid=job.uid,
                generation=job.generation,
                state=job.desired.value,
                request_id=request_id,
            )
        if _generation_of(job) in self._requests:
            return  # a call that finds what it wants has written nothing
        with lasting:
            self._requests[_generation_of(job)] = "".join([*request_id])  # a copy
        if len(self._requests) > REMEMBERED:
            del self._requests[next(iter(self._requests))]

    def seen(self, job: JobView) -> None:
        """Take in a newer view."""
        before, now, after = self._seen.get(job.uid), self._clock(), self._elapsed()
        found = _observe(job, before, now, after)
        self._seen[job.uid] = found
        if before is None:
            return  # what was the case when this process began is no transition
        if found.reason == before.reason:
            found.told = before.told
        if found.state != before.state or found.reason != before.reason:
            self._tell(job, before, found)
        if before.stop is not None and found.stop is None and found.state == "stopped" and self._leading():
            self._stopped(job, before, now, after)

    def ran(self, job: JobView, run: RunReport) -> None:
        """Log the end of a run. Its uid and generation are bound to the context."""
        fields: dict[str, Any] = {"namespace": job.namespace, "job": job.name}
        did: dict[str, Any] = {
            "rows": run.rows,
            "documents": run.documents,
            "seconds": round(run.seconds, 3),
        }
        if run.watermark is not None:
            did["watermark"] = run.watermark
        did |= {name: count for name, count in (("rewritten", run.rewritten), ("kept", run.kept)) if count}
        if run.trouble is None:
            tell = log.debug if run.is_idle else log.info
            tell(f"run {run.outcome.lower()}", **fields, **did)
            return
        if (seen := self._seen.get(job.uid)) is not None:
            seen.told = run.trouble.reason
        fields |= {"reason": run.trouble.reason.value, "failures": run.failures}
        fields |= {"message": shortened(run.trouble.message, LONGEST_MESSAGE), **did}
        if not run.is_step:
            log.debug("run failed", **fields)
        elif run.error is None:
            log.warning("run failed", **fields)
        else:
            log.error("run failed", **fields, exc_info=run.error)

    def gone(self, job: JobView) -> None:
        """Take in that a job no longer exists."""
        before = self._seen.pop(job.uid, None)
        if before is not None and self._leading():
            log.info("job gone", namespace=job.namespace, job=job.name, uid=job.uid, was=before.state)

    def _stopped(self, job: JobView, before: _Seen, now: float, after: float) -> None:
        assert before.stop is not None
        self._metrics.stopped(after - before.asked_after)
        if self._tracer is not None:
            steps = (*before.steps, ("stopped", now))
            stop = Stop(job.uid, job.namespace, job.name, before.stop, before.asked_at, steps)
            self._tracer.stopped(stop)

    def _tell(self, job: JobView, before: _Seen, found: _Seen) -> None:
        more: dict[str, Any] = {}
        ready = Job.of(job, 0.0).condition(READY)
        if ready.get("status") != "True":
            more["message"] = ready.get("message")
        request_id = self._requests.get(_generation_of(job))
        if request_id is not None:
            more["request_id"] = request_id
        tell = getattr(log, self._level(before, found, is_ready=ready.get("status") == "True"))
        tell(
            "job changed",
            namespace=job.namespace,
            job=job.name,
            uid=job.uid,
            generation=job.generation,
            was=before.state,
            state=found.state,
            reason=found.reason,
            **more,
        )

    def _level(self, before: _Seen, found: _Seen, *, is_ready: bool) -> str:
        if not self._leading():
            return "debug"
        checked = before.reason == Reason.RECONCILING and is_ready
        if checked or {before.reason, found.reason} <= _WELL or found.reason in (before.reason, before.told):
            return "debug" if before.state in _ON and found.state in _ON else "info"
        return "info" if is_ready or found.reason in _HARMLESS else "warning"


def _generation_of(job: JobView) -> str:
    """As text, since memory for tuples comes from wherever the last calls have left some."""
    return f"{job.uid} {job.generation}"


def _observe(view: JobView, before: _Seen | None, now: float, after: float) -> _Seen:
    job = Job.of(view, now)
    state = _word(job.status("state"))
    reason = _word(job.condition(READY).get("reason"))
    if reason == Reason.RECONCILING and before is not None and before.state in _ON:
        reason = before.reason  # a check of the source is under way: what it finds is news
    found = _Seen(state, reason, None, now, after)
    if view.desired is not DesiredState.STOPPED or view.deleting:
        return found
    if state == "stopped" and job.status("observedGeneration") == view.generation:
        return found
    if before is None or before.stop is None:
        return replace(found, stop=view.generation)
    steps = before.steps if state == before.state else (*before.steps, (str(state), now))
    return replace(found, stop=before.stop, asked_at=before.asked_at, asked_after=before.asked_after, steps=steps)


def _word(value: Any) -> str | None:
    return intern(value) if isinstance(value, str) else None
