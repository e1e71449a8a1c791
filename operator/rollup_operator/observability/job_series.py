"""The series of single jobs and stores, made from the newest bodies at the moment of a scrape. Pure.

Nothing is counted or kept while jobs run: a job that goes takes its series along, and a stop costs nothing here.
Bodies are read as they came, tolerantly: a field that cannot be read makes no sample.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from rollup_operator.model.conditions import NOT_VERIFIED, READY, STALLED, VERIFIED, Reason
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import State, VerificationOutcome
from rollup_operator.model.time_values import parse_time_value
from rollup_operator.model.times import instant_of

CALENDAR_SECONDS: Mapping[str, float] = {
    unit: seconds
    for units, seconds in (
        (("1m", "minute"), 60.0),
        (("1h", "hour"), 3_600.0),
        (("1d", "day"), 86_400.0),
        (("1w", "week"), 7 * 86_400.0),
        (("1M", "month"), 31 * 86_400.0),
        (("1q", "quarter"), 92 * 86_400.0),
        (("1y", "year"), 366 * 86_400.0),
    )
    for unit in units
}
"""The longest that a bucket of each calendar interval lasts."""


OF_A_JOB = ("rollup_namespace", "rollup_job")
"""Labels of a job's series. Prometheus and its operator give each target `job`, `instance`, `namespace` and others: a
series with a label of that name is renamed where it is scraped, and no alert finds it."""


@dataclass(frozen=True, slots=True)
class Family:
    """What one metric is: its name, kind and meaning, and the labels that its series have."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = OF_A_JOB

    @property
    def header(self) -> str:
        """The two lines before its samples. The type of a counter is that of its samples' name."""
        return f"# HELP {self.name} {self.help}\n# TYPE {self.name} {self.kind}\n"


