"""Stop, start and run: write the request to each job, then wait for it if wanted.

A write is durable once the API server has accepted it. A wait only observes: one that ends early undoes nothing.
"""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rollup_operator.explaining.goals import Deleted, End, Goal, Ran, Started, Stopped
from rollup_operator.explaining.owners import gitops_owner, owners
from rollup_operator.explaining.summary import summary
from rollup_operator.explaining.text import command
from rollup_operator.kube.client import Body
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.run_request import Stretch, request_of
from rollup_operator.model.times import micro_time
from rollup_operator.plugin.cluster import NamespaceClient, each, name_of
from rollup_operator.plugin.outcome import Chosen, Code, Failure, WaitLimit
from rollup_operator.plugin.results import JobOutcome, Result, failed
from rollup_operator.plugin.waiting import settle

Begin = Callable[[NamespaceClient, JobView], Awaitable[Goal]]
"""Writes a request to a job, and returns what to wait for. Raises Failure."""


async def stop(cluster: NamespaceClient, job: JobView) -> Goal:
    """Request a stop. A job that is being deleted stops by itself."""
    return Stopped(job if job.deleting else await cluster.ask(job, DesiredState.STOPPED))


async def start(cluster: NamespaceClient, job: JobView) -> Goal:
    """Request a start."""
    if job.deleting:
        raise Failure(Code.FAILED, "Deleting", "it is being deleted: create it again once it is gone")
    return Started(await cluster.ask(job, DesiredState.STARTED))


async def run(cluster: NamespaceClient, job: JobView, stretches: Iterable[Stretch] = ()) -> Goal:
    """Request a run now, which only a started job can do. It reads `stretches` again."""
    if job.deleting:
        raise Failure(Code.FAILED, "Deleting", "it is being deleted")
    if job.desired is DesiredState.STOPPED:
        raise Failure(
            Code.FAILED,
            "Stopped",
            f"the job is stopped; start it first: {command('start', *job.key)}",
        )
    value = request_of(micro_time(datetime.now(UTC)), stretches)
    return Ran(await cluster.request_run(job, value))


async def delete(cluster: NamespaceClient, job: JobView) -> Goal:
    """Delete the job; it stops first."""
    left = await cluster.delete(job)
    goal = Deleted(left or job)
    if left is None:
        goal.hear(None)
    return goal


VERBS: Mapping[str, Begin] = {"stop": stop, "start": start, "run": run, "delete": delete}


