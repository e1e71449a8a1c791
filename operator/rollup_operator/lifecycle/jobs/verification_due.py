"""Decides whether a job is verified now, by spec.verify. Pure.

`states` decides everything else, and that a verification ends where the job is to stop.
"""

from dataclasses import replace
from datetime import datetime

from rollup_operator.lifecycle.jobs import states
from rollup_operator.lifecycle.jobs.states import PATIENCE, Act, Decision, Facts, is_accepted
from rollup_operator.model.job_view import Ask, JobView


def decide(job: JobView, facts: Facts, now: datetime) -> Decision:
    """Decide what to do for a job now, the verification that is to begin included, or when the next one is due.

    One that is due begins once it may: beside a run, but not in the same turn.
    """
    decision = states.decide(job, facts, now)
    if (times := facts.times) is None or job.ask is not Ask.STARTED or facts.gone:
        return decision
    due, following = times.tick(now, under_way=facts.verification is not None)
    may_begin = due and not facts.draining and facts.store_trouble is None and is_accepted(job) and _is_rolled_up(job)
    if may_begin and decision.act is Act.NOTHING:
        return replace(decision, act=Act.VERIFY, next_verification=times.after(now))
    waits = [decision.recheck_in]
    if may_begin:
        waits.append(PATIENCE)
    elif following is not None and following > now:
        waits.append((following - now).total_seconds())
    recheck = min((w for w in waits if w is not None), default=None)
    return replace(decision, next_verification=following, recheck_in=recheck)


def _is_rolled_up(job: JobView) -> bool:
    """Whether there is something to verify; the finalizer lets a deletion wait for the verification's end."""
    status = job.status
    return job.has_drain_finalizer and (status.position is not None or status.watermark is not None)
