"""Decides from bodies whether a stop has been carried out, for the endpoint and the kubectl plugin. Pure."""

from dataclasses import dataclass
from enum import Enum

from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import State


class Verdict(Enum):
    """What a body says about a stop."""

    WAIT = "wait"
    STOPPED = "stopped"
    OVERTAKEN = "overtaken"
    GONE = "gone"
    SHUTDOWN = "shutdown"
    """No body says this: the process ends."""


def judge(body: JobView, uid: str, generation: int) -> Verdict:
    """Decide from this body alone whether the stop of `generation` of the job `uid` has been carried out."""
    if body.uid != uid:
        return Verdict.GONE
    if body.desired is DesiredState.STARTED:
        # A body of an earlier generation is older than the stop, and a job that is being deleted never starts again.
        return Verdict.OVERTAKEN if body.generation > generation and not body.deleting else Verdict.WAIT
    if body.status.state is State.STOPPED and body.status.observed_generation >= generation:
        return Verdict.STOPPED
    return Verdict.WAIT


@dataclass(slots=True)
class StopProgress:
    """The views of one stop, in whatever order they come. The first verdict other than WAIT is final.

    For a start, only `accepted` has a meaning.
    """

    uid: str
    generation: int | None = None
    """The generation to wait for; None until the stop is written. Until then views are kept, not judged."""
    newest: JobView | None = None
    gone: bool = False
    verdict: Verdict = Verdict.WAIT

    @property
    def accepted(self) -> bool:
        """Whether the operator has observed the write, or the job is gone."""
        if self.gone:
            return True
        return (
            self.generation is not None
            and self.newest is not None
            and self.newest.status.observed_generation >= self.generation
        )

    def hear(self, body: JobView | None) -> Verdict:
        """Take a body, or None for a job that is gone; older bodies than the newest are dropped."""
        if body is None or body.uid != self.uid:
            self.gone = True
        elif self.newest is None or body.age >= self.newest.age:
            self.newest = body
        return self._judge()

    def written(self, answer: JobView) -> Verdict:
        """Take the answer of the write, whose generation is the one to wait for."""
        self.generation = answer.generation
        # Judge it by itself first: it may be the only body that shows the stop, if a start follows at once.
        self.verdict = judge(answer, self.uid, answer.generation)
        return self.hear(answer)

    def _judge(self) -> Verdict:
        if self.verdict is Verdict.WAIT and self.generation is not None:
            if self.newest is not None:
                self.verdict = judge(self.newest, self.uid, self.generation)
            if self.verdict is Verdict.WAIT and self.gone:
                self.verdict = Verdict.GONE
        return self.verdict
