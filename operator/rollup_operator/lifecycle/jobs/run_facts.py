"""What is known of the tasks of a job."""

from dataclasses import dataclass
from enum import Enum, auto

FIRST_REPORTS = (2.0, 5.0, 10.0, 30.0)
"""Seconds after a run began at which its progress is reported: somebody may be waiting for it."""

REFRESH = 30.0
"""Seconds between two reports after those."""


class RunKind(Enum):
    """What the job's one run task is for."""

    CHECK = auto()
    """Check the source of a started job that has not been rolled up yet. Claims and changes nothing."""
    INDEX = auto()
    """Wait for a slot, claim, write pages, release."""
    SETTLE = auto()
    """Release what a dead process left; if the job is being deleted, remove what the deletion policy says."""
    VERIFY = auto()
    """Compare what is rolled up with the source. Beside the run task: it claims and changes nothing."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The run task, or the verification, that exists now."""

    kind: RunKind
    age: float
    """Seconds since it began."""
    halted: float | None
    """Seconds since it was asked to halt; None: it was not."""
    doing: str
    """What it does, for people."""
    waits: bool = False
    """It waits for what `doing` says, and has done nothing yet."""


def report_in(run: RunFacts | None, report_age: float) -> float:
    """Return the seconds until a run's progress is reported again, `report_age` after it was last; 0: now."""
    age = run.age if run is not None else 0.0
    last = age - report_age
    return max(0.0, next((at - age for at in FIRST_REPORTS if at > last), REFRESH - report_age))
