"""Reports that the desired state of a job was set back."""

import asyncio

from rollup_operator.kube.events import Regarding
from rollup_operator.lifecycle.jobs.context import JobContext
from rollup_operator.lifecycle.jobs.reverts import StateChange, noticed
from rollup_operator.model.conditions import Reason
from rollup_operator.model.job_view import JobView


def notice_revert(
    last: StateChange | None, before: JobView, after: JobView, env: JobContext, *, report: bool
) -> StateChange | None:
    """Take in a newer view, and report a revert if asked to. Returns the change to remember."""
    change, revert = noticed(last, before, after, asyncio.get_running_loop().time())
    if revert is not None and report and env.gate.open:
        message = revert.describe(env.gitops_managers)
        env.observer.reverted(after, message)
        if revert.is_news:
            env.events.record(Regarding.job(after), Reason.DESIRED_STATE_REVERTED, message)
    return change
