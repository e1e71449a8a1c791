"""How commands show jobs: the columns of `get`, the page of `status`, the lines of `events`. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rollup_operator.explaining.owners import FieldOwner, owners
from rollup_operator.explaining.summary import Mood, condition, summary
from rollup_operator.explaining.text import ago, ahead, event_time, moment, short_age, spoken
from rollup_operator.model.conditions import READY, VERIFIED
from rollup_operator.model.counts import counted
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import JobStats, LastRun, Outcome, State, newest_bucket
from rollup_operator.model.times import instant_of, rfc3339, rfc3339_ms
from rollup_operator.plugin.tables import Cell, Styled

HEADS = ("NAME", "STATUS", "WATERMARK", "NEWEST", "LAST RUN", "NEXT RUN", "AGE")
WIDE = ("DESIRED", "SET BY", "VERIFIED", "SOURCE", "TARGET", "MESSAGE")
SPARE = ("AGE", "NEWEST", "NEXT RUN", "LAST RUN", "WATERMARK")
"""Columns of a list that a narrow terminal goes without, the first one first."""
WIDE_SPARE = ("AGE", "DESIRED", "TARGET", "SOURCE", "NEXT RUN", "NEWEST", "SET BY", "WATERMARK", "LAST RUN", "VERIFIED")
"""The same of a wide list: its messages are what it is for."""

COLOURS: Mapping[Mood, str | None] = {
    Mood.GOOD: "green",
    Mood.RESTING: None,
    Mood.CHANGING: "yellow",
    Mood.BAD: "red",
}


def heads(*, wide: bool, namespaces: bool) -> tuple[str, ...]:
    """Return the names of the columns of a list."""
    return (("NAMESPACE",) if namespaces else ()) + HEADS + (WIDE if wide else ())


def row(body: Mapping[str, Any], now: datetime, *, wide: bool, namespaces: bool) -> list[Cell]:
    """Return a job as a line of a list."""
    job = JobView.of(body)
    status = job.status
    cells: list[Cell] = [job.namespace] if namespaces else []
    cells += [job.name, _summary(job), moment(status.watermark), _newest(status.position)]
    cells += [_last_run(status.last_run, now), _next_run(job, now)]
    cells.append(short_age(instant_of(body["metadata"].get("creationTimestamp")), now))
    if wide:
        ready, found = condition(job, READY), owners(body)
        cells += [_asked(job), found[0].manager if found else "-", _verified(job)]
        cells += [str(job.raw_spec.get("indexPattern", "-")), str(job.raw_spec.get("rollupIndex", "-"))]
        cells.append(ready.message if ready is not None else "-")
    return cells


def _verified(job: JobView) -> Cell:
    """Say whether the documents are what the source gives, as far as anybody knows."""
    shown = condition(job, VERIFIED)
    if shown is None:
        return "-"
    return Styled(shown.reason, colour="red") if shown.status == "False" else shown.reason


EVENT_HEADS = ("LAST SEEN", "TYPE", "REASON", "TIMES", "JOB", "MESSAGE")


def event_row(event: Mapping[str, Any], now: datetime) -> list[Cell]:
    """Return an event as a line of a list."""
    warns = event.get("type") == "Warning"
    times = (event.get("series") or {}).get("count") or event.get("count") or 1
    colour = "yellow" if warns else None
    about = event.get("involvedObject") or {}
    cells: list[Cell] = [Styled(str(event.get(field, "-")), colour=colour) for field in ("type", "reason")]
    cells += [f"{times}", str(about.get("name", "-"))]
    return [f"{short_age(event_time(event), now)} ago", *cells, str(event.get("message", ""))]


def page(body: Mapping[str, Any], now: datetime) -> list[tuple[str, Cell]]:
    """Return everything that is known of a job as labels and values; an empty label goes on with the one before."""
    job = JobView.of(body)
    status, spec, ready = job.status, job.raw_spec, condition(job, READY)
    named = f"{job.namespace}/{job.name}" + (f" (id {job.job_id})" if job.job_id != job.name else "")
    lines: list[tuple[str, Cell]] = [("Job", named), ("Status", _summary(job))]
    told = set()
    if ready is not None and ready.message:
        told.add(ready.message)
        lines.append(("", ready.message))
    lines.append(("Desired", f"{_asked(job)}{_by(owners(body), now)}"))
    for shown in status.conditions:
        since = instant_of(shown.last_transition_time)
        lasts = f" for {spoken((now - since).total_seconds())}" if since is not None else ""
        lines.append((shown.type, f"{shown.status}{lasts}, {shown.reason}"))
        if shown.message and shown.message not in told:
            told.add(shown.message)
            lines.append(("", shown.message))
    if (progress := status.progress) is not None:
        left = progress.remaining_seconds
        lines.append(("Progress", f"{progress.percent} %" + ("" if left is None else f", about {spoken(left)} left")))
    lines.append(("Watermark", _complete(status.watermark)))
    if newest_bucket(status.position) is not None:
        lines.append(("Newest", f"{_newest(status.position)}, the last bucket that is written"))
    lines.append(("Position", position(status.position)))
    lines += _run(status.last_run, told, now)
    tick = instant_of(status.next_run_time)
    if tick is not None and tick <= now and status.state is State.INDEXING:
        lines.append(("Next run", "at the next tick after this one"))
    else:
        lines.append(("Next run", f"{moment(status.next_run_time)}, {ahead(tick, now)}" if tick else "none"))
    lines.append(("Schedule", f"{spec.get('cron', '-')} (UTC)"))
    if isinstance(verify := spec.get("verify"), Mapping):
        last = status.last_verification
        lines.append(("Verifies", f"{verify.get('cron', '-')} (UTC)"))
        if last is not None:
            lines.append(("Last verified", f"{moment(last.end_time)}, {ago(instant_of(last.end_time), now)}"))
    lines.append(
        ("Rolls up", f"{spec.get('indexPattern', '-')} into {spec.get('rollupIndex', '-')}, store {job.store_name}")
    )
    if (stats := status.stats) is not None:
        lines.append(("Counters", _counters(stats)))
    seen = status.observed_generation
    late = "" if seen >= job.generation else f": the operator has not seen {job.generation} yet"
    lines.append(("Generation", f"{job.generation}, observed {seen}{late}"))
    return lines


def document(body: Mapping[str, Any], sentences: Sequence[str]) -> dict[str, Any]:
    """Return a job's page for programs: its status, who requested it, and what `explain` says."""
    job = JobView.of(body)
    return {
        "namespace": job.namespace,
        "name": job.name,
        "uid": job.uid,
        "jobId": job.job_id,
        "summary": summary(job).text,
        "asked": job.ask.value,
        "askedBy": [
            {
                "manager": owner.manager,
                "time": owner.time.isoformat() if owner.time else None,
                "gitops": owner.is_gitops,
            }
            for owner in owners(body)
        ],
        "generation": job.generation,
        "status": dict(job.raw_status),
        "explanation": list(sentences),
    }


