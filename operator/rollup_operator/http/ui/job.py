"""What the page of one job shows, as texts. Pure."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import orjson
import yaml

from rollup_operator.explaining.cures import cure_of
from rollup_operator.explaining.explain import Seen, Sentence, explain
from rollup_operator.explaining.summary import Mood, Summary, summary
from rollup_operator.explaining.text import ago, ahead, capital, command, moment, sentence, spoken
from rollup_operator.model.base import ALSO_WATCHED_BY, API_VERSION, CREATION_ID, RUN_REQUESTED_AT
from rollup_operator.model.conditions import READY, VERIFIED
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.schedule_words import schedule_in_words
from rollup_operator.model.status import Condition, LastRun, Outcome, State
from rollup_operator.model.times import instant_of

LONGEST_MANIFEST = 32 * 1024
"""Bytes of the JSON of a manifest that is shown: a page stays below 100 kB."""

MOST_NAMED = 12
"""Fields and metrics that are named; the manifest has all."""

_MANAGED = ("managedFields", "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink", "finalizers")
_NOT_OF_THE_JOB = (
    "kubectl.kubernetes.io/last-applied-configuration",
    RUN_REQUESTED_AT,  # applied elsewhere, it would request a run there
    CREATION_ID,
    ALSO_WATCHED_BY,
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its name, and what to know about it."""

    label: str
    value: str
    note: str = ""
    mood: str = ""


@dataclass(frozen=True, slots=True)
class ShownCondition:
    """A condition, with what to do about it."""

    type: str
    status: str
    reason: str
    since: str
    message: str
    cure: str
    mood: str


@dataclass(frozen=True, slots=True)
class JobShown:
    """What is shown of a job, and kept up to date."""

    view: JobView
    said: Summary
    sentences: Sequence[Sentence]
    figures: Sequence[Figure]
    conditions: Sequence[ShownCondition]
    progress: int | None
    """Per cent of a run in progress."""

    @classmethod
    def of(cls, seen: Seen, now: datetime) -> "JobShown":
        """Read a job."""
        view = JobView.of(seen.body)
        run = view.status.progress
        return cls(
            view,
            summary(view),
            explain(seen, now),
            figures(view, now),
            [_shown(condition, view, now) for condition in view.status.conditions],
            None if run is None else run.percent,
        )

    @property
    def last_run_did(self) -> str:
        """What the last run did; empty: it did not complete, and the sentences say why."""
        last = self.view.status.last_run
        return sentence(last.message) if last is not None and last.outcome is Outcome.COMPLETED else ""

    @property
    def can_start(self) -> bool:
        """Whether a start would change anything."""
        return not self.view.deleting and self.view.desired is DesiredState.STOPPED

    @property
    def can_stop(self) -> bool:
        """Whether there is anything to stop, or to wait for."""
        resting = self.view.desired is DesiredState.STOPPED and self.view.status.state is State.STOPPED
        return not self.view.deleting and not resting

    @property
    def can_run(self) -> bool:
        """Whether the job can run now."""
        return can_run(self.view)


def can_run(job: JobView) -> bool:
    """Return whether a run of the job can be requested."""
    return not job.deleting and job.desired is DesiredState.STARTED


def figures(job: JobView, now: datetime) -> Sequence[Figure]:
    """Return the numbers of a job."""
    status = job.status
    found = [
        Figure("Rolled up until", *_behind(status.watermark, now)),
        Figure("Next run", *_next_run(job, now)),
        _last_run(status.last_run, now),
    ]
    if (stats := status.stats) is not None:
        found += [
            Figure("Source documents", f"{stats.documents_processed:,}", "summarised so far"),
            Figure("Rolled-up documents", f"{stats.rollups_indexed:,}", f"in {job.rollup_index}"),
            Figure("Runs", f"{stats.trigger_count:,}", _failures(stats.search_failures + stats.index_failures)),
        ]
    return found


def definition(job: JobView) -> Sequence[Figure]:
    """Return what the job is defined to do, as far as its spec can be read."""
    spec = job.raw_spec
    groups = _fields(spec, "groups")
    dates = _fields(groups, "dateHistogram")
    interval = dates.get("fixedInterval") or dates.get("calendarInterval") or "-"
    zone = dates.get("timeZone")
    others = [*_texts(_fields(groups, "terms")), *_texts(_fields(groups, "histogram"))]
    metrics = spec.get("metrics")
    kept = [
        f"{metric.get('field')}: {', '.join(map(str, metric.get('metrics') or ()))}"
        for metric in (metrics if isinstance(metrics, list) else ())
        if isinstance(metric, Mapping)
    ]
    cron = str(spec.get("cron", "-"))
    found = [
        Figure("Schedule", schedule_in_words(cron), f"{cron} (UTC)"),
        Figure("Source", job.index_pattern),
        Figure("Rollup index", job.rollup_index),
        Figure("Store", job.store_name),
        Figure("Buckets", f"{interval} of {dates.get('field', '-')}{f', {zone}' if zone else ''}"),
    ]
    found += [Figure(label, _listed(texts)) for label, texts in (("By", others), ("Metrics", kept)) if texts]
    if lookback := spec.get("lookback"):
        found.append(Figure("Lookback", str(lookback), "each run reads so much again"))
    if verified := _fields(spec, "verify").get("cron"):
        found.append(Figure("Verified", schedule_in_words(str(verified)), f"{verified} (UTC)"))
    return found