@dataclass(frozen=True, slots=True)
class OfJob(Family):
    """A metric with at most one series a job."""

    read: Callable[["Job"], float | None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Job:
    """What the series show of a job."""

    view: JobView
    now: float
    """Seconds since the epoch."""
    published: Mapping[str, Any]
    """Its status."""

    @classmethod
    def of(cls, view: JobView, now: float) -> "Job":
        """Return a job as it is now, in seconds since the epoch."""
        return cls(view, now, view.raw_status)

    def status(self, *path: str) -> Any:
        """Return a field of the status; None if it is missing."""
        return _at(self.published, path)

    def time(self, *path: str) -> float | None:
        """Return an instant of the status, in seconds since the epoch."""
        return _instant(self.status(*path))

    def count(self, *names: str) -> float | None:
        """Return the sum of counters of status.stats; None if there are none."""
        found = [n for name in names if isinstance(n := self.status("stats", name), int)]
        return float(sum(found)) if found else None

    def condition(self, kind: str) -> Mapping[str, Any]:
        """Return a condition; empty if it is not shown."""
        every = self.status("conditions")
        if not isinstance(every, list):
            return {}
        return next((c for c in every if isinstance(c, Mapping) and c.get("type") == kind), {})

    @property
    def ready(self) -> bool:
        """Whether the job is in the state that its newest generation requests."""
        seen = self.status("observedGeneration") == self.view.generation
        return seen and self.condition(READY).get("status") == "True"

    @property
    def watermark(self) -> float | None:
        """The watermark: everything before it is rolled up."""
        return self.time("watermark")

    @property
    def lag(self) -> float | None:
        """How far the watermark is behind the clock."""
        return None if self.watermark is None else max(0.0, self.now - self.watermark)

    @property
    def usual_lag(self) -> float | None:
        """The expected lag: the delay, one bucket, and the time between two runs."""
        group = _at(self.view.raw_spec, ("groups", "dateHistogram"))
        if not isinstance(group, Mapping):
            return None
        bucket = CALENDAR_SECONDS.get(str(group.get("calendarInterval"))) or _seconds(group.get("fixedInterval"))
        if bucket is None:
            return None
        last, following = self.time("lastRun", "startTime"), self.time("nextRunTime")
        between = max(0.0, following - last) if last is not None and following is not None else 0.0
        return bucket + (_seconds(group.get("delay")) or 0.0) + between

    @property
    def verified(self) -> float | None:
        """1 if the last verification found that the documents are what the source gives, 0 if not."""
        return {"True": 1.0, "False": 0.0}.get(str(self.condition(VERIFIED).get("status")))

    @property
    def unverified(self) -> str | None:
        """Why nobody knows that the documents are what the source gives, or that they are not; None: they are."""
        shown = self.condition(VERIFIED)
        if not shown or shown.get("status") == "True":
            return None
        reason = shown.get("reason")
        return reason if isinstance(reason, str) and reason in _OUTCOMES else UNSEEN

    @property
    def last_verification(self) -> float | None:
        """When the last verification ended, if it came to its end."""
        failed = self.status("lastVerification", "outcome") == VerificationOutcome.FAILED
        return None if failed else self.time("lastVerification", "endTime")

    @property
    def last_success(self) -> float | None:
        """When the last run ended, if it completed."""
        return self.time("lastRun", "endTime") if self.status("lastRun", "outcome") == "Completed" else None


OF_JOB: tuple[OfJob, ...] = (
    OfJob(
        "rollup_job_desired_started",
        "gauge",
        "1 while the desired state of the job is started, 0 while stopped.",
        read=lambda j: j.view.desired is DesiredState.STARTED,
    ),
    OfJob(
        "rollup_job_ready",
        "gauge",
        "1 while the job is in the state that its newest generation requests.",
        read=lambda j: j.ready,
    ),
    OfJob(
        "rollup_job_stalled",
        "gauge",
        "1 while the job needs a change by a person.",
        read=lambda j: j.condition(STALLED).get("status") == "True",
    ),
    OfJob(
        "rollup_job_watermark_timestamp_seconds",
        "gauge",
        "All source rows before this instant are rolled up.",
        read=lambda j: j.watermark,
    ),
    OfJob("rollup_job_lag_seconds", "gauge", "How far the watermark is behind the clock.", read=lambda j: j.lag),
    OfJob(
        "rollup_job_usual_lag_seconds",
        "gauge",
        "What the lag comes to where all goes well: delay, one bucket, and the time between two runs.",
        read=lambda j: j.usual_lag,
    ),
    OfJob(
        "rollup_job_last_success_timestamp_seconds",
        "gauge",
        "When the last run ended; absent while the last run is none that completed.",
        read=lambda j: j.last_success,
    ),
    OfJob(
        "rollup_job_last_run_timestamp_seconds",
        "gauge",
        "When the last run ended, however it did.",
        read=lambda j: j.time("lastRun", "endTime"),
    ),
    OfJob(
        "rollup_job_next_run_timestamp_seconds",
        "gauge",
        "The next tick of the schedule.",
        read=lambda j: j.time("nextRunTime"),
    ),
    OfJob(
        "rollup_job_runs_total",
        "counter",
        "Runs begun, over the life of the job, the one under way included.",
        read=lambda j: j.count("triggerCount"),
    ),
    OfJob("rollup_job_pages_total", "counter", "Pages read.", read=lambda j: j.count("pagesProcessed")),
    OfJob(
        "rollup_job_documents_total",
        "counter",
        "Source rows or documents summarised.",
        read=lambda j: j.count("documentsProcessed"),
    ),
    OfJob(
        "rollup_job_rollups_total",
        "counter",
        "Rolled-up documents written.",
        read=lambda j: j.count("rollupsIndexed"),
    ),
    OfJob(
        "rollup_job_failures_total",
        "counter",
        "Runs that failed, each once: before or while reading, or while writing.",
        read=lambda j: j.count("searchFailures", "indexFailures"),
    ),
    OfJob(
        "rollup_job_verified",
        "gauge",
        "1 if the last verification found that the documents are what the source gives, 0 if they are not; absent "
        "without spec.verify, and while nobody knows.",
        read=lambda j: j.verified,
    ),
    OfJob(
        "rollup_job_last_verification_timestamp_seconds",
        "gauge",
        "When the last verification ended; absent if it failed.",
        read=lambda j: j.last_verification,
    ),
)

STATES = Family(
    "rollup_job_state",
    "gauge",
    "1 for the state that the status shows, 0 for the others.",
    (*OF_A_JOB, "state"),
)
UNREADY_JOB = Family(
    "rollup_job_unready",
    "gauge",
    "1 while the job is not Ready, with the reason that it shows; absent while it is Ready.",
    (*OF_A_JOB, "reason"),
)
UNVERIFIED_JOB = Family(
    "rollup_job_unverified",
    "gauge",
    "1 while a job with spec.verify is not shown as Verified, with the reason; absent while it is.",
    (*OF_A_JOB, "reason"),
)
JOBS = Family("rollup_jobs", "gauge", "Jobs in each state, those without series of their own included.", ("state",))
UNREADY = Family("rollup_jobs_unready", "gauge", "Jobs that are not Ready, by the reason they show.", ("reason",))
OMITTED = Family("rollup_jobs_without_series", "gauge", "Jobs above the limit of jobs with series of their own.", ())
STORE_READY = Family(
    "rollup_store_ready", "gauge", "1 while the RollupStore can be used.", ("rollup_namespace", "rollup_store")
)

FAMILIES: tuple[Family, ...] = (JOBS, UNREADY, OMITTED, STORE_READY, STATES, UNREADY_JOB, UNVERIFIED_JOB, *OF_JOB)

LINES = 2_000
"""Lines in one piece of the text."""

UNSEEN = "none"
"""The state, or the reason, of a job whose status shows none yet."""

_REASONS = frozenset(reason.value for reason in Reason)
_OUTCOMES = frozenset({NOT_VERIFIED, *(outcome.value for outcome in VerificationOutcome)})


@dataclass
class ScrapePage:
    """Builds the text of a scrape. Of a job it keeps only the text."""

    limit: int
    """How many jobs, and how many stores, have series of their own."""
    now: float
    _lines: dict[str, list[str]] = field(default_factory=lambda: {family.name: [] for family in FAMILIES})
    _states: Counter[str] = field(default_factory=lambda: Counter({state.value: 0 for state in State}))
    _reasons: Counter[str] = field(default_factory=Counter)
    _jobs: int = 0

    def add(self, view: JobView) -> None:
        """Take in a job. The first `limit` have series of their own."""
        job = Job.of(view, self.now)
        state = job.status("state")
        state = state if isinstance(state, str) and state in self._states else UNSEEN
        self._states[state] += 1
        reason = None if job.ready else _known_reason(job)
        if reason is not None:
            self._reasons[reason] += 1
        self._jobs += 1
        if self._jobs <= self.limit:
            self._own_series(job, state, reason)

    def add_stores(self, stores: Iterable[tuple[tuple[str, str], bool]]) -> None:
        """Take in the namespace and name of each store, and whether it can be used."""
        lines = self._lines[STORE_READY.name]
        for (namespace, name), ready in stores:
            if len(lines) < self.limit:
                lines.append(_line(STORE_READY.name, _pairs(STORE_READY.labels, (namespace, name)), ready))

    def text(self) -> Iterator[str]:
        """Return what is to be sent, in pieces of some hundred kilobytes at most."""
        for state, count in self._states.items():
            self._put(JOBS, (state,), count)
        for reason, count in self._reasons.items():
            self._put(UNREADY, (reason,), count)
        self._put(OMITTED, (), max(0, self._jobs - self.limit))
        for family in FAMILIES:
            yield family.header
            lines = self._lines[family.name]
            for begin in range(0, len(lines), LINES):
                yield "".join(lines[begin : begin + LINES])

    def _own_series(self, job: Job, state: str, unready: str | None) -> None:
        pairs = _pairs(OF_A_JOB, job.view.key)
        if unready is not None:
            self._put(UNREADY_JOB, (*job.view.key, unready), 1)
        if (unverified := job.unverified) is not None:
            self._put(UNVERIFIED_JOB, (*job.view.key, unverified), 1)
        for each in State:
            value = "1" if each.value == state else "0"
            self._lines[STATES.name].append(f'{STATES.name}{{{pairs},state="{each.value}"}} {value}\n')
        for family in OF_JOB:
            if (sample := family.read(job)) is not None:
                self._lines[family.name].append(_line(family.name, pairs, sample))

    def _put(self, family: Family, labels: tuple[str, ...], value: float) -> None:
        self._lines[family.name].append(_line(family.name, _pairs(family.labels, labels), value))


def _known_reason(job: Job) -> str:
    reason = job.condition(READY).get("reason")
    return reason if isinstance(reason, str) and reason in _REASONS else UNSEEN


def _line(name: str, pairs: str, value: float) -> str:
    return f"{name}{{{pairs}}} {float(value)!r}\n" if pairs else f"{name} {float(value)!r}\n"


def _pairs(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _instant(text: Any) -> float | None:
    at = instant_of(text) if isinstance(text, str) else None
    return at.timestamp() if at is not None else None


@lru_cache(maxsize=4096)
def _length(text: str) -> float | None:
    try:
        return parse_time_value(text, "interval").seconds
    except ValueError:
        return None


def _seconds(text: Any) -> float | None:
    return _length(text) if isinstance(text, str) else None