def position(found: Mapping[str, Any] | None) -> str:
    """Write the key of the last bucket: `time_hour 2013-12-31T23:00:00Z, carrier WN`."""
    if not found:
        return "none: nothing is written yet"
    parts = []
    for key, value in sorted(found.items(), key=lambda item: (not item[0].endswith(".date_histogram"), item[0])):
        field, _, kind = key.rpartition(".")
        is_time = kind == "date_histogram" and isinstance(value, int | float)
        parts.append(f"{field or key} {rfc3339_ms(int(value)) if is_time else value}")
    return ", ".join(parts)


def _newest(found: Mapping[str, Any] | None) -> str:
    began = newest_bucket(found)
    return moment(None if began is None else rfc3339(began))


def _summary(job: JobView) -> Styled:
    said = summary(job)
    return Styled(said.text, colour=COLOURS[said.mood], dim=said.text == "never started")


def _last_run(last: LastRun | None, now: datetime) -> Cell:
    if last is None:
        return "-"
    when = f"{short_age(instant_of(last.end_time), now)} ago"
    if last.outcome is Outcome.COMPLETED:
        return when
    return Styled(f"{last.outcome.lower()} {when}", colour="yellow" if last.outcome is Outcome.HALTED else "red")


def _next_run(job: JobView, now: datetime) -> str:
    tick = instant_of(job.status.next_run_time)
    if tick is None:
        return "-"
    if tick > now:
        return f"in {short_age(now, tick)}"
    return "now" if job.status.state is State.INDEXING else f"{short_age(tick, now)} late"


def _complete(watermark: str | None) -> str:
    if watermark is None:
        return "none: no run has completed yet"
    return f"{moment(watermark)}: everything before it is rolled up"


def _run(last: LastRun | None, told: set[str], now: datetime) -> list[tuple[str, Cell]]:
    if last is None:
        return [("Last run", "none")]
    began, ended = instant_of(last.start_time), instant_of(last.end_time)
    took = f", took {spoken((ended - began).total_seconds())}" if began and ended else ""
    text = f"{last.outcome.lower()} {ago(ended, now)}{took}"
    colour = None if last.outcome is Outcome.COMPLETED else "yellow" if last.outcome is Outcome.HALTED else "red"
    message = next((last.message.removeprefix(said) for said in told if last.message.startswith(said)), last.message)
    if any(message in said for said in told):
        message = ""
    message = message.lstrip("; ")
    return [("Last run", Styled(text, colour=colour)), *([("", message)] if message else [])]


def _counters(stats: JobStats) -> str:
    return (
        f"{stats.documents_processed:,} source documents, {stats.rollups_indexed:,} rolled up, "
        f"{counted(stats.pages_processed, 'page')}, {counted(stats.trigger_count, 'run')}"
    )


def _asked(job: JobView) -> str:
    if job.deleting:
        return "deleted"
    return job.desired.value if job.ever_asked else "never set"


def _by(found: Sequence[FieldOwner], now: datetime) -> str:
    named = [
        f"{owner.manager}{' (Git)' if owner.is_gitops else ''}{f' {ago(owner.time, now)}' if owner.time else ''}"
        for owner in found
    ]
    return f", set by {', '.join(named)}" if named else ""
