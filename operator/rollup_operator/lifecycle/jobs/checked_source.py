"""Remembers for which spec and in which store the source of one job was found good."""

from rollup_operator.model.conditions import READY
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import State

_For = tuple[str, tuple[str, int] | None]
"""The spec as JSON without `desiredState`, and the edition of its store."""


class CheckedSource:
    """What the last check of one job was for, and whether that is good."""

    __slots__ = ("_good", "_under_way")

    def __init__(self) -> None:
        self._good: _For | None = None
        self._under_way: _For | None = None

    def is_good(self, job: JobView, store: tuple[str, int] | None) -> bool:
        """Whether nothing has changed since the source was found good. `store`: its edition; None: there is none.

        Before this process has checked anything of the job, the status that an earlier process left counts: a restart
        of the operator must not check the sources of thousands of jobs.
        """
        if self._good is None and store is not None and _is_shown_as_good(job):
            self._good = (job.lasting_spec, store)
        return self._good == (job.lasting_spec, store)

    def begin(self, job: JobView, store: tuple[str, int] | None) -> None:
        """Note what is checked from now on."""
        self._under_way = (job.lasting_spec, store)

    def found_good(self) -> None:
        """Take in that the check has found nothing wrong."""
        self._good = self._under_way


def _is_shown_as_good(job: JobView) -> bool:
    """Whether the status says of this generation that the job is started and Ready, between two runs."""
    status = job.status
    if status.state is not State.STARTED or status.observed_generation != job.generation:
        return False
    return any(c.type == READY and c.status == "True" for c in status.conditions)
