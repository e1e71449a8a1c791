"""How commands show jobs: the columns of `get` and the page of `status`. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rollup_operator.model.conditions import READY
from rollup_operator.model.job_view import JobView
from rollup_operator.model.times import duration, instant_of, rfc3339_ms
from rollup_operator.plugin.goals import condition
from rollup_operator.plugin.owners import FieldOwner, owners
from rollup_operator.plugin.text import ago, ahead, table

HEADS = ("NAME", "ASKED", "STATE", "READY", "WATERMARK", "LAST RUN", "NEXT RUN", "AGE")
WIDE = ("REASON", "SOURCE", "TARGET", "ASKED BY", "MESSAGE")
LONGEST = 80


def listing(bodies: Sequence[Mapping[str, Any]], now: datetime, *, wide: bool, namespaces: bool) -> list[str]:
    """Return jobs as the lines of a table."""
    heads = (("NAMESPACE",) if namespaces else ()) + HEADS + (WIDE if wide else ())
    return table(heads, [_row(body, now, wide=wide, namespaces=namespaces) for body in bodies])


def _row(body: Mapping[str, Any], now: datetime, *, wide: bool, namespaces: bool) -> list[str]:
    job = JobView.of(body)
    status, ready = job.status, condition(job, READY)
    cells = [job.namespace] if namespaces else []
    cells += [job.name, _asked(job), status.state or "-", _is_ready(job), status.watermark or "-"]
    last = status.last_run
    cells.append(f"{last.outcome} {ago(instant_of(last.end_time), now)}" if last is not None else "-")
    next_run = instant_of(status.next_run_time)
    cells.append(ahead(next_run, now))
    created = instant_of(body["metadata"].get("creationTimestamp"))
    cells.append(duration((now - created).total_seconds()) if created is not None else "-")
    if wide:
        reason, message = (ready.reason, ready.message) if ready is not None else ("-", "-")
        found = owners(body)
        cells += [reason, str(job.raw_spec.get("indexPattern", "-")), str(job.raw_spec.get("rollupIndex", "-"))]
        cells += [
            found[0].manager if found else "-",
            message if len(message) <= LONGEST else f"{message[: LONGEST - 3]}...",
        ]
    return cells


def page(body: Mapping[str, Any], now: datetime) -> list[tuple[str, str]]:
    """Return everything that is known of a job as labels and values; an empty label goes on with the one before."""
    job = JobView.of(body)
    status, spec = job.status, job.raw_spec
    lines = [("Job", f"{job.namespace}/{job.name}" + (f" (id {job.job_id})" if job.job_id != job.name else ""))]
    seen = "" if status.observed_generation >= job.generation else _unseen(job)
    lines.append(("State", f"{status.state or 'none yet'}{seen}"))
    lines.append(("Asked", f"{_asked(job)}{_by(owners(body), now)}"))
    for shown in status.conditions:
        since = ago(instant_of(shown.last_transition_time), now)
        lines.append((shown.type, f"{shown.status} {shown.reason}, since {since}"))
        if shown.type == READY and shown.message:
            lines.append(("", shown.message))
    if (progress := status.progress) is not None:
        left = progress.remaining_seconds
        lines.append(("Progress", f"{progress.percent} %" + ("" if left is None else f", about {duration(left)} left")))
    lines.append(("Watermark", status.watermark or "none: no run has come to its end"))
    lines.append(("Position", position(status.position)))
    if (last := status.last_run) is not None:
        began, ended = instant_of(last.start_time), instant_of(last.end_time)
        took = f", took {duration((ended - began).total_seconds())}" if began and ended else ""
        lines += [
            ("Last run", f"{last.outcome} {ago(ended, now)}{took}"),
            *([("", last.message)] if last.message else []),
        ]
    else:
        lines.append(("Last run", "none"))
    next_run = status.next_run_time
    lines.append(("Next run", f"{next_run}, {ahead(instant_of(next_run), now)}" if next_run else "none"))
    lines.append(("Schedule", f"{spec.get('cron', '-')} (UTC)"))
    lines.append(
        ("Rolls up", f"{spec.get('indexPattern', '-')} into {spec.get('rollupIndex', '-')}, store {job.store_name}")
    )
    if (stats := status.stats) is not None:
        lines.append(
            (
                "Counters",
                f"{stats.documents_processed} source documents, {stats.rollups_indexed} rolled up, "
                f"{stats.pages_processed} pages, {stats.trigger_count} runs",
            )
        )
    lines.append(("Generation", f"{job.generation}, observed {status.observed_generation}"))
    return lines


def document(body: Mapping[str, Any], sentences: Sequence[str]) -> dict[str, Any]:
    """Return a job's page for programs: its status, who requested it, and what `explain` says."""
    job = JobView.of(body)
    return {
        "namespace": job.namespace,
        "name": job.name,
        "uid": job.uid,
        "jobId": job.job_id,
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


def _asked(job: JobView) -> str:
    if job.deleting:
        return "deleted"
    return job.desired.value if job.ever_asked else "never"


def _is_ready(job: JobView) -> str:
    ready = condition(job, READY)
    return ready.status if ready is not None and job.status.observed_generation >= job.generation else "Unknown"


def _unseen(job: JobView) -> str:
    return f", as of generation {job.status.observed_generation}: the operator has not seen {job.generation} yet"


def _by(found: Sequence[FieldOwner], now: datetime) -> str:
    named = [
        f"{owner.manager}{' (Git)' if owner.is_gitops else ''}{f' {ago(owner.time, now)}' if owner.time else ''}"
        for owner in found
    ]
    return f" by {', '.join(named)}" if named else ""
