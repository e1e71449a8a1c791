"""What a list shows of a job, as texts. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from markupsafe import Markup

from rollup_operator.explaining.summary import Mood, condition, summary
from rollup_operator.explaining.text import capital, sentence, short_age
from rollup_operator.http.ui.pictures.spark import spark
from rollup_operator.model.conditions import READY
from rollup_operator.model.counts import counted
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import LastRun, Outcome, State, shortened
from rollup_operator.model.times import instant_of

LONGEST_SENTENCE = 200
"""Characters of a condition's message in a list; the page of the job has all of it."""

LONGEST_PATTERN = 80

_OUTCOMES: Mapping[Outcome, Mood] = {Outcome.COMPLETED: Mood.GOOD, Outcome.HALTED: Mood.RESTING}


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job in a list."""

    key: str
    """Namespace and name: of no other job."""
    namespace: str
    job_id: str
    url: str
    what: str
    """What it rolls up, into what."""
    state: str
    mood: str
    reason: str
    """Why it is not ready, where the state does not say so; empty: nothing to add."""
    sentence: str
    lag: str
    watermark: str
    next_run: str
    next_at: str
    last_run: str
    last_at: str
    outcome: str
    """How the last run ended; empty if it completed, or if there was none."""
    outcome_mood: str
    runs: Markup
    """A picture of the documents of its latest runs; empty if none is known."""


def row(job: JobView, now: datetime, runs: Sequence[int] = ()) -> JobRow:
    """Return a job as a list shows it. `runs`: the documents of its latest runs, the latest one last."""
    said, status, ready = summary(job), job.status, condition(job, READY)
    last = status.last_run
    failed = last is not None and last.outcome is not Outcome.COMPLETED
    message = "" if ready is None else sentence(shortened(ready.message, LONGEST_SENTENCE))
    return JobRow(
        key=f"{job.namespace}/{job.name}",
        namespace=job.namespace,
        job_id=job.job_id,
        url=job_url(job.namespace, job.job_id),
        what=f"{shortened(job.index_pattern, LONGEST_PATTERN)} → {shortened(job.rollup_index, LONGEST_PATTERN)}",
        state=said.text,
        mood=said.mood.value,
        reason=""
        if ready is None or ready.status == "True" or ready.reason.lower() in said.text.lower()
        else ready.reason,
        sentence=capital(message),
        lag=short_age(instant_of(status.watermark), now),
        watermark=to_the_minute(status.watermark),
        next_run=next_run(job, now),
        next_at=to_the_minute(status.next_run_time),
        last_run="-" if last is None else f"{short_age(instant_of(last.end_time), now)} ago",
        last_at=to_the_minute(last.end_time if last is not None else None),
        outcome=last.outcome.lower() if failed and last is not None else "",
        outcome_mood=_outcome_mood(last),
        runs=spark(runs, label=_runs_in_words(runs)) if runs else Markup(),
    )


def trail(job: JobView) -> Mapping[str, str]:
    """Return what a page below a job's own links to: the way to it."""
    return {
        "namespace": job.namespace,
        "list_url": namespace_url(job.namespace),
        "job_id": job.job_id,
        "url": job_url(job.namespace, job.job_id),
    }


def job_url(namespace: str, job_id: str) -> str:
    """Return the address of a job's page."""
    return f"{namespace_url(namespace)}/{quote(job_id, safe='')}"


def namespace_url(namespace: str) -> str:
    """Return the address of the list of a namespace's jobs."""
    return f"/ui/namespaces/{quote(namespace, safe='')}/jobs"


def new_job_url(namespace: str) -> str:
    """Return the address of the form for a new job."""
    return f"/ui/namespaces/{quote(namespace, safe='')}/new-job"


def next_run(job: JobView, now: datetime) -> str:
    """Say when the job runs next; `-` if it does not."""
    tick = instant_of(job.status.next_run_time)
    if tick is None or job.status.state is State.STOPPED:
        return "-"
    if tick > now:
        return f"in {short_age(now, tick)}"
    return "now" if job.status.state is State.INDEXING else f"{short_age(tick, now)} late"


def to_the_minute(text: str | None) -> str:
    """Write a time of the API server to the minute; empty if there is none."""
    when = instant_of(text)
    return "" if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")


def _runs_in_words(runs: Sequence[int]) -> str:
    return f"Documents of the last {counted(len(runs), 'run')}: at most {max(runs):,}, {runs[-1]:,} at last"


def _outcome_mood(last: LastRun | None) -> str:
    return (Mood.RESTING if last is None else _OUTCOMES.get(last.outcome, Mood.BAD)).value