@dataclass
class Action:
    """One command over some jobs. `goals` and `results` fill while `carry_out` goes on."""

    verb: str
    chosen: Chosen
    wait: WaitLimit | None
    """None: do not wait. It counts from the beginning of `carry_out`; the writes are not cut short."""
    heard: Callable[["Action"], None] = lambda _: None
    """Called when there is something to wait for, and with each change."""

    def __post_init__(self) -> None:
        names = self.chosen.names
        self._names = None if names is None else [name_of(name) for name in names]
        self.goals: dict[str, Goal] = {}
        self._failures: dict[str, Result] = {}
        self._warnings: dict[str, str] = {}
        self._order: list[str] = []

    @property
    def open(self) -> list[Goal]:
        """Return what is still waited for."""
        return [goal for goal in self.goals.values() if goal.end is End.PENDING]

    async def carry_out(self, cluster: NamespaceClient) -> list[Result]:
        """Do it. Returns one result for each job, in the order of the names. Raises Failure when nothing was done."""
        wait = self.wait.seconds if self.wait is not None else None
        deadline = None if wait is None else asyncio.get_running_loop().time() + wait
        bodies: Sequence[Body | Failure]
        if self._names is None:
            bodies = await cluster.jobs(self.chosen)
            self._order = [body["metadata"]["name"] for body in bodies]
        else:
            self._order = list(dict.fromkeys(self._names))
            bodies = await cluster.find_each(self._order)
        found = dict(zip(self._order, bodies, strict=True))
        await each(lambda name: self._begin(cluster, name, found[name]), self._order)
        if self.wait is not None and self.open:
            self.heard(self)
            await settle(cluster, list(self.goals.values()), deadline, lambda: self.heard(self))
        return self.results(cluster.namespace)

    async def _begin(self, cluster: NamespaceClient, name: str, body: Body | Failure) -> None:
        try:
            if isinstance(body, Failure):
                raise body
            self.goals[name] = await VERBS[self.verb](cluster, JobView.of(body))
            if self.verb in ("stop", "start"):
                self._warnings[name] = _warning(body, self.goals[name])
        except Failure as e:
            if self._names is None and e.code is Code.NOT_FOUND:
                self._order.remove(name)  # it was deleted between the list and the write: there are the others
            else:
                self._failures[name] = failed(cluster.namespace, name, e)

    def results(self, namespace: str, *, interrupted: bool = False) -> list[Result]:
        """Return the result of each job so far; `interrupted`: there will be no more."""
        return [self._result(namespace, name, interrupted) for name in self._order]

    def _result(self, namespace: str, name: str, interrupted: bool) -> Result:
        if name in self._failures:
            return self._failures[name]
        goal = self.goals.get(name)
        if goal is None:
            message = f"interrupted: it is not known whether the {self.verb} was recorded"
            return Result(namespace, name, JobOutcome.FAILED, message, Code.INTERRUPTED, "Interrupted")
        result = Result(
            namespace, name, JobOutcome.DONE, goal.done, job=goal.newest, warning=self._warnings.get(name, "")
        )

        def ended(outcome: JobOutcome, code: Code, message: str) -> Result:
            reason = outcome.value if code is not Code.DONE else ""
            return replace(result, outcome=outcome, code=code, reason=reason, message=message)

        match goal.end:
            case End.DONE if isinstance(goal, Ran):
                return replace(result, message=f"{goal.done}: {goal.why}" if goal.why else goal.done)
            case End.DONE if isinstance(goal, Deleted):
                return replace(result, message=f"{goal.done}{_documents(goal.newest, done=True)}")
            case End.DONE:
                return replace(result, warning="; ".join(filter(None, (result.warning, goal.why))))
            case End.OVERTAKEN:
                return ended(JobOutcome.OVERTAKEN, Code.OVERTAKEN, goal.why)
            case End.FAILED:
                return ended(JobOutcome.FAILED, Code.FAILED, goal.why)
            case End.GONE if isinstance(goal, Stopped) and (self._names is None or goal.newest.deleting):
                return ended(JobOutcome.DELETED, Code.DONE, "deleted: nothing of it runs any more")
            case End.GONE:
                return ended(JobOutcome.DELETED, Code.NOT_FOUND, "it was deleted meanwhile")
            case _ if interrupted:
                return ended(JobOutcome.RECORDED, Code.INTERRUPTED, f"interrupted; the {self.verb} stands")
            case _ if self.wait is not None:
                return ended(JobOutcome.TIMED_OUT, Code.TIMED_OUT, _timed_out(goal, self.verb, self.wait.seconds or 0))
            case _ if isinstance(goal, Deleted):
                return ended(JobOutcome.RECORDED, Code.DONE, f"{goal.recorded}{_documents(goal.newest, done=False)}")
            case _ if goal.newest.deleting:
                return ended(JobOutcome.RECORDED, Code.DONE, "is being deleted, which stops it")
            case _:
                return ended(JobOutcome.RECORDED, Code.DONE, goal.recorded)


def _timed_out(goal: Goal, verb: str, wait: float) -> str:
    job, status = goal.newest, goal.newest.status
    text = f"not {goal.done} within {wait:g}s; it is {summary(job).text}. The {verb} stands"
    if status.observed_generation < job.generation:
        text += (
            f", but no operator has seen it yet (generation {job.generation}, observed {status.observed_generation})"
        )
    return f"{text}: {command('explain', *job.key)}"


def _documents(job: JobView, *, done: bool) -> str:
    """Say what becomes of the documents."""
    if job.raw_spec.get("deletionPolicy") == "Delete":
        return ", with its documents" if done else "; its documents go with it"
    if not (job.has_drain_finalizer or job.status.position):  # the finalizer is there before the first document
        return ""
    place = shlex.join([job.job_id, "--index", job.rollup_index])
    purge = f"; to delete them: {command('purge', job.namespace, place)}" if done else ""
    return f"; its documents stay in {job.rollup_index} (deletionPolicy: Retain){purge}"


def _warning(before: Body, goal: Goal) -> str:
    """Warn where Git owned the state before the write: it will write it again."""
    manager = gitops_owner(owners(before))
    if manager is None or before.get("spec", {}).get("desiredState") == goal.newest.spec_asks:
        return ""
    return (
        f"{manager} sets spec.desiredState from Git, so its next sync may undo this: change it in Git, or leave "
        "desiredState out there"
    )