def _fields(spec: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = spec.get(name)
    return found if isinstance(found, Mapping) else {}


def _texts(group: Mapping[str, Any]) -> Sequence[str]:
    found = group.get("fields")
    return [str(field) for field in found] if isinstance(found, list) else ()


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
    return ", ".join(texts[:MOST_NAMED]) + more


def manifest(body: Mapping[str, Any]) -> str:
    """Return the job as somebody could apply it, in YAML; empty if it is too long to be shown."""
    meta = {key: value for key, value in body["metadata"].items() if key not in _MANAGED}
    notes = {key: value for key, value in (meta.pop("annotations", None) or {}).items() if key not in _NOT_OF_THE_JOB}
    if notes:
        meta["annotations"] = notes
    whole = {"apiVersion": API_VERSION, "kind": "RollupJob", "metadata": meta, "spec": body.get("spec") or {}}
    if len(orjson.dumps(whole)) > LONGEST_MANIFEST:
        return ""
    return as_yaml(whole)


def as_yaml(body: Mapping[str, Any]) -> str:
    """Write an object in YAML."""
    return str(yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


_Dumper: type = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def commands(job: JobView) -> Sequence[tuple[str, str]]:
    """Return what to type for what the page shows: what it does, and the line."""
    call = f"/namespaces/{quote(job.namespace, safe='')}/_rollup/job/{quote(job.job_id, safe='')}"
    caller = '-H "Authorization: Bearer $ROLLUP_TOKEN"'
    return [
        ("What it does, and why", command("explain", *job.key)),
        ("Its state, in full", command("status", *job.key)),
        ("Its events", command("events", *job.key)),
        ("Compare it with its source", command("verify", *job.key)),
        ("Its manifest", f"kubectl get rollupjob {job.name} -n {job.namespace} -o yaml"),
        ("The job by the HTTP API", f'curl {caller} "$ROLLUP_URL"{shlex.quote(call)}'),
        (
            "Stop it, and wait until it is quiet",
            f'curl -X POST {caller} "$ROLLUP_URL"{shlex.quote(call + "/_stop?wait_for_completion=true&timeout=30s")}',
        ),
    ]


def _behind(watermark: str | None, now: datetime) -> tuple[str, str]:
    when = instant_of(watermark)
    return ("-", "no run has completed yet") if when is None else (ago(when, now), moment(watermark))


def _next_run(job: JobView, now: datetime) -> tuple[str, str]:
    tick = instant_of(job.status.next_run_time)
    if tick is None or job.desired is DesiredState.STOPPED:
        return "-", "the job is stopped" if job.desired is DesiredState.STOPPED else "the schedule has no further time"
    if tick <= now and job.status.state is State.INDEXING:
        return "after this run", "at the next tick"
    return ahead(tick, now), moment(job.status.next_run_time)


def _last_run(last: LastRun | None, now: datetime) -> Figure:
    if last is None:
        return Figure("Last run", "-", "none has ended yet")
    began, ended = instant_of(last.start_time), instant_of(last.end_time)
    took = f", took {spoken((ended - began).total_seconds())}" if began and ended else ""
    if last.outcome is Outcome.COMPLETED:
        return Figure("Last run", ago(ended, now), f"{moment(last.end_time)}{took}")
    mood = Mood.CHANGING if last.outcome is Outcome.HALTED else Mood.BAD
    return Figure("Last run", last.outcome.lower(), f"{ago(ended, now)}{took}", mood.value)


def _failures(count: int) -> str:
    return "none failed" if not count else f"{count:,} failed"


def _shown(condition: Condition, job: JobView, now: datetime) -> ShownCondition:
    since = instant_of(condition.last_transition_time)
    good = (condition.status == "True") is (condition.type in (READY, VERIFIED))
    return ShownCondition(
        type=condition.type,
        status=condition.status,
        reason=condition.reason,
        since="" if since is None else f"for {spoken((now - since).total_seconds())}",
        message=capital(sentence(condition.message)),
        cure="" if good else cure_of(condition.reason, job),
        mood=(Mood.GOOD if good else Mood.BAD if condition.type == "Stalled" else Mood.CHANGING).value,
    )
