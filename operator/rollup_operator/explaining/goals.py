"""What a job is waited for, one goal each: pure judgements of the bodies that a watch shows, in their order."""

from enum import Enum, auto
from typing import Any, ClassVar

from rollup_operator.explaining.summary import condition
from rollup_operator.model.conditions import READY, STALLED, Reason
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import Outcome, State
from rollup_operator.model.stop_verdict import Verdict, judge


class End(Enum):
    """How a wait ended, or that it has not."""

    PENDING = auto()
    DONE = auto()
    OVERTAKEN = auto()
    GONE = auto()
    FAILED = auto()


class Goal:
    """The goal for one job. `answer` is the job as the write left it; the first end other than PENDING stands."""

    aim: ClassVar[str]
    """As in `to …`."""
    recorded: ClassVar[str]
    done: ClassVar[str]
    gone: ClassVar[End] = End.GONE
    """How the wait ends if the job goes."""

    def __init__(self, answer: JobView) -> None:
        self.asked = answer.generation
        self.newest = answer
        self.end = End.PENDING
        self.why = ""
        """What to add to the end: the reason of a failure, or a remark on a success."""
        self.end = self._judge(answer)

    def hear(self, body: JobView | None) -> End:
        """Take the next body, or None for a job that is gone; one older than the newest is dropped."""
        if self.end is not End.PENDING:
            return self.end
        if body is None or body.uid != self.newest.uid:
            self.end = self.gone
        elif body.age >= self.newest.age:
            self.newest = body
            self.end = self._judge(body)
        return self.end

    def fail(self, why: str) -> None:
        """End the wait: it cannot go on."""
        if self.end is End.PENDING:
            self.end, self.why = End.FAILED, why

    def _judge(self, body: JobView) -> End:
        raise NotImplementedError


class Stopped(Goal):
    """The job is quiet, as of this stop: the endpoint's own judgement."""

    aim, recorded, done = "to stop", "asked to stop", "stopped"

    def _judge(self, body: JobView) -> End:
        verdict = judge(body, self.newest.uid, self.asked)
        if verdict is Verdict.OVERTAKEN:
            self.why = f"a newer start (generation {body.generation}) has overtaken this stop (generation {self.asked})"
        return {Verdict.STOPPED: End.DONE, Verdict.OVERTAKEN: End.OVERTAKEN}.get(verdict, End.PENDING)


class Started(Goal):
    """The job has accepted the start: it runs at its next tick, or does so now."""

    aim, recorded, done = "to start", "asked to start", "started"

    def _judge(self, body: JobView) -> End:
        if body.deleting:
            self.why = "it is being deleted"
            return End.FAILED
        if body.desired is DesiredState.STOPPED:
            if body.generation <= self.asked:
                return End.PENDING
            self.why = f"a newer stop (generation {body.generation}) has overtaken this start (generation {self.asked})"
            return End.OVERTAKEN
        if body.status.observed_generation < self.asked:
            return End.PENDING
        if body.status.state in (State.STARTED, State.INDEXING):
            ready = condition(body, READY)
            # The source of a job that starts is looked at first: no news.
            if ready is not None and ready.status == "False" and ready.reason != Reason.RECONCILING:
                self.why = f"it is not ready: {ready.reason}: {ready.message}"
            return End.DONE
        if (stalled := condition(body, STALLED)) is not None:
            self.why = f"{stalled.reason}: {stalled.message}"
            return End.FAILED
        return End.PENDING


class Ran(Goal):
    """A run that began at the request, or was under way when it came, has ended."""

    aim, recorded, done = "to run", "asked to run", "ran"

    def __init__(self, answer: JobView) -> None:
        self._request = answer.run_request
        self._before = _runs(answer)
        self._under_way = self._handled = False
        self._rows_before = _rows(answer)
        super().__init__(answer)

    @property
    def rows(self) -> int:
        """Return how many source rows the run has summarised so far, as far as that is reported."""
        return max(0, _rows(self.newest) - self._rows_before)

    def _judge(self, body: JobView) -> End:
        status = body.status
        # A later request may be handled during the run, which is no other run for that.
        self._handled = self._handled or status.last_handled_run_request == self._request
        if not self._handled:
            # What ends before the request is seen is another run.
            self._before = _runs(body)
            self._rows_before = _rows(body)
            if body.run_request != self._request and body.open_run_request is None:
                removed = body.run_request is None
                self.why = (
                    "the request for a run was removed before the operator saw it"
                    if removed
                    else "another request for a run has replaced it"
                )
                return End.OVERTAKEN
            return self._hopeless(body)
        if status.state is State.INDEXING:
            self._under_way = True  # it counts already, and the state after it shows its end
            return End.PENDING
        if status.state is State.STOPPING or (_runs(body) == self._before and not self._under_way):
            return self._hopeless(body)
        last = status.last_run
        self.why = last.message if last is not None else ""
        if last is not None and last.outcome is Outcome.HALTED:
            self.why = f"it was stopped meanwhile: {self.why}"
            return End.OVERTAKEN
        return End.DONE if last is None or last.outcome is Outcome.COMPLETED else End.FAILED

    def _hopeless(self, body: JobView) -> End:
        """End the wait if the request cannot lead to a run."""
        if body.deleting:
            self.why = "it is being deleted"
            return End.FAILED
        if body.desired is DesiredState.STOPPED and body.generation > self.asked:
            self.why = f"a stop (generation {body.generation}) came first"
            return End.OVERTAKEN
        stalled = condition(body, STALLED)
        current = body.status.observed_generation >= body.generation
        if stalled is not None and stalled.reason == Reason.INVALID_SPEC and current:
            self.why = f"{stalled.reason}: {stalled.message}"
            return End.FAILED
        return End.PENDING


class Deleted(Goal):
    """The job is gone."""

    aim, recorded, done, gone = "to be deleted", "is being deleted, and stops first", "deleted", End.DONE

    def _judge(self, body: JobView) -> End:
        return End.PENDING


def _rows(body: JobView) -> int:
    return body.status.stats.documents_processed if body.status.stats is not None else 0


def _runs(body: JobView) -> Any:
    """Return what differs after a run."""
    status = body.status
    return status.last_run, status.stats.trigger_count if status.stats is not None else 0
