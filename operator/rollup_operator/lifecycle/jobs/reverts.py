"""Notices that the desired state of a job is set back: one asks for it, and another undoes that minutes later. Pure.

    rollup-api asks for stopped      argocd-controller sets started
    ────────────┼──────────────────────────────┼─────────────────────▶
                └──────── at most WINDOW ──────┘

Nobody did anything wrong, so the status of the job shows one that is well. Who asked is read from the field managers of
spec.desiredState: whoever changes a field is its only owner. One manager may change its own mind at any time.
"""

from collections.abc import Collection
from dataclasses import dataclass

from rollup_operator.freed_memory import lasting
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.times import duration

WINDOW = 600.0
"""Seconds: longer than the intervals at which Argo CD and Flux usually sync."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """The last change of a job's desired state that was seen."""

    desired: DesiredState
    by: str
    """The field manager that made it."""
    at: float
    reverts: int
    """How many changes, this one included, each set the one before back."""


@dataclass(frozen=True, slots=True)
class Revert:
    """A change of the desired state that undoes another manager's."""

    asked: DesiredState
    asked_by: str
    set_back_by: str
    after: float
    """Seconds between the two changes."""
    times: int
    """How many changes in a row did so."""

    @property
    def is_news(self) -> bool:
        """Whether an event is due: the first time, the second, the fourth and so on, as a fight may last for days."""
        return self.times & (self.times - 1) == 0

    def describe(self, gitops_managers: Collection[str]) -> str:
        """Say who did what, and what to do. `gitops_managers` set a field again at each sync."""
        back = DesiredState.STARTED if self.asked is DesiredState.STOPPED else DesiredState.STOPPED
        again = "" if self.times == 1 else f" ({self.times} changes in a row undo each other)"
        passed = duration(self.after) if self.after >= 1 else "less than a second"
        happened = (
            f"{self.asked_by} asked for {self.asked}, and {passed} later {self.set_back_by} set "
            f"spec.desiredState back to {back}{again}"
        )
        in_git = "change desiredState in Git, or leave it out of the manifest so that others may set it"
        if self.set_back_by in gitops_managers:
            return f"{happened}: {in_git}"
        if self.asked_by in gitops_managers:
            return f"{happened}, which the next sync of {self.asked_by} undoes: {in_git}"
        return f"{happened}: agree on who sets it; kubectl get -o yaml --show-managed-fields shows who has set what"


@lasting
def noticed(
    last: StateChange | None, before: JobView, after: JobView, now: float
) -> tuple[StateChange | None, Revert | None]:
    """Take in a newer view of a job, `now` by a clock without steps.

    Returns the change to remember, and the revert if the new view is one.
    """
    if after.desired is before.desired or not after.owners or after.deleting:
        return last, None
    by = after.owners[0]
    fresh = last is not None and last.by != by and last.desired is before.desired and now - last.at <= WINDOW
    if last is None or not fresh:
        return StateChange(after.desired, by, now, 0), None
    change = StateChange(after.desired, by, now, last.reverts + 1)
    return change, Revert(last.desired, last.by, by, now - last.at, change.reverts)
