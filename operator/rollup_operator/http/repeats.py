"""Calls whose sender may have got no good answer, remembered so that a repeat by a client or a proxy does no harm.

A stop that was not answered in time is sent again by many clients. If somebody has started the job in between, the
repeat would undo that start, though nobody meant it to. The same holds for a start and a newer stop.

The memory is that of one process, bounded and short. A call that was answered well is never in it: who stops, starts
and stops again is obeyed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rollup_operator.model.job import DesiredState
from rollup_operator.model.reader import JobView

GRACE = 5.0
"""Seconds that a repeat may come later than the end of the call that it repeats."""

LIMIT = 10_000
"""So many calls are remembered; beyond that the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What makes two calls the same: caller, job, and what is asked for in the same words."""

    caller: str
    uid: str
    text: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """A call that ended without a good answer."""

    state: DesiredState
    generation: int
    """The generation that asks for the state, if the call's write was carried out."""
    until: float
    """When it is too late for a repeat, by the holder's clock."""


def expected_generation(job: JobView, state: DesiredState) -> int:
    """Return the generation of the job once `state` is written to this version of it."""
    return job.generation + (job.raw_spec.get("desiredState") != state.value)


def overtaken(doubt: Doubt, job: JobView) -> bool:
    """Whether somebody has asked for the opposite after that call, as this version of the job shows."""
    return job.desired is not doubt.state and job.generation > doubt.generation


class Repeats:
    """Remembers calls in doubt. `now` is a clock in seconds."""

    def __init__(self, now: Callable[[], float], *, limit: int = LIMIT) -> None:
        self._now, self._limit = now, limit
        self._doubts: dict[Asked, Doubt] = {}

    def __len__(self) -> int:
        return len(self._doubts)

    def recall(self, asked: Asked) -> Doubt | None:
        """Return the same call if it was made before and is still in doubt."""
        doubt = self._doubts.get(asked)
        if doubt is not None and doubt.until < self._now():
            del self._doubts[asked]
            return None
        return doubt

    def remember(self, asked: Asked, state: DesiredState, generation: int, *, until: float) -> None:
        """Note that a call was not answered well; `until` is when its own time is over, if that is still to come."""
        now = self._now()
        self.forget(asked)  # the newest stands last
        self._doubts[asked] = Doubt(state, generation, max(now, until) + GRACE)
        while (oldest := next(iter(self._doubts))) != asked and (
            len(self._doubts) > self._limit or self._doubts[oldest].until < now
        ):
            del self._doubts[oldest]

    def forget(self, asked: Asked) -> None:
        """Note that the call was answered well."""
        self._doubts.pop(asked, None)
