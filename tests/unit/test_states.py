"""The table, cell by cell, and the promise under any order of events."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollup_operator.kube.job_writes import difference
from rollup_operator.lifecycle.jobs.job_status import Report, status_of
from rollup_operator.lifecycle.jobs.run_facts import REFRESH, RunFacts, RunKind
from rollup_operator.lifecycle.jobs.states import PATIENCE, TABLE, Act, Facts, decide, where
from rollup_operator.model.base import DRAIN_FINALIZER
from rollup_operator.model.conditions import Reason, Trouble
from rollup_operator.model.job import DeletionPolicy
from rollup_operator.model.job_view import Ask, JobView
from rollup_operator.model.schedule import Schedule
from rollup_operator.model.status import FailedCheck, LastRun, Outcome, State

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
HOURLY = Schedule.parse("0 0 * * * ?")
LONG, SHORT = 1.0, 0.01


def job(
    ask: Ask | None = Ask.STOPPED,
    published: State | None = None,
    *,
    generation: int = 1,
    observed: int | None = None,
    held: bool = True,
    request: str | None = None,
    handled: str | None = None,
) -> JobView:
    """A body in which `ask` is asked for and `published` is shown."""
    meta: dict[str, Any] = {
        "uid": "u",
        "namespace": "n",
        "name": "j",
        "generation": generation,
        "resourceVersion": "7",
        "finalizers": [DRAIN_FINALIZER] if held else [],
        "annotations": {"rollup-operator.dev/run-requested-at": request} if request else {},
    }
    spec: dict[str, Any] = {}
    if ask is Ask.DELETED:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        spec["desiredState"] = "started"
    elif ask is not None:
        spec["desiredState"] = ask.value
    status: dict[str, Any] = {"observedGeneration": generation if observed is None else observed}
    if published is not None:
        status["state"] = published.value
    if handled is not None:
        status["lastHandledRunRequest"] = handled
    return JobView.of({"metadata": meta, "spec": spec, "status": status})


def running(kind: RunKind = RunKind.INDEX, age: float = LONG, halted: float | None = None) -> RunFacts:
    return RunFacts(kind, age, halted, "reading")


def at(state: State, ask: Ask, facts: Facts, **more: Any) -> tuple[JobView, Facts]:
    """A job that is in `state` in truth."""
    match state:
        case State.STOPPED | State.STARTED:
            return job(ask, state, **more), facts
        case State.INDEXING:
            return job(ask, State.STARTED, **more), replace(facts, run=running())
        case _:
            return job(ask, State.STARTED, **more), replace(facts, run=running(halted=LONG))


ARMED = Facts(schedule=HOURLY, settled=True, next_tick=NOW + timedelta(minutes=5))


@pytest.mark.parametrize(("state", "ask"), TABLE)
def test_a_state_of_the_table_is_found_where_it_says(state: State, ask: Ask) -> None:
    assert where(*at(state, ask, ARMED)) is state


EXPECTED = {
    (State.STOPPED, Ask.STARTED): (State.STARTED, Act.NOTHING),
    (State.STOPPED, Ask.STOPPED): (State.STOPPED, Act.NOTHING),
    (State.STOPPED, Ask.DELETED): (None, Act.LET_GO),
    (State.STARTED, Ask.STARTED): (State.STARTED, Act.NOTHING),
    (State.STARTED, Ask.STOPPED): (State.STOPPED, Act.NOTHING),
    (State.STARTED, Ask.DELETED): (None, Act.LET_GO),
    (State.INDEXING, Ask.STARTED): (State.INDEXING, Act.NOTHING),
    (State.INDEXING, Ask.STOPPED): (None, Act.HALT),
    (State.INDEXING, Ask.DELETED): (None, Act.HALT),
    (State.STOPPING, Ask.STARTED): (State.STOPPING, Act.NOTHING),
    (State.STOPPING, Ask.STOPPED): (State.STOPPING, Act.NOTHING),
    (State.ABORTING, Ask.DELETED): (State.ABORTING, Act.NOTHING),
}


@pytest.mark.parametrize(("state", "ask"), TABLE)
def test_each_cell_between_ticks(state: State, ask: Ask) -> None:
    decision = decide(*at(state, ask, ARMED), NOW)
    assert (decision.show, decision.act) == EXPECTED[state, ask]


TICK = replace(ARMED, next_tick=NOW)


@pytest.mark.parametrize("cron", ["0 0 0 30 2 ?", "0 0 0 1 1 ? 2020"])
def test_a_schedule_that_never_comes_is_invalid_unless_the_job_has_run(cron: str) -> None:
    facts = replace(ARMED, schedule=Schedule.parse(cron), next_tick=None)
    decision = decide(job(Ask.STARTED, State.STARTED), facts, NOW)
    assert (decision.show, decision.ready, decision.stalled) == (State.STARTED, False, True)
    assert decision.reason is Reason.INVALID_SPEC
    assert decision.message.startswith(f"spec.cron: '{cron}' has no further tick, for instance because of a day that")
    decision = decide(job(Ask.STARTED, State.STARTED), replace(facts, last_run=ended(Outcome.COMPLETED)), NOW)
    assert (decision.ready, decision.stalled, decision.reason) == (True, False, Reason.WAITING)
    assert "no further tick" in decision.message
    assert "waiting" not in decision.message


@pytest.mark.parametrize(("state", "ask"), TABLE)
def test_a_tick_runs_only_a_started_job_and_is_dropped_elsewhere(state: State, ask: Ask) -> None:
    decision = decide(*at(state, ask, TICK), NOW)
    assert (decision.act is Act.RUN) == ((state, ask) == (State.STARTED, Ask.STARTED))
    if ask is Ask.STARTED:
        assert decision.next_tick == NOW + timedelta(hours=1)


@pytest.mark.parametrize("back", [timedelta(seconds=1), timedelta(hours=5), timedelta(days=4 * 365)])
def test_a_clock_that_is_set_back_delays_no_tick(back: timedelta) -> None:
    armed = decide(job(Ask.STARTED, State.STARTED), replace(ARMED, next_tick=None), NOW).next_tick
    then = NOW - back
    decision = decide(job(Ask.STARTED, State.STARTED), replace(ARMED, next_tick=armed), then)
    assert (decision.act, decision.next_tick) == (Act.NOTHING, HOURLY.next_after(then))
    assert decision.recheck_in is not None
    assert decision.recheck_in <= 3600


def test_a_clock_that_is_set_ahead_drops_the_ticks_in_between() -> None:
    then = NOW + timedelta(days=4 * 365)
    decision = decide(job(Ask.STARTED, State.STARTED), ARMED, then)
    assert (decision.act, decision.next_tick) == (Act.RUN, HOURLY.next_after(then))


@pytest.mark.parametrize(("state", "ask"), TABLE)
def test_a_request_is_recorded_in_any_state_and_runs_only_from_started(state: State, ask: Ask) -> None:
    view, facts = at(state, ask, ARMED, request="now")
    decision = decide(view, facts, NOW)
    assert (decision.act is Act.RUN) == ((state, ask) == (State.STARTED, Ask.STARTED))
    if decision.show is not None:
        waits_for_started = ask is Ask.STARTED and state in (State.STOPPED, State.STOPPING)
        assert decision.handled_request == (None if waits_for_started else "now")


@pytest.mark.parametrize("unreadable", [False, True])
def test_a_job_that_lost_its_status_is_settled_before_it_reads_stopped(unreadable: bool) -> None:
    view = job(Ask.STOPPED, None, observed=-1)
    if unreadable:
        view = replace(view, status_json='{"state": "of a version to come", "observedGeneration": 1}')
    decision = decide(view, replace(ARMED, settled=False), NOW)
    assert (decision.act, decision.show) == (Act.SETTLE, None)
    lasting = decide(view, replace(ARMED, settled=False, run=running(RunKind.SETTLE)), NOW)
    assert (lasting.act, lasting.show) == (Act.NOTHING, State.STOPPING)
    assert decide(view, ARMED, NOW).show is State.STOPPED


def test_a_job_that_lost_its_status_and_was_never_claimed_reads_stopped_at_once() -> None:
    decision = decide(job(Ask.STOPPED, None, observed=-1, held=False), replace(ARMED, settled=False), NOW)
    assert (decision.act, decision.show) == (Act.NOTHING, State.STOPPED)


def test_a_job_that_lost_its_status_runs_only_once_started_is_shown() -> None:
    view = job(Ask.STARTED, None, observed=-1, request="now")
    decision = decide(view, replace(ARMED, settled=False, next_tick=NOW), NOW)
    assert (decision.act, decision.show) == (Act.NOTHING, State.STARTED)


def test_a_request_for_a_job_that_starts_again_once_it_is_quiet_waits_for_started() -> None:
    view = job(Ask.STARTED, State.STOPPING, generation=5, observed=4, request="again", handled="before")
    decision = decide(view, replace(ARMED, run=running(halted=LONG)), NOW)
    assert (decision.show, decision.handled_request) == (State.STOPPING, "before")


def test_a_request_already_handled_runs_nothing() -> None:
    view = job(Ask.STARTED, State.STARTED, request="now", handled="now")
    assert decide(view, ARMED, NOW).act is Act.NOTHING


def test_a_request_begins_one_run_although_no_status_can_say_that_it_is_handled() -> None:
    view, begun = job(Ask.STARTED, State.STARTED, request="now"), replace(ARMED, begun_request="now")
    decision = decide(view, begun, NOW)
    assert (decision.act, decision.handled_request) == (Act.NOTHING, "now")
    assert decide(view, replace(begun, next_tick=NOW), NOW).act is Act.RUN
    assert decide(view, replace(begun, begun_request="before"), NOW).act is Act.RUN


def test_nothing_runs_before_started_was_accepted() -> None:
    for published, observed in ((State.STOPPED, 1), (State.STARTED, 0), (State.STOPPING, 1), (None, -1)):
        view = job(Ask.STARTED, published, observed=observed, request="now")
        decision = decide(view, TICK, NOW)
        assert decision.act is Act.NOTHING
        assert decision.show is State.STARTED


@pytest.mark.parametrize("state", [None, State.STOPPED])
def test_a_job_that_reads_stopped_while_its_store_tells_of_a_claim_is_settled(state: State | None) -> None:
    restored, known = job(Ask.STOPPED, state, held=False), Facts(schedule=HOURLY, held=True)
    begins = decide(restored, known, NOW)
    if state is State.STOPPED:  # settling takes a claim: the status leaves `stopped` before that
        assert (begins.act, begins.show) == (Act.NOTHING, State.STOPPING)
        assert decide(job(Ask.STOPPED, State.STOPPING, held=False), known, NOW).act is Act.SETTLE
    else:
        assert begins.act is Act.SETTLE
    settling = replace(known, run=running(RunKind.SETTLE, halted=LONG))
    assert decide(restored, settling, NOW).show is State.STOPPING
    settled = decide(restored, replace(known, settled=True), NOW)
    assert (settled.act, settled.show) == (Act.NOTHING, State.STOPPED)


def test_a_job_that_reads_stopped_while_its_store_tells_of_a_claim_is_deleted_only_once_it_is_settled() -> None:
    known = Facts(schedule=HOURLY, held=True)
    assert decide(job(Ask.DELETED, State.STOPPED), known, NOW).show is State.ABORTING
    assert decide(job(Ask.DELETED, State.ABORTING), known, NOW).act is Act.SETTLE
    assert decide(job(Ask.DELETED, State.ABORTING), replace(known, settled=True), NOW).act is Act.LET_GO


def test_a_stop_waits_until_the_store_has_listed_its_claims_but_a_stopped_job_stays_so() -> None:
    unlisted = Facts(schedule=HOURLY, held=None)
    assert decide(job(Ask.STOPPED, State.STARTED, held=False), unlisted, NOW).act is Act.SETTLE
    assert decide(job(Ask.STOPPED, State.STARTED, held=False), replace(unlisted, held=False), NOW).show is State.STOPPED
    assert decide(job(Ask.STOPPED, State.STOPPED, held=False), unlisted, NOW).act is Act.NOTHING
    assert decide(job(Ask.STOPPED, None, held=False), unlisted, NOW).act is Act.SETTLE
    assert decide(job(Ask.STOPPED, None, held=False), replace(unlisted, held=False), NOW).show is State.STOPPED


def test_the_finalizer_comes_before_the_first_claim_and_the_tick_waits_for_it() -> None:
    decision = decide(job(Ask.STARTED, State.STARTED, held=False), TICK, NOW)
    assert decision.act is Act.HOLD
    assert decision.next_tick == NOW
    assert decide(job(Ask.STARTED, State.STARTED), replace(TICK, next_tick=decision.next_tick), NOW).act is Act.RUN


@pytest.mark.parametrize(("listed", "unclaimed"), [(False, True), (True, False), (None, False)])
def test_with_the_finalizer_a_job_is_known_to_be_unclaimed_unless_its_store_says_else(
    listed: bool | None, unclaimed: bool
) -> None:
    decision = decide(job(Ask.STARTED, State.STARTED, held=False), replace(TICK, settled=False, held=listed), NOW)
    assert (decision.act, decision.unclaimed) == (Act.HOLD, unclaimed)


@pytest.mark.parametrize(
    ("ask", "run", "shown"),
    [
        (Ask.STARTED, running(age=SHORT), None),
        (Ask.STARTED, running(age=PATIENCE), State.INDEXING),
        (Ask.STOPPED, running(halted=SHORT), None),
        (Ask.STOPPED, running(halted=PATIENCE), State.STOPPING),
        (Ask.DELETED, running(halted=SHORT), None),
        (Ask.DELETED, running(halted=PATIENCE), State.ABORTING),
        (Ask.STOPPED, running(RunKind.SETTLE, age=SHORT), None),
        (Ask.STOPPED, running(RunKind.SETTLE, age=PATIENCE), State.STOPPING),
    ],
)
def test_passing_states_are_shown_only_when_they_last(ask: Ask, run: RunFacts, shown: State | None) -> None:
    decision = decide(job(ask, State.STARTED), replace(ARMED, run=run), NOW)
    assert decision.show is shown
    if shown is None:
        assert decision.recheck_in is not None
        assert decision.recheck_in <= PATIENCE


@pytest.mark.parametrize(
    ("ask", "published", "age", "shown"),
    [
        (Ask.STOPPED, State.STARTED, SHORT, None),
        (Ask.STOPPED, State.STARTED, PATIENCE, State.STOPPING),
        (Ask.STOPPED, State.INDEXING, PATIENCE, State.STOPPING),
        (Ask.STOPPED, State.STOPPED, PATIENCE, State.STOPPED),
        (Ask.DELETED, State.STARTED, SHORT, None),
        (Ask.DELETED, State.STARTED, PATIENCE, State.ABORTING),
        (Ask.STARTED, State.STARTED, PATIENCE, State.STARTED),
    ],
)
def test_a_job_is_not_shown_as_stopped_nor_let_go_before_a_verification_has_ended(
    ask: Ask, published: State, age: float, shown: State | None
) -> None:
    decision = decide(job(ask, published), replace(ARMED, verified_for=age), NOW)
    assert (decision.act, decision.show) == (Act.NOTHING, shown)
    if shown is None:
        assert decision.recheck_in is not None
        assert decision.recheck_in <= PATIENCE
    if shown in (State.STOPPING, State.ABORTING):
        assert decision.message.endswith("; a verification that reads its source is ending")


def test_a_stop_waits_for_a_verification_also_where_started_was_not_shown_yet() -> None:
    """It began as soon as the start was recorded, and the stop came before that start was accepted."""
    asked = job(Ask.STOPPED, State.STOPPED, generation=3, observed=1)
    assert decide(asked, replace(ARMED, verified_for=LONG), NOW).show is None
    assert decide(asked, ARMED, NOW).show is State.STOPPED


def test_a_long_run_is_reported_soon_and_then_every_half_minute() -> None:
    shown = job(Ask.STARTED, State.INDEXING)
    facts = replace(ARMED, run=running(age=100.0))
    young, due = (decide(shown, replace(facts, report_age=age), NOW) for age in (REFRESH - 1, REFRESH))
    assert (young.refresh, due.refresh) == (False, True)
    assert young.recheck_in == pytest.approx(1.0)
    # Whatever a run has counted is shown with its first report.
    assert decide(job(Ask.STARTED, State.STARTED), facts, NOW).refresh


def test_each_report_of_a_run_is_made_at_its_time() -> None:
    shown = job(Ask.STARTED, State.INDEXING)
    age = reported = PATIENCE  # it has just been shown as indexing
    reports = []
    while age < 130:
        decision = decide(shown, replace(ARMED, run=running(age=age), report_age=age - reported), NOW)
        if decision.refresh:
            reports.append(round(age, 3))
            reported = age
        assert decision.recheck_in is not None
        age += decision.recheck_in + 1e-6  # a timer is never early, and a little late
    assert reports == [2, 5, 10, 30, 60, 90, 120]


def test_a_run_that_was_reported_late_is_not_reported_twice() -> None:
    facts = replace(ARMED, run=running(age=5.5), report_age=0.2)
    decision = decide(job(Ask.STARTED, State.INDEXING), facts, NOW)
    assert (decision.refresh, decision.recheck_in) == (False, pytest.approx(4.5))


def test_a_job_that_was_started_elsewhere_is_settled_before_it_reads_stopped() -> None:
    facts = replace(ARMED, settled=False)
    for published in (State.STARTED, State.INDEXING, State.STOPPING, State.ABORTING):
        decision = decide(job(Ask.STOPPED, published), facts, NOW)
        assert decision.act is Act.SETTLE
        assert decision.show is not State.STOPPED


def test_a_job_that_was_never_claimed_stops_without_a_look_at_the_store() -> None:
    decision = decide(job(Ask.STOPPED, State.STARTED, held=False), replace(ARMED, settled=False), NOW)
    assert (decision.show, decision.act) == (State.STOPPED, Act.NOTHING)


def test_a_stop_that_cannot_settle_stays_stopping_and_says_why() -> None:
    trouble = Trouble(Reason.STORE_UNAVAILABLE, "locked by 42", transient=True)
    facts = replace(ARMED, settled=False, trouble=trouble, retry_in=3.0)
    decision = decide(job(Ask.STOPPED, State.STARTED), facts, NOW)
    assert (decision.show, decision.act) == (State.STOPPING, Act.NOTHING)
    assert (decision.ready, decision.reason) == (False, Reason.STORE_UNAVAILABLE)
    assert "locked by 42" in decision.message
    assert decision.recheck_in == 3.0
    assert decide(job(Ask.STOPPED, State.STARTED), replace(facts, retry_in=0.0), NOW).act is Act.SETTLE


@pytest.mark.parametrize("ask", [Ask.STOPPED, Ask.DELETED])
def test_a_job_that_was_refused_for_good_is_settled_all_the_same(ask: Ask) -> None:
    """Nothing but a change of the spec would make a permanent trouble pass, and the job would stay `stopping`."""
    refused = Trouble(Reason.JOB_ID_TAKEN, "another job has the id", transient=False)
    facts = Facts(trouble=refused, retry_in=None)
    assert decide(job(ask, State.STOPPING), facts, NOW).act is Act.SETTLE


def test_an_invalid_spec_stops_as_any_other_and_starts_nothing() -> None:
    invalid = replace(ARMED, schedule=None, invalid="spec.cron: no")
    stopped = decide(job(Ask.STOPPED, State.STARTED), invalid, NOW)
    assert (stopped.show, stopped.ready, stopped.stalled, stopped.reason) == (
        State.STOPPED, False, True, Reason.INVALID_SPEC,
    )  # fmt: skip
    asked = decide(job(Ask.STARTED, State.STOPPED), invalid, NOW)
    assert (asked.show, asked.stalled) == (State.STOPPED, True)
    going_on = decide(job(Ask.STARTED, State.INDEXING), replace(invalid, run=running()), NOW)
    assert (going_on.act, going_on.show, going_on.stalled) == (Act.NOTHING, State.INDEXING, True)
    armed = decide(job(Ask.STARTED, State.STARTED), replace(invalid, next_tick=NOW), NOW)
    assert (armed.act, armed.show) == (Act.NOTHING, State.STARTED)
    assert decide(job(Ask.STOPPED, State.INDEXING), replace(invalid, run=running()), NOW).act is Act.HALT


def test_a_halt_that_takes_long_reports_itself_and_is_not_given_up() -> None:
    facts = replace(ARMED, drain_timeout=5.0, run=running(halted=5.0))
    decision = decide(job(Ask.STOPPED, State.STOPPING), facts, NOW)
    assert (decision.show, decision.reason) == (State.STOPPING, Reason.DRAIN_TIMEOUT)
    assert "reading" in decision.message


@pytest.mark.parametrize(("transient", "stalled"), [(True, False), (False, True)])
def test_a_failed_run_shows_until_a_good_one(transient: bool, stalled: bool) -> None:
    facts = replace(ARMED, trouble=Trouble(Reason.SOURCE_NOT_FOUND, "no file", transient), retry_in=9.0)
    decision = decide(job(Ask.STARTED, State.STARTED), facts, NOW)
    assert (decision.show, decision.ready, decision.stalled) == (State.STARTED, False, stalled)
    assert decide(job(Ask.STARTED, State.STARTED), replace(facts, retry_in=0.0), NOW).act is Act.RUN


def ended(outcome: Outcome, message: str = "no file") -> LastRun:
    return LastRun(start_time="2026-01-01T11:00:00Z", end_time="2026-01-01T11:00:01Z", outcome=outcome, message=message)


def test_a_stopped_job_says_that_its_last_run_had_failed() -> None:
    decision = decide(job(Ask.STOPPED, State.STOPPED), replace(ARMED, last_run=ended(Outcome.FAILED)), NOW)
    assert (decision.ready, decision.reason) == (True, Reason.STOPPED)
    assert decision.message == "no queries or writes are running; its last run failed: no file"


@pytest.mark.parametrize("last", [None, ended(Outcome.COMPLETED), ended(Outcome.FAILED, "another")])
def test_a_stopped_job_says_that_the_last_check_of_its_source_had_failed(last: LastRun | None) -> None:
    failed = FailedCheck(reason="SourceNotFound", message="no file")
    decision = decide(job(Ask.STOPPED, State.STOPPED), replace(ARMED, failed_check=failed, last_run=last), NOW)
    assert (decision.ready, decision.reason) == (True, Reason.STOPPED)
    assert decision.message == "no queries or writes are running; the last check of its source failed: no file"


@pytest.mark.parametrize("last", [None, ended(Outcome.COMPLETED), ended(Outcome.HALTED), ended(Outcome.FENCED)])
def test_a_stopped_job_whose_last_run_did_not_fail_just_says_so(last: LastRun | None) -> None:
    decision = decide(job(Ask.STOPPED, State.STOPPED), replace(ARMED, last_run=last), NOW)
    assert decision.message == "no queries or writes are running"


def test_a_permanent_failure_waits_for_a_change_a_tick_or_a_request() -> None:
    facts = replace(ARMED, trouble=Trouble(Reason.JOB_ID_TAKEN, "by n/other", transient=False), retry_in=None)
    assert decide(job(Ask.STARTED, State.STARTED), facts, NOW).act is Act.NOTHING
    assert decide(job(Ask.STARTED, State.STARTED), replace(facts, next_tick=NOW), NOW).act is Act.RUN
    assert decide(job(Ask.STARTED, State.STARTED), replace(facts, retry_in=0.0), NOW).act is Act.RUN
    assert decide(job(Ask.STARTED, State.STARTED, request="now"), facts, NOW).act is Act.RUN


def test_a_shutdown_ends_runs_begins_none_and_shows_no_change() -> None:
    facts = replace(TICK, draining=True)
    assert decide(job(Ask.STARTED, State.STARTED), facts, NOW).act is Act.NOTHING
    halting = decide(job(Ask.STARTED, State.INDEXING), replace(facts, run=running()), NOW)
    assert (halting.act, halting.show) == (Act.HALT, None)


def test_a_tick_that_comes_while_nothing_may_begin_stays_due() -> None:
    held = decide(job(Ask.STARTED, State.STARTED), replace(TICK, draining=True), NOW)
    later = replace(TICK, next_tick=held.next_tick)
    assert decide(job(Ask.STARTED, State.STARTED), later, NOW + timedelta(seconds=1)).act is Act.RUN


def test_deletion_removes_documents_only_where_the_policy_says() -> None:
    delete = replace(ARMED, deletion_policy=DeletionPolicy.DELETE)
    first = decide(job(Ask.DELETED, State.STOPPED), delete, NOW)
    assert (first.act, first.show) == (Act.NOTHING, State.ABORTING)  # the status leaves `stopped` before work begins
    assert decide(job(Ask.DELETED, State.ABORTING), delete, NOW).act is Act.SETTLE
    assert decide(job(Ask.DELETED, State.STOPPED), replace(delete, cleaned=True), NOW).act is Act.LET_GO
    assert decide(job(Ask.DELETED, State.STOPPED), ARMED, NOW).act is Act.LET_GO
    assert decide(job(Ask.DELETED, State.STARTED), replace(ARMED, settled=False), NOW).act is Act.SETTLE
    assert decide(job(Ask.DELETED, State.STARTED, held=False), ARMED, NOW).act is Act.NOTHING


def test_an_object_that_is_gone_is_halted_then_forgotten() -> None:
    gone = replace(ARMED, gone=True)
    assert decide(job(Ask.STARTED, State.INDEXING), replace(gone, run=running()), NOW).act is Act.HALT
    assert decide(job(Ask.STARTED, State.STARTED), gone, NOW).act is Act.FORGET


@pytest.mark.parametrize(("state", "ask"), TABLE)
@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("broken", [True, False])
@pytest.mark.parametrize("draining", [True, False])
def test_stopped_is_never_shown_while_a_run_exists(
    state: State, ask: Ask, settled: bool, broken: bool, draining: bool
) -> None:
    trouble = Trouble(Reason.RUN_FAILED, "x", transient=True) if broken else None
    facts = replace(TICK, settled=settled, trouble=trouble, retry_in=0.0 if broken else None, draining=draining)
    view, facts = at(state, ask, facts)
    decision = decide(view, facts, NOW)
    if decision.show is State.STOPPED:
        assert facts.run is None
        assert decision.act not in (Act.RUN, Act.SETTLE)


@pytest.mark.parametrize(("state", "ask"), TABLE)
def test_what_was_published_is_not_written_again(state: State, ask: Ask) -> None:
    view, facts = at(state, ask, ARMED)
    decision = decide(view, facts, NOW)
    if decision.show is None:
        return
    report = Report(None, None, None, None)
    status = status_of(view, decision, report, NOW)
    later = JobView.of(
        {
            "metadata": {
                "uid": "u", "namespace": "n", "name": "j", "generation": 1, "resourceVersion": "8",
                "finalizers": [DRAIN_FINALIZER], **({"deletionTimestamp": "x"} if view.deleting else {}),
            },
            "spec": view.raw_spec,
            "status": status,
        }
    )  # fmt: skip
    again = decide(later, replace(facts, next_tick=decision.next_tick), NOW + timedelta(seconds=1))
    if again.show is not None:
        new = status_of(later, again, Report.published(later.status), NOW + timedelta(seconds=1))
        changed = set(difference(status, new))
        # A job that left `stopped` shows its state; everything else stands as it was written.
        assert changed == set()


@pytest.mark.parametrize("checked", [True, False])
def test_a_run_that_waits_says_so_and_for_what_and_is_not_running(checked: bool) -> None:
    """A job whose source nobody has checked is not Ready while its run waits."""
    waits = replace(ARMED, checked=checked, run=replace(running(), doing="waiting for a place", waits=True))
    decision = decide(job(Ask.STARTED, State.STARTED), waits, NOW)
    reason = Reason.WAITING if checked else Reason.RECONCILING
    assert (decision.show, decision.ready, decision.reason) == (State.INDEXING, checked, reason)
    assert decision.message == "waiting for a place"
    decision = decide(job(Ask.STARTED, State.INDEXING), replace(waits, run=running()), NOW)
    assert (decision.ready, decision.reason, decision.message) == (True, Reason.RUNNING, "reading")
