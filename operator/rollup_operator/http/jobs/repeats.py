"""Remembers calls whose sender may get no good answer, so that a repeat by a client or a proxy does no harm.

Many clients send a stop again that was not answered in time. If somebody has started the job in between, the repeat
would undo that start, though nobody meant it to. The same holds for a start and a newer stop.

A call is remembered from its beginning: a client that gives up repeats it before the first call has ended here. The
memory is per process, bounded and short. A call that was answered well is forgotten: a user who stops, starts and
stops again is obeyed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView

GRACE = 5.0
"""Seconds after the end of a call within which a repeat of it may come."""

LIMIT = 10_000
"""How many calls are remembered; beyond that the oldest of the caller who has most are forgotten."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What makes two calls the same: the caller, the job, and the same text."""

    caller: str
    uid: str
    text: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """A call in progress, or one that ended without a good answer."""

    state: DesiredState
    generation: int
    """The generation that requests the state, if the call's write was carried out."""
    until: float
    """When a repeat is too late, by the holder's clock."""


def expected_generation(job: JobView, state: DesiredState) -> int:
    """Return the generation of the job once `state` is written to this version of it."""
    return job.generation + (job.spec_asks != state.value)


def overtaken(doubt: Doubt, job: JobView) -> bool:
    """Whether somebody has requested the opposite after that call, as this version of the job shows."""
    return job.desired is not doubt.state and job.generation > doubt.generation


class Repeats:
    """Remembers calls in doubt. `now` is a clock in seconds."""

    def __init__(self, now: Callable[[], float], *, limit: int = LIMIT) -> None:
        self._now, self._limit = now, limit
        self._under_way: dict[Asked, Doubt] = {}
        self._ended: dict[str, dict[Asked, Doubt]] = {}
        """By caller, the newest last."""
        self._count = 0

    def __len__(self) -> int:
        """Return how many calls that have ended are remembered."""
        return self._count

    def recall(self, asked: Asked) -> Doubt | None:
        """Return the same call if it was made before and is still in doubt."""
        if (doubt := self._under_way.get(asked)) is not None:
            return doubt
        doubt = self._ended.get(asked.caller, {}).get(asked)
        if doubt is not None and doubt.until < self._now():
            self._drop(asked)
            return None
        return doubt

    def begin(self, asked: Asked, state: DesiredState, generation: int) -> Doubt:
        """Note that a call begins. It is in doubt until `end`."""
        doubt = self._under_way[asked] = Doubt(state, generation, math.inf)
        return doubt

    def end(self, asked: Asked, doubt: Doubt) -> None:
        """Note that the call is over, one way or another."""
        if self._under_way.get(asked) is doubt:
            del self._under_way[asked]

    def remember(self, asked: Asked, doubt: Doubt, *, until: float) -> None:
        """Note that a call got no good answer; `until` is the end of its own time, if that is still to come."""
        now = self._now()
        self._drop(asked)  # the newest stands last
        self._ended.setdefault(asked.caller, {})[asked] = replace(doubt, until=max(now, until) + GRACE)
        self._count += 1
        if self._count > self._limit:
            self.forget_late()
        if self._count > self._limit:
            most: dict[Asked, Doubt] = max(self._ended.values(), key=len)
            self._drop(next(iter(most)))

    def forget_late(self) -> bool:
        """Forget calls whose repeat would now be too late; return whether any is left."""
        now = self._now()
        for late in [asked for of in self._ended.values() for asked, doubt in of.items() if doubt.until < now]:
            self._drop(late)
        return bool(self._ended)

    def forget(self, asked: Asked, doubt: Doubt) -> None:
        """Note that the sender has got a good answer, which ends this doubt and earlier ones."""
        self.end(asked, doubt)
        self._drop(asked)

    def _drop(self, asked: Asked) -> None:
        mine = self._ended.get(asked.caller, {})
        if mine.pop(asked, None) is not None:
            self._count -= 1
            if not mine:
                del self._ended[asked.caller]
