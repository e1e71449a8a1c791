"""When the operator verifies a job by itself, what of, what it reports, and that a stop waits for its end. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from rollup_operator.indexer.verify import Verified
from rollup_operator.lifecycle.jobs.job_status import Report, status_of
from rollup_operator.lifecycle.jobs.run_facts import RunFacts, RunKind
from rollup_operator.lifecycle.jobs.states import PATIENCE, Act, Facts, where
from rollup_operator.lifecycle.jobs.verification_due import decide
from rollup_operator.lifecycle.jobs.verification_report import Took, failed, nothing, report_of
from rollup_operator.lifecycle.jobs.verification_times import MAKE_UP, RETRY, VerificationTimes
from rollup_operator.model.base import DRAIN_FINALIZER
from rollup_operator.model.conditions import Reason, Trouble
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.job_view import Ask, JobView
from rollup_operator.model.schedule import Schedule
from rollup_operator.model.status import LastVerification, RollupJobStatus, State, VerificationOutcome
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.comparison import Difference, Finding, Findings, Judge, Kind
from rollup_operator.rollup.documents import layout_of
from rollup_operator.rollup.verify_span import verify_span
from rollup_operator.stores.verification import DayCount, Extent
from support.embedded import spec
from support.rounding import HOUR

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
HOURLY, DAILY = Schedule.parse("0 0 * * * ?"), Schedule.parse("0 0 3 * * ?")
DAY = 24 * HOUR


def job(
    ask: Ask = Ask.STARTED,
    published: State = State.STARTED,
    *,
    observed: int = 1,
    rolled_up: bool = True,
    held: bool = True,
    request: str | None = None,
) -> JobView:
    meta: dict[str, Any] = {"uid": "u", "namespace": "n", "name": "j", "generation": 1, "resourceVersion": "7"}
    meta["finalizers"] = [DRAIN_FINALIZER] if held else []
    meta["annotations"] = {"rollup-operator.dev/run-requested-at": request} if request else {}
    if ask is Ask.DELETED:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    status: dict[str, Any] = {"observedGeneration": observed, "state": published.value}
    if rolled_up:
        status["watermark"] = "2026-01-01T11:00:00Z"
    asked = "started" if ask is Ask.DELETED else ask.value
    return JobView.of({"metadata": meta, "spec": {"desiredState": asked}, "status": status})


def under_way(halted: float | None = None, age: float = 1.0) -> RunFacts:
    return RunFacts(RunKind.VERIFY, age, halted, "a verification: comparing buckets")


def times(known: datetime | None = None, last: datetime | None = None, schedule: Schedule = DAILY) -> VerificationTimes:
    return VerificationTimes(schedule, known, last)


WELL = Facts(schedule=HOURLY, settled=True, next_tick=NOW + timedelta(minutes=5), times=times(NOW))
AT_WORK = replace(WELL, verification=under_way(), times=times(NOW + timedelta(hours=15)))
INDEXING = RunFacts(RunKind.INDEX, 1.0, None, "reading")


# When one begins


def test_the_first_one_is_at_the_next_tick() -> None:
    assert times().tick(NOW, under_way=False) == (False, datetime(2026, 1, 2, 3, tzinfo=UTC))


def test_a_missed_one_is_made_up_for_once_and_not_at_once() -> None:
    missed = times(last=NOW - timedelta(days=9))
    assert missed.tick(NOW, under_way=False) == (False, NOW + MAKE_UP)
    later = NOW + MAKE_UP
    assert replace(missed, known=later).tick(later, under_way=False) == (True, later)
    assert replace(missed, known=None, last_began=later).tick(later, under_way=False)[1] == DAILY.next_after(later)


def test_a_tick_before_the_making_up_counts() -> None:
    minutely = times(last=NOW - timedelta(days=9), schedule=Schedule.parse("0 * * * * ?"))
    assert minutely.tick(NOW, under_way=False) == (False, NOW + timedelta(minutes=1))


def test_a_clock_that_is_set_back_delays_none_by_more_than_a_tick() -> None:
    known = times(NOW + timedelta(days=300))
    assert known.tick(NOW, under_way=False) == (False, DAILY.next_after(NOW))


def test_a_tick_that_falls_into_a_verification_is_dropped() -> None:
    assert times(NOW).tick(NOW, under_way=True) == (False, DAILY.next_after(NOW))


def test_one_that_failed_for_a_passing_reason_is_repeated_before_the_next_tick() -> None:
    assert times().after(NOW, retry=True) == NOW + RETRY
    assert times().after(NOW) == DAILY.next_after(NOW)
    assert times(schedule=Schedule.parse("0 * * * * ?")).after(NOW, retry=True) == NOW + timedelta(minutes=1)


def test_a_schedule_that_is_over_verifies_no_more() -> None:
    over = times(schedule=Schedule.parse("0 0 3 * * ? 2020"))
    assert over.tick(NOW, under_way=False) == (False, None)
    assert over.after(NOW) is None
    assert decide(job(), replace(WELL, times=over), NOW).next_verification is None


def test_it_begins_when_due_beside_what_the_job_does() -> None:
    for facts in (WELL, replace(WELL, run=INDEXING), replace(WELL, trouble=Trouble(Reason.RUN_FAILED, "", True))):
        decision = decide(job(), facts, NOW)
        assert (decision.act, decision.next_verification) == (Act.VERIFY, DAILY.next_after(NOW))
    decision = decide(job(published=State.INDEXING), replace(WELL, run=INDEXING), NOW)
    assert (decision.act, decision.show) == (Act.VERIFY, State.INDEXING)


@pytest.mark.parametrize(
    ("view", "change"),
    [
        (job(observed=0), {}),
        (job(rolled_up=False), {}),
        (job(held=False), {}),
        (job(published=State.STOPPED), {}),
        (job(), {"draining": True}),
        (job(), {"store_trouble": Trouble(Reason.STORE_NOT_FOUND, "gone", True)}),
    ],
    ids=["not accepted", "nothing rolled up", "no finalizer", "shown as stopped", "draining", "no store"],
)
def test_where_it_may_not_begin_it_stays_due_and_nothing_turns_in_circles(view: JobView, change: Any) -> None:
    decision = decide(view, replace(WELL, **change), NOW)
    assert decision.act is not Act.VERIFY
    assert decision.next_verification == NOW
    assert decision.recheck_in is None or decision.recheck_in >= PATIENCE


def test_a_run_that_is_due_too_begins_first_and_the_verification_a_moment_later() -> None:
    decision = decide(job(), replace(WELL, next_tick=NOW), NOW)
    assert (decision.act, decision.next_verification, decision.recheck_in) == (Act.RUN, NOW, PATIENCE)
    asked = decide(job(request="now"), WELL, NOW)
    assert (asked.act, asked.next_verification) == (Act.RUN, NOW)
    assert asked.recheck_in is not None
    assert asked.recheck_in <= PATIENCE


def test_a_stopped_job_has_no_next_one() -> None:
    for view in (job(Ask.STOPPED, State.STOPPED), job(Ask.DELETED, State.STOPPED)):
        decision = decide(view, WELL, NOW)
        assert (decision.act is not Act.VERIFY, decision.next_verification) == (True, None)


def test_the_next_one_wakes_the_job() -> None:
    decision = decide(job(), replace(WELL, times=times(NOW + timedelta(seconds=7))), NOW)
    assert (decision.act, decision.recheck_in) == (Act.NOTHING, 7.0)


# Stopped means quiet


def test_a_verification_leaves_the_job_started() -> None:
    assert where(job(), AT_WORK) is State.STARTED
    decision = decide(job(), AT_WORK, NOW)
    assert (decision.act, decision.show, decision.ready) == (Act.NOTHING, State.STARTED, True)
    run = decide(job(), replace(AT_WORK, next_tick=NOW), NOW)
    assert run.act is Act.RUN


def test_a_stop_halts_it_and_shows_stopped_only_after_its_end() -> None:
    asked = job(Ask.STOPPED)
    assert decide(asked, AT_WORK, NOW).act is Act.HALT
    for halted in (0.01, 1.0):
        decision = decide(asked, replace(AT_WORK, verification=under_way(halted)), NOW)
        assert decision.act is Act.NOTHING
        assert decision.show is (None if halted < PATIENCE else State.STOPPING)
    late = decide(asked, replace(AT_WORK, verification=under_way(31.0)), NOW)
    assert late.reason is Reason.DRAIN_TIMEOUT
    assert late.message.endswith("it still waits for: a verification: comparing buckets")
    over = decide(asked, replace(AT_WORK, verification=None), NOW)
    assert (over.act, over.show) == (Act.NOTHING, State.STOPPED)


def test_what_an_earlier_run_left_is_settled_after_its_end() -> None:
    unsettled = replace(AT_WORK, settled=False)
    assert decide(job(Ask.STOPPED), unsettled, NOW).act is Act.HALT
    assert decide(job(Ask.STOPPED), replace(unsettled, verification=under_way(1.0)), NOW).act is Act.NOTHING
    assert decide(job(Ask.STOPPED), replace(unsettled, verification=None), NOW).act is Act.SETTLE


def test_a_deletion_lets_go_only_after_its_end() -> None:
    deleted = job(Ask.DELETED)
    assert decide(deleted, AT_WORK, NOW).act is Act.HALT
    decision = decide(deleted, replace(AT_WORK, verification=under_way(1.0)), NOW)
    assert (decision.act, decision.show) == (Act.NOTHING, State.ABORTING)
    assert decide(deleted, replace(AT_WORK, verification=None), NOW).act is Act.LET_GO


def test_a_stop_halts_run_and_verification_at_once() -> None:
    asked = job(Ask.STOPPED)
    for run, halted in product((INDEXING, replace(INDEXING, halted=1.0)), (None, 1.0)):
        facts = replace(AT_WORK, run=run, verification=under_way(halted))
        decision = decide(asked, facts, NOW)
        both = run.halted is not None and halted is not None
        assert decision.act is (Act.NOTHING if both else Act.HALT)
        assert decision.show is not State.STOPPED


def test_an_object_that_is_gone_is_forgotten_after_its_end() -> None:
    gone = replace(AT_WORK, gone=True)
    assert decide(job(), gone, NOW).act is Act.HALT
    assert decide(job(), replace(gone, verification=under_way(1.0)), NOW).act is Act.NOTHING
    assert decide(job(), replace(gone, verification=None), NOW).act is Act.FORGET


def test_a_shutdown_halts_it_and_shows_nothing_of_that() -> None:
    draining = replace(AT_WORK, draining=True)
    decision = decide(job(), draining, NOW)
    assert (decision.act, decision.show) == (Act.HALT, None)
    decision = decide(job(), replace(draining, verification=under_way(1.0)), NOW)
    assert (decision.act, decision.show) == (Act.NOTHING, None)


def test_a_start_that_follows_a_stop_need_not_wait_for_it() -> None:
    decision = decide(job(published=State.STOPPING), replace(AT_WORK, verification=under_way(1.0)), NOW)
    assert (decision.act, decision.show) == (Act.NOTHING, State.STARTED)


@pytest.mark.parametrize("published", State)
@pytest.mark.parametrize("halted", [None, 0.01, 1.0, 100.0])
@pytest.mark.parametrize("ask", [Ask.STOPPED, Ask.DELETED])
def test_stopped_is_never_shown_beside_one(published: State, halted: float | None, ask: Ask) -> None:
    runs = [None, *(RunFacts(kind, 1.0, h, "") for kind in RunKind for h in (None, 1.0))]
    for run, settled, held, draining in product(runs, (True, False), (True, False), (True, False)):
        facts = replace(WELL, run=run, verification=under_way(halted), settled=settled, draining=draining)
        decision = decide(job(ask, published, held=held), facts, NOW)
        assert decision.show is not State.STOPPED
        assert decision.act not in (Act.SETTLE, Act.LET_GO, Act.FORGET, Act.VERIFY, Act.RUN, Act.CHECK)


# What of


def of(**more: Any) -> RollupJobSpec:
    raw = spec().model_dump(mode="json", by_alias=True, exclude_none=True)
    return RollupJobSpec.model_validate(raw | more)


END = 480_000 * HOUR
AFTERWARDS = datetime.fromtimestamp((END + 2 * HOUR) / 1000, UTC)


def test_all_that_is_rolled_up_is_compared() -> None:
    assert verify_span(of(), AFTERWARDS, None, END) == Span(0, END)


def test_the_lookback_reaches_back_from_the_end_of_what_is_rolled_up() -> None:
    span = verify_span(of(verify={"cron": "0 0 3 * * ?", "lookback": "7d"}), AFTERWARDS, None, END)
    assert span == Span(END - 7 * DAY, END)


def test_what_runs_still_read_again_is_left_out() -> None:
    span = verify_span(of(lookback="6h", verify={"cron": "0 0 3 * * ?", "lookback": "90m"}), AFTERWARDS, None, END)
    assert span == Span(END - 7 * HOUR, END - 6 * HOUR)


def test_nothing_is_compared_before_anything_is_rolled_up() -> None:
    assert verify_span(of(), AFTERWARDS, None, None).empty


# What is reported

TOOK = Took(NOW, NOW + timedelta(seconds=2))
SPAN = Span(END - 3 * DAY, END)


def found(
    findings: Sequence[tuple[Kind, int]] = (), *, full: bool = True, compared: int = 3, span: Span = SPAN
) -> Verified:
    days = [Span(begin, begin + DAY) for begin in range(SPAN.start_ms, SPAN.end_ms, DAY)]
    judge = Judge(layout_of("job", spec()))
    into = Findings(judge, [day.start_ms for day in days])
    for kind, begin in findings:
        into.kinds[kind] += 1
        day = max(d.start_ms for d in days if d.start_ms <= begin)
        into.days.setdefault(day, type(into.kinds)())[kind] += 1
        into.examples.append(Finding(kind, (begin,), (Difference("x", 1, 2),)))
    counts = [(day, DayCount(24, 24)) for day in days]
    extent = Extent(span, END, 72)
    return Verified(extent, full, counts, days[:compared], 72 if compared else 0, into if compared else None)


def test_equal_says_how_much_was_compared() -> None:
    report = report_of(job(), found(), TOOK)
    assert (report.outcome, report.buckets, report.days) == (VerificationOutcome.EQUAL, 72, 3)
    assert report.message.startswith("72 buckets of 3 days are equal (from 2024-10-01T00:00:00Z to ")
    counted = report_of(job(), found(full=False, compared=0), TOOK)
    assert counted.message.startswith("the numbers of rows of 3 days are equal (from ")
    assert (counted.buckets, counted.differs) == (0, 0)


def test_a_source_that_shrank_is_no_failure() -> None:
    report = report_of(job(), found([(Kind.EXTRA, END - DAY)]), TOOK)
    assert (report.outcome, report.extra, report.first_difference) == (VerificationOutcome.SOURCE_SHRUNK, 1, None)
    assert report.message.startswith("the source holds less now: 1 document counts rows that it no longer has")


@pytest.mark.parametrize("kind", [Kind.DIFFERS, Kind.MISSING, Kind.DUPLICATE])
def test_a_difference_comes_with_the_command_that_shows_it(kind: Kind) -> None:
    planted = [(Kind.EXTRA, END - 3 * DAY), (kind, END - 2 * DAY), (kind, END - 2 * DAY + HOUR)]
    report = report_of(job(), found(planted), TOOK)
    assert report.outcome is VerificationOutcome.DOCUMENTS_DIFFER
    assert (report.first_difference, report.last_difference) == ("2024-10-02T00:00:00Z", "2024-10-03T00:00:00Z")
    command = "kubectl rollup verify j -n n --from 2024-10-02T00:00:00Z --to 2024-10-03T00:00:00Z"
    assert report.message.endswith(f". To see them: {command}; to repair them, add --repair")
    assert getattr(report, kind.value) == 2
    assert "extra" not in report.message


def test_nothing_to_compare_is_neither_good_nor_bad() -> None:
    report = report_of(job(), found(span=Span(0, 0)), TOOK)
    assert report == nothing(TOOK)
    assert (report.outcome, report.from_, report.buckets) == (VerificationOutcome.NOTHING_TO_VERIFY, None, None)


def shown(last: LastVerification | None, *, verifies: bool = True, before: Any = ()) -> dict[str, Any]:
    view = job()
    report = Report.published(RollupJobStatus(conditions=list(before), last_verification=last))
    return status_of(view, decide(view, replace(WELL, times=None), NOW), report, NOW, verifies=verifies)


@pytest.mark.parametrize(
    ("last", "status", "reason"),
    [
        (None, "Unknown", "NotVerified"),
        (report_of(job(), found(), TOOK), "True", "Equal"),
        (report_of(job(), found([(Kind.EXTRA, END - DAY)]), TOOK), "True", "SourceShrunk"),
        (report_of(job(), found([(Kind.MISSING, END - DAY)]), TOOK), "False", "DocumentsDiffer"),
        (nothing(TOOK), "Unknown", "NothingToVerify"),
        (failed(TOOK, "the store does not answer", retry=True), "Unknown", "VerificationFailed"),
    ],
)
def test_the_condition_says_the_same(last: LastVerification | None, status: str, reason: str) -> None:
    found = shown(last)
    (condition,) = [c for c in found["conditions"] if c["type"] == "Verified"]
    assert (condition["status"], condition["reason"]) == (status, reason)
    assert found.get("lastVerification", {}).get("message") == (None if last is None else condition["message"])
    assert RollupJobStatus.model_validate(found).last_verification == last
    (ready,) = [c for c in found["conditions"] if c["type"] == "Ready"]
    assert ready["status"] == "True"


def test_the_condition_goes_with_its_field() -> None:
    gone = shown(report_of(job(), found(), TOOK), verifies=False)
    assert [c["type"] for c in gone["conditions"]] == ["Ready"]
    assert "lastVerification" not in gone


def test_a_failure_says_when_it_is_tried_again() -> None:
    assert failed(TOOK, "no answer", retry=True).message == (
        "no answer. The next verification begins in 15 minutes, or at the next tick of spec.verify.cron"
    )
    assert failed(TOOK, "no answer", retry=False).message.endswith("begins at the next tick of spec.verify.cron")
