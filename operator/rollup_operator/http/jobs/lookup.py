"""Finds the job that a call names, and reveals nothing beyond the caller's rights: it checks the right, then reads.

```
  the index knows the job ─────────────────▶ right to its name? ──▶ the job
  it does not ──▶ right to a name that       ──▶ GET ──▶ is it the job? ──▶ the job
                  such a job would have?
              ──▶ right to the id as given? ──▶ there is none
```
"""

from rollup_operator.http.access.permits import Permit
from rollup_operator.http.jobs.desired_state import DesiredStates
from rollup_operator.http.ports import Jobs
from rollup_operator.http.protocol import errors, state_errors
from rollup_operator.model.job_ids import candidates
from rollup_operator.model.job_view import JobView


class Lookup:
    """Finds jobs for callers."""

    def __init__(self, jobs: Jobs, states: DesiredStates) -> None:
        self._jobs, self._states = jobs, states

    async def find(self, namespace: str, job_id: str, permit: Permit) -> JobView | None:
        """Return the job with this id on which the permit allows the action; None: there is none.

        If the index may lag, the API server is read, but only for names to which the caller has the right.
        Raises ApiError 403; 503 when neither can be asked.
        """
        job = self._jobs.find(namespace, job_id) or await self._unseen(namespace, job_id, permit)
        await permit.require(job_id, job)
        if job is None and not self._jobs.synced:
            raise errors.unavailable("The list of jobs has not been read yet; nothing was changed. Try again shortly")
        return job

    async def existing(self, namespace: str, job_id: str, permit: Permit) -> JobView:
        """Return that job. Raises ApiError 404 where there is none, else as `find` does."""
        job = await self.find(namespace, job_id, permit)
        if job is None:
            raise state_errors.job_not_found(job_id)
        return job

    async def _unseen(self, namespace: str, job_id: str, permit: Permit) -> JobView | None:
        for name in candidates(job_id):
            if not await permit.may(name):
                continue
            found = await self._states.read(namespace, name)
            if found is not None and found.job_id == job_id:
                return found
            if found is None and name == job_id:
                break  # the other name is used only if another job has this one
        return self._jobs.find(namespace, job_id)
