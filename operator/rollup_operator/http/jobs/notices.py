"""Reports of stops and starts to those who look after a job: log lines and Kubernetes Events.

There is one report for each stop or start, however many clients request it or wait for it.
"""

import structlog

from rollup_operator.freed_memory import lasting
from rollup_operator.http.jobs.presentation import job_state
from rollup_operator.http.ports import Events, Jobs
from rollup_operator.kube.events import Regarding
from rollup_operator.model.conditions import Reason
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView

log = structlog.get_logger(__name__)

LIMIT = 10_000
"""How many reports are remembered."""


class Notices:
    """Reports what a person may want to investigate."""

    def __init__(self, jobs: Jobs, events: Events) -> None:
        self._jobs, self._events = jobs, events
        self._given: dict[str, None] = {}
        """Texts, since memory for tuples comes from wherever the last calls have left some."""

    @lasting
    def timed_out(self, job: JobView, timeout: str, generation: int | None) -> None:
        """A wait for the stop of `generation` timed out (None: the stop is not recorded yet)."""
        if not self._first(f"{Reason.STOP_TIMED_OUT} {job.uid} {generation}"):
            return
        state, phase = job_state(job), self._jobs.explain(job.uid)
        log.info(
            "stop not seen in time",
            namespace=job.namespace, job=job.name, timeout=timeout, generation=generation, state=state, phase=phase,
        )  # fmt: skip
        stands = "is not recorded yet" if generation is None else f"stands as generation {generation}"
        self._post(
            job,
            Reason.STOP_TIMED_OUT,
            f"a client has waited {timeout} for the job to stop, it is {state}: {phase}; the stop {stands}",
        )

    @lasting
    def owned(self, job: JobView, owner: str, state: DesiredState, generation: int) -> None:
        """`state` was written, as `generation`, to a field that `owner` may set back."""
        if not self._first(f"{Reason.GITOPS_OWNED} {job.uid} {generation}"):
            return
        log.info(
            "desired state is owned by GitOps",
            namespace=job.namespace, job=job.name, owner=owner, asked=state, generation=generation,
        )  # fmt: skip
        self._post(
            job,
            Reason.GITOPS_OWNED,
            f"the API asked for {state}, but spec.desiredState is owned by {owner}, which may set it back to "
            f"{job.desired} at its next sync: leave desiredState out of Git to let the API decide",
        )

    def _first(self, notice: str) -> bool:
        if notice in self._given:
            return False
        self._given[notice] = None
        if len(self._given) > LIMIT:
            del self._given[next(iter(self._given))]
        return True

    def _post(self, job: JobView, reason: Reason, message: str) -> None:
        self._events.record(Regarding.job(job), reason, message)
