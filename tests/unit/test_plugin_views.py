"""How `kubectl rollup` shows jobs: the state in words, the lines of `get`, the page of `status`, the line of a wait."""

from typing import Any

import pytest

from rollup_operator.explaining.goals import Deleted, Goal, Ran, Stopped
from rollup_operator.explaining.summary import Mood, summary
from rollup_operator.model.job_view import JobView
from rollup_operator.plugin.actions import Action
from rollup_operator.plugin.changing import PAUSE, WaitingLine
from rollup_operator.plugin.outcome import Chosen, WaitLimit
from rollup_operator.plugin.tables import Cell, Styled, Table
from rollup_operator.plugin.views import HEADS, SPARE, WIDE, WIDE_SPARE, event_row, heads, page, position, row
from support.observed_job import NOW, at, conditions, observed_job, run_ended

TRIES = conditions("StoreUnavailable", "no answer")
FAILS = conditions("SourceInvalid", "no column 'x'", stalled=True)
LOOKS = conditions("Reconciling", "looking at the source")
NO_SOURCE = {"failedCheck": {"reason": "SourceNotFound", "message": "no table 'x'"}}

SUMMARIES = [
    ("started", Mood.GOOD, observed_job()),
    ("stopped", Mood.RESTING, observed_job(desired="stopped", state="stopped")),
    ("never started", Mood.RESTING, observed_job(desired=None, state="stopped")),
    ("stopped (SourceNotFound)", Mood.RESTING, observed_job(desired="stopped", state="stopped", **NO_SOURCE)),
    ("running", Mood.GOOD, observed_job(state="indexing")),
    ("running 57 %", Mood.GOOD, observed_job(state="indexing", progress={"percent": 57})),
    ("stopping", Mood.CHANGING, observed_job(desired="stopped", state="stopping")),
    (
        "stopping: DrainTimeout", Mood.CHANGING,
        observed_job(desired="stopped", state="stopping", conditions=conditions("DrainTimeout", "it waits")),
    ),
    ("failed: SourceInvalid", Mood.BAD, observed_job(conditions=FAILS)),
    ("failed: SourceInvalid", Mood.BAD, observed_job(desired="stopped", state="stopped", conditions=FAILS)),
    ("retrying: StoreUnavailable", Mood.CHANGING, observed_job(conditions=TRIES)),
    ("checking", Mood.CHANGING, observed_job(conditions=LOOKS)),
    ("starting", Mood.CHANGING, observed_job(state="stopped", conditions=LOOKS)),
    ("new, not seen yet", Mood.CHANGING, observed_job(state=None, generation=1, observed=-1)),
    ("changed, not seen yet", Mood.CHANGING, observed_job(generation=4, observed=3, conditions=FAILS)),
    ("deleting", Mood.CHANGING, observed_job(deleting=-5, state="aborting")),
    (
        "deleting: StoreUnavailable", Mood.CHANGING,
        observed_job(deleting=-5, state="aborting", conditions=TRIES),
    ),
    ("unknown", Mood.CHANGING, observed_job(state=None)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "mood", "body"), SUMMARIES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_state_is_told_in_words(text: str, mood: Mood, body: dict[str, Any]) -> None:
    said = summary(JobView.of(body))
    assert (said.text, said.mood) == (text, mood)


RAN = observed_job(
    nextRunTime=at(40),
    watermark=at(-3600),
    position={"time_hour.date_histogram": 1_388_530_800_000},
    lastRun=run_ended(),
    conditions=conditions("Running", "waiting " * 20, ready=True),
)


def texts(cells: list[Cell]) -> list[str]:
    return [cell.text if isinstance(cell, Styled) else cell for cell in cells]


def test_a_line_shows_the_main_things() -> None:
    cells = texts(row(RAN, NOW, wide=False, namespaces=True))
    assert dict(zip(heads(wide=False, namespaces=True), cells, strict=True)) == {
        "NAMESPACE": "team",
        "NAME": "flights",
        "STATUS": "started",
        "WATERMARK": "2030-01-01 11:00Z",
        "NEWEST": "2013-12-31 23:00Z",
        "LAST RUN": "30s ago",
        "NEXT RUN": "in 40s",
        "AGE": "60m",
    }
    wide = dict(zip(HEADS + WIDE, texts(row(RAN, NOW, wide=True, namespaces=False)), strict=True))
    assert [wide[name] for name in WIDE] == [
        "started",
        "kubectl-rollup",
        "-",
        "flights/*.parquet",
        "hourly",
        "waiting " * 20,
    ]


@pytest.mark.parametrize(("word", "reason", "colour"), [("False", "DocumentsDiffer", "red"), ("True", "Equal", None)])
def test_a_wide_line_shows_whether_the_job_was_verified(word: str, reason: str, colour: str | None) -> None:
    shown = {"type": "Verified", "status": word, "reason": reason, "lastTransitionTime": at(-60), "message": "m"}
    last = {"startTime": at(-61), "endTime": at(-60), "outcome": reason, "message": "m"}
    body = observed_job(conditions=[shown], lastVerification=last, spec={"verify": {"cron": "0 0 3 * * ?"}})
    cell = row(body, NOW, wide=True, namespaces=False)[len(HEADS) + WIDE.index("VERIFIED")]
    assert (texts([cell]), getattr(cell, "colour", None)) == ([reason], colour)
    lines = dict(page(body, NOW))
    assert lines["Verifies"] == "0 0 3 * * ? (UTC)"
    assert lines["Last verified"] == "2030-01-01 11:59Z, 60 seconds ago"
    assert str(lines["Verified"]).endswith(reason)


def test_a_line_of_a_job_of_which_little_is_known_is_short() -> None:
    new = observed_job(name="new", desired=None, state=None, generation=1, observed=-1, created=-5)
    assert texts(row(new, NOW, wide=False, namespaces=False)) == ["new", "new, not seen yet", *"----", "5s"]


@pytest.mark.parametrize(
    ("outcome", "text", "colour"),
    [("Failed", "failed 30s ago", "red"), ("Fenced", "fenced 30s ago", "red"), ("Halted", "halted 30s ago", "yellow")],
)
def test_a_run_that_did_not_complete_stands_out(outcome: str, text: str, colour: str) -> None:
    cell = row(observed_job(lastRun=run_ended(outcome, "why")), NOW, wide=False, namespaces=False)[4]
    assert isinstance(cell, Styled)
    assert (cell.text, cell.colour) == (text, colour)


@pytest.mark.parametrize(
    ("state", "tick", "column", "line"),
    [
        ("started", 90, "in 90s", "2030-01-01 12:01:30Z, in 90 seconds"),
        ("started", -90, "90s late", "2030-01-01 11:58:30Z, overdue for 90 seconds"),
        ("indexing", 90, "in 90s", "2030-01-01 12:01:30Z, in 90 seconds"),
        ("indexing", -90, "now", "at the next tick after this one"),
        ("stopped", None, "-", "none"),
    ],
)
def test_a_tick_is_late_only_when_nothing_runs(state: str, tick: float | None, column: str, line: str) -> None:
    body = observed_job(state=state, nextRunTime=at(tick) if tick is not None else None)
    assert texts(row(body, NOW, wide=False, namespaces=False))[5] == column
    assert dict(page(body, NOW))["Next run"] == line


@pytest.mark.parametrize("columns", [80, 100, 140])
@pytest.mark.parametrize("body", [RAN, observed_job(name="positions-of-all-vehicles", conditions=FAILS)])
def test_a_list_fits_a_terminal(columns: int, body: dict[str, Any]) -> None:
    lines = Table(HEADS).lines([row(body, NOW, wide=False, namespaces=False)], columns, SPARE)
    assert len(lines) == 2
    assert max(map(len, lines)) <= columns
    assert lines[0].split()[:2] == ["NAME", "STATUS"]


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_a_wide_list_keeps_its_messages_on_a_terminal(columns: int) -> None:
    cells = row(observed_job(name="positions-of-all-vehicles", conditions=FAILS), NOW, wide=True, namespaces=False)
    cells[-1] = "spec.metrics: the source has no column 'colour': did you mean 'carrier'?"
    lines = Table(HEADS + WIDE).lines([cells], columns, WIDE_SPARE)
    assert max(map(len, lines)) <= columns
    at = lines[0].index("MESSAGE")
    assert " ".join(line[at:] for line in lines[1:]) == cells[-1]
    assert "TARGET" in Table(HEADS + WIDE).lines([cells], None, WIDE_SPARE)[0]


def test_a_page_shows_everything() -> None:
    body = observed_job(
        manager="argocd-controller",
        spec={"jobId": "Flights by hour"},
        conditions=conditions("StoreNotFound", "no store", since=-600),
        position={"carrier.terms": "WN", "time_hour.date_histogram": 1_388_530_800_000},
        lastRun=run_ended("Failed", "no store; 3 pages"),
        stats={"documentsProcessed": 336_776, "rollupsIndexed": 3, "pagesProcessed": 2, "triggerCount": 1},
    )
    shown = page(body, NOW)
    text = "\n".join(
        f"{label}: {value}" for (label, _), value in zip(shown, texts([cell for _, cell in shown]), strict=True)
    )
    for words in (
        "Job: team/flights (id Flights by hour)",
        "Status: retrying: StoreNotFound\n: no store\n",
        "Desired: started, set by argocd-controller (Git) 10 minutes ago",
        "Ready: False for 10 minutes, StoreNotFound\nReconciling",
        "Newest: 2013-12-31 23:00Z, the last bucket that is written",
        "Position: time_hour 2013-12-31T23:00:00Z, carrier WN",
        "Last run: failed 30 seconds ago, took 5 seconds\n: 3 pages",
        "Watermark: none: no run has completed yet",
        "Next run: none",
        "336,776 source documents, 3 rolled up, 2 pages, 1 run",
        "Generation: 3, observed 3",
    ):
        assert words in text
    assert text.count("no store") == 1  # a message is told once
    lagging = dict(page(observed_job(generation=4, observed=3), NOW))
    assert "the operator has not seen 4 yet" in str(lagging["Generation"])
    assert position(None).startswith("none")


def test_progress_is_on_the_page_while_there_is_some() -> None:
    body = observed_job()
    assert "Progress" not in dict(page(body, NOW))
    body["status"]["progress"] = {"percent": 45, "remainingSeconds": 700}
    assert dict(page(body, NOW))["Progress"] == "45 %, about 12 minutes left"
    del body["status"]["progress"]["remainingSeconds"]
    assert dict(page(body, NOW))["Progress"] == "45 %"


def test_an_event_is_a_line() -> None:
    event = {
        "metadata": {}, "type": "Warning", "reason": "RunFailed", "message": "no store", "eventTime": at(-60),
        "involvedObject": {"name": "flights"}, "series": {"count": 3, "lastObservedTime": at(-5)},
    }  # fmt: skip
    assert texts(event_row(event, NOW)) == ["5s ago", "Warning", "RunFailed", "3", "flights", "no store"]
    assert texts(event_row({"metadata": {}}, NOW)) == ["- ago", "-", "-", "1", "-", ""]


# The line of a wait


class Seen:
    """A line of a wait: what it shows, on a clock that the test turns."""

    def __init__(self, *goals: Goal, verb: str = "run", wait: float | None = None, moves: bool = True) -> None:
        self.time = 0.0
        self.lines: list[tuple[str, float | None]] = []
        self.action = Action(verb, Chosen(), WaitLimit(wait))
        self.action.goals = {goal.newest.name: goal for goal in goals}
        show = lambda text, percent: self.lines.append((text, percent))  # noqa: E731
        self.line = WaitingLine(show, moves=moves, clock=lambda: self.time)

    def hear(self, name: str = "flights", **parts: Any) -> None:
        self.action.goals[name].hear(JobView.of(observed_job(name=name, **parts)))
        self.line.hear(self.action)


REQUEST = {"rollup-operator.dev/run-requested-at": "now"}
UNDER_WAY: dict[str, Any] = {
    "annotations": REQUEST,
    "lastHandledRunRequest": "now",
    "state": "indexing",
}


def asked(name: str = "flights", **parts: Any) -> JobView:
    return JobView.of(observed_job(name=name, annotations=REQUEST, **parts))


def progressed(percent: int, rows: int, left: int | None = None) -> dict[str, Any]:
    report = {"percent": percent} | ({"remainingSeconds": left} if left is not None else {})
    return UNDER_WAY | {"progress": report, "stats": {"documentsProcessed": rows}}


def test_a_wait_for_a_run_counts_down_between_reports() -> None:
    seen = Seen(Ran(asked(stats={"documentsProcessed": 1_000_000})))
    seen.hear(**UNDER_WAY, version=101, stats={"documentsProcessed": 1_000_000})
    seen.hear(**progressed(57, 6_757_000, 22), version=102)
    seen.time = 5.2
    seen.line.write()
    seen.time = 30.0
    seen.line.write()
    assert seen.lines == [
        ("waiting for flights to run, now running", None),
        ("flights  57 %  5,757,000 of ~10,100,000 rows  about 22 seconds left", 57),
        ("flights  57 %  5,757,000 of ~10,100,000 rows  about 17 seconds left", 57),
        ("flights  57 %  5,757,000 of ~10,100,000 rows  almost done", 57),
    ]


def test_what_is_not_known_yet_is_not_guessed() -> None:
    seen = Seen(Ran(asked()))
    seen.hear(**progressed(0, 0), version=101)
    seen.hear(**progressed(3, 4_000), version=102)
    assert [text for text, _ in seen.lines] == ["flights  0 %", "flights  3 %  4,000 rows"]


def test_a_wait_for_other_things_says_for_what_and_how_long() -> None:
    stopped = Seen(Stopped(JobView.of(observed_job(desired="stopped", generation=4, observed=3))), wait=30.0)
    stopped.line.hear(stopped.action)
    stopped.hear(desired="stopped", state="stopping", generation=4, version=101)
    stopped.time = 4.0
    stopped.line.write()
    assert [text for text, _ in stopped.lines] == [
        "waiting up to 30s for flights to stop, not seen by the operator yet",
        "waiting up to 30s for flights to stop, now stopping",
        "waiting up to 30s for flights to stop, now stopping, 4s so far",
    ]


def test_a_wait_for_several_jobs_counts_them() -> None:
    goals = [Deleted(JobView.of(observed_job(name=name, deleting=-1.0))) for name in "abc"]
    seen = Seen(*goals, wait=120.0)
    goals[0].hear(None)
    seen.line.hear(seen.action)
    (line,) = seen.lines
    assert line == ("waiting up to 2m for 2 rollup jobs to be deleted, 1 done", pytest.approx(100 / 3))


def test_off_a_terminal_each_report_is_a_line() -> None:
    seen = Seen(Ran(asked()), moves=False)
    reports = [UNDER_WAY, progressed(3, 4_000), progressed(9, 9_000)]
    for second, parts in enumerate(reports):  # the last two come too soon, and the last one is written later
        seen.time = second * PAUSE / 4
        seen.hear(**parts, version=101 + second)
        seen.line.write()
    for _ in range(2):
        seen.time += PAUSE
        seen.line.write()
    assert [text for text, _ in seen.lines] == [
        "waiting for flights to run, now running",
        "flights  9 %  9,000 of ~100,000 rows",
    ]
