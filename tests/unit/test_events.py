"""Events: what a write of the status tells, and when what waits is posted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollup_operator.kube import events
from rollup_operator.kube.client import Unreachable
from rollup_operator.kube.events import (
    BURST,
    LATE,
    PAUSE,
    QUEUE,
    QUIET,
    REST,
    STALE,
    Event,
    EventQueue,
    EventRecorder,
    Regarding,
)
from rollup_operator.lifecycle.jobs.transition_events import transition_event
from rollup_operator.model.conditions import Reason
from rollup_operator.model.event_reasons import EVENTS, EventType
from rollup_operator.model.job_view import JobView
from support.observed_job import NOW, at, conditions, observed_job

STORE_AWAY = conditions("StoreUnavailable", "it is away")
WELL = conditions("Running", "waiting for the next tick of spec.cron", ready=True)


def view(state: str | None, **more: Any) -> JobView:
    return JobView.of(observed_job(state=state, **{"conditions": WELL, **more}))


@pytest.mark.parametrize("before", [None, "stopped", "stopping"])
@pytest.mark.parametrize("after", ["started", "indexing"])
def test_a_job_that_begins_to_be_started_gets_an_event_with_its_next_run(before: str | None, after: str) -> None:
    event = transition_event(view(before), view(after, nextRunTime=at(60)))
    assert event == (Reason.STARTED, f"the job is started and runs next at {at(60)}")


def test_a_job_that_is_started_in_vain_gets_a_warning_with_what_is_wrong() -> None:
    event = transition_event(view("stopped"), view("started", conditions=STORE_AWAY))
    assert event == (Reason.STORE_UNAVAILABLE, "the job is started, but cannot run: it is away")
    assert EVENTS[Reason.STORE_UNAVAILABLE].type is EventType.WARNING


def test_a_job_that_is_started_although_its_spec_is_wrong_has_its_warning_already() -> None:
    wrong = conditions("InvalidSpec", "spec.cron: x", stalled=True)
    event = transition_event(view("stopped"), view("started", conditions=wrong))
    assert event == (Reason.STARTED, "the job is started, but InvalidSpec: spec.cron: x")


@pytest.mark.parametrize("before", ["started", "indexing", "stopping"])
def test_a_job_that_comes_to_rest_gets_an_event_with_how_far_it_has_come(before: str) -> None:
    rest = "no queries or writes are running; "
    assert transition_event(view(before), view("stopped")) == (Reason.STOPPED, rest + "nothing is rolled up yet")
    part = transition_event(view(before), view("stopped", position={"time.date_histogram": 1}))
    assert part == (Reason.STOPPED, rest + "its position is kept, and the next run goes on from there")
    whole = transition_event(view(before), view("stopped", watermark=at(0), position={"time.date_histogram": 1}))
    assert whole == (
        Reason.STOPPED,
        rest + f"everything before {at(0)} is rolled up, and the next run goes on from there",
    )


@pytest.mark.parametrize(("state", "reason"), [("stopping", Reason.STOPPING), ("aborting", Reason.DELETING)])
def test_what_takes_a_while_to_end_is_reported_once(state: str, reason: Reason) -> None:
    halting = view(state, conditions=conditions(reason, "it is being ended"))
    assert transition_event(view("indexing"), halting) == (reason, "it is being ended")
    late = view(state, conditions=conditions("DrainTimeout", "it is being ended; it still waits"))
    assert transition_event(halting, late) is None


def test_a_problem_that_is_over_is_reported() -> None:
    event = transition_event(view("started", conditions=STORE_AWAY), view("started"))
    assert event == (Reason.RECOVERED, "StoreUnavailable is over: waiting for the next tick of spec.cron")
    invalid = view("stopped", conditions=conditions("InvalidSpec", "no cron", stalled=True))
    stopped = view("stopped", conditions=conditions("Stopped", "nothing is in flight", ready=True))
    assert transition_event(invalid, stopped) == (Reason.RECOVERED, "InvalidSpec is over: nothing is in flight")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (view("started"), view("indexing")),
        (view("indexing"), view("started", watermark=at(0))),
        (view("started"), view("started", nextRunTime=at(60))),
        (view("started"), view("started", conditions=STORE_AWAY)),  # a warning's work
        (view(None, conditions=[]), view("stopped")),  # nobody has asked anything of it
        (view("stopped", generation=3), view("stopped", generation=4)),
    ],
)
def test_a_scheduled_run_and_what_changes_nothing_for_a_person_get_no_event(before: JobView, after: JobView) -> None:
    assert transition_event(before, after) is None


# When it is posted


EARLIER = -QUIET
"""Normal events of that time are due at 0."""


def event(
    number: int = 0, reason: Reason = Reason.STOPPED, note: str = "quiet", *, later: float = 0, namespace: str = "n"
) -> Event:
    moment = NOW + timedelta(seconds=later)
    about = Regarding("v1", "RollupJob", namespace, f"j{number}", f"u{namespace}{number}")
    return Event(about, reason, note, moment, moment)


def taken(queue: EventQueue, now: float) -> list[Event]:
    """All that is due now."""
    found = []
    while (one := queue.take(now)[0]) is not None:
        found.append(one)
    return found


def test_normal_events_keep_a_pace_and_their_order() -> None:
    queue, now, posted = EventQueue(), 1000.0, list[Event]()
    for number in range(100):
        assert queue.put(event(number), now - QUIET) is None
    posted += taken(queue, now)
    assert len(posted) == BURST
    while (wait := queue.take(now)[1]) is not None:
        assert wait > 0
        now += wait + 1e-6  # floating point
        due = taken(queue, now)
        assert len(due) == 1
        posted += due
    assert [e.about.name for e in posted] == [f"j{number}" for number in range(100)]
    assert now - 1000 == pytest.approx((100 - BURST) * PAUSE, rel=0.01)


def test_after_a_rest_there_is_a_burst_again_and_no_more_than_that() -> None:
    queue = EventQueue()
    for number in range(200):
        queue.put(event(number), EARLIER)
    assert len(taken(queue, 0.0)) == BURST
    assert len(taken(queue, 3600.0)) == BURST


def test_warnings_overtake_normal_events_and_are_not_held_back() -> None:
    queue = EventQueue()
    for number in range(BURST + 10):
        queue.put(event(number), EARLIER)
    taken(queue, 0.0)
    for number in range(50):
        queue.put(event(number, Reason.RUN_FAILED), EARLIER)
    assert [e.reason for e in taken(queue, 0.0)] == [Reason.RUN_FAILED] * 50
    assert queue.take(0.0)[1] == pytest.approx(PAUSE)


def test_what_is_said_again_while_it_waits_becomes_one_event() -> None:
    queue = EventQueue()
    for later in range(3):
        queue.put(event(1, later=later), EARLIER)
    queue.put(event(1, note="quiet elsewhere"), EARLIER)
    queue.put(event(2), EARLIER)
    one, *others = taken(queue, 0.0)
    assert (one.count, one.first, one.last) == (3, NOW, NOW + timedelta(seconds=2))
    assert [(e.about.name, e.note, e.count) for e in others] == [("j1", "quiet elsewhere", 1), ("j2", "quiet", 1)]


def test_a_job_that_flaps_gets_an_event_once_in_a_while_and_holds_no_other_back() -> None:
    queue, posted = EventQueue(), 0
    for second in range(100):
        queue.put(event(1, Reason.STARTED if second % 2 else Reason.STOPPED), second)
        posted += len(taken(queue, second + QUIET))
    assert posted == 2 * 100 / REST
    queue.put(event(2), 99.6)
    assert named(taken(queue, 99.7 + QUIET)) == ["n/j2"]
    assert named(taken(queue, 100.0 + REST)) == ["n/j1", "n/j1"]


def test_what_rests_is_asked_for_again_when_it_is_due() -> None:
    queue = EventQueue()
    queue.put(event(1), EARLIER)
    taken(queue, 5.0)
    queue.put(event(1), EARLIER)
    assert queue.take(6.0) == (None, REST - 1)
    assert len(taken(queue, 5.0 + REST)) == 1
    assert queue.take(100.0) == (None, None)


def test_normal_events_give_way_until_no_job_changes_any_more() -> None:
    queue = EventQueue()
    for tenth in range(5):
        queue.put(event(tenth), tenth / 10)
        assert queue.take(tenth / 10) == (None, pytest.approx(QUIET))
    queue.put(event(0), 0.6)  # becomes one with that which waits, and is a change all the same
    event_, wait = queue.take(1.0)
    assert event_ is None
    assert wait == pytest.approx(0.1)
    assert len(taken(queue, 0.6 + QUIET)) == 5


def test_normal_events_give_way_to_a_series_of_stops_that_takes_twenty_seconds() -> None:
    queue = EventQueue()
    for tenth in range(200):
        queue.put(event(tenth), tenth / 10)
        assert not taken(queue, tenth / 10)
    assert len(taken(queue, 20 + QUIET)) == BURST


def test_normal_events_give_way_for_so_long_and_no_longer() -> None:
    queue, posted, late = EventQueue(), list[str](), round(LATE * 10)
    for tenth in range(late + 50):
        queue.put(event(tenth), tenth / 10)
        posted += named(taken(queue, tenth / 10))
    assert posted == [f"n/j{tenth}" for tenth in range(50)]


def test_warnings_give_way_to_nothing() -> None:
    queue = EventQueue()
    queue.put(event(0), 0.0)
    queue.put(warning(1), 0.0)
    assert named(taken(queue, 0.0)) == ["n/j1"]


def test_a_normal_event_that_does_not_fit_is_dropped_and_warnings_have_room_of_their_own() -> None:
    queue = EventQueue()
    for number in range(QUEUE):
        assert queue.put(event(number), EARLIER) is None
    assert queue.put(one := event(QUEUE), EARLIER) is one
    assert queue.put(event(0), EARLIER) is None  # becomes one with that which waits
    assert queue.put(event(0, Reason.RUN_FAILED), EARLIER) is None


def warning(number: int, namespace: str = "n", note: str = "failed") -> Event:
    about = Regarding("v1", "RollupJob", namespace, f"j{number}", f"u{namespace}{number}")
    return Event(about, Reason.RUN_FAILED, note, NOW, NOW)


def named(events: list[Event]) -> list[str]:
    return [f"{e.about.namespace}/{e.about.name}" for e in events]


def test_the_newest_warning_of_a_namespace_goes_first() -> None:
    queue = EventQueue()
    for number in range(4):
        queue.put(warning(number), float(number))
    queue.put(warning(1), 9.0)  # happened again
    assert named(taken(queue, 9.0)) == ["n/j1", "n/j3", "n/j2", "n/j0"]


def test_a_namespace_with_many_warnings_holds_up_no_other() -> None:
    queue = EventQueue()
    for number in range(3):
        queue.put(warning(number, "busy"), 0.0)
    for number in range(2):
        queue.put(warning(number, "calm"), 0.0)
    assert named(taken(queue, 0.0)) == ["busy/j2", "calm/j1", "busy/j1", "calm/j0", "busy/j0"]


def test_the_namespace_with_the_most_warnings_makes_room_with_its_oldest() -> None:
    queue = EventQueue()
    for number in range(QUEUE):
        assert queue.put(warning(number, "busy"), 0.0) is None
    dropped = queue.put(warning(0, "calm"), 1.0)
    assert dropped is not None
    assert named([dropped]) == ["busy/j0"]
    assert named(taken(queue, 1.0))[:3] == [f"busy/j{QUEUE - 1}", "calm/j0", f"busy/j{QUEUE - 2}"]


def test_a_namespace_with_many_normal_events_holds_up_no_other() -> None:
    queue = EventQueue()
    for number in range(3):
        queue.put(event(number, namespace="busy"), EARLIER)
    for number in range(2):
        queue.put(event(number, namespace="calm"), EARLIER)
    assert named(taken(queue, 0.0)) == ["busy/j0", "calm/j0", "busy/j1", "calm/j1", "busy/j2"]


def test_the_namespace_with_the_most_normal_events_makes_room_with_its_newest() -> None:
    queue = EventQueue()
    for number in range(QUEUE):
        assert queue.put(event(number, namespace="busy"), EARLIER) is None
    for number in range(3):
        dropped = queue.put(event(number, namespace="calm"), EARLIER)
        assert dropped is not None
        assert named([dropped]) == [f"busy/j{QUEUE - 1 - number}"]
    assert queue.put(one := event(QUEUE, namespace="busy"), EARLIER) is one
    assert named(taken(queue, 0.0))[:4] == ["busy/j0", "calm/j0", "busy/j1", "calm/j1"]


def test_a_namespace_whose_jobs_change_all_the_time_delays_others_for_so_long_and_no_longer() -> None:
    queue = EventQueue()
    queue.put(event(0, namespace="calm"), 0.0)
    due = []
    for tenth in range(round(LATE * 10) + 1):
        queue.put(event(tenth, namespace="busy"), tenth / 10)
        due += [(one, tenth / 10) for one in named(taken(queue, tenth / 10))]
    assert ("calm/j0", LATE) in due


def test_what_has_waited_for_too_long_is_taken_out() -> None:
    queue = EventQueue()
    queue.put(event(0), EARLIER)
    queue.put(event(1), 10.0)
    for namespace in ("a", "b"):
        queue.put(warning(0, namespace), 0.0)
        queue.put(warning(1, namespace), 10.0)
    assert queue.stale(STALE - 1) == []
    assert sorted(named(queue.stale(STALE))) == ["a/j0", "b/j0", "n/j0"]
    assert sorted(named(queue.stale(STALE + 10))) == ["a/j1", "b/j1", "n/j1"]
    assert queue.take(STALE + 10) == (None, None)


def test_a_warning_that_happens_again_is_not_stale_yet() -> None:
    queue = EventQueue()
    queue.put(warning(0), 0.0)
    queue.put(warning(0), STALE - 1)
    assert queue.stale(STALE) == []


# Who posts


class Server:
    """Takes events, or none."""

    def __init__(self) -> None:
        self.taken: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.away = self.hangs = False

    async def post(self, path: str, body: dict[str, Any]) -> None:
        assert path == "/apis/events.k8s.io/v1/namespaces/n/events"
        if self.hangs:
            self.asked.put_nowait(body)
            await asyncio.Event().wait()
        if self.away:
            raise Unreachable("away", sent=False)
        self.taken.put_nowait(body)


class Posting:
    """A recorder at work, and what it tells of each event."""

    def __init__(self, *, normal: bool = True) -> None:
        self.server, self.leads, self.seen = Server(), True, asyncio.Queue[tuple[str, str]]()
        self.time = datetime(2030, 1, 1, tzinfo=UTC)
        self.seconds = 0.0
        kube: Any = self.server
        self.recorder = EventRecorder(
            kube,
            instance="i",
            now=lambda: self.time,
            leading=lambda: self.leads,
            normal=normal,
            observe=lambda *what: self.seen.put_nowait(what),
            clock=lambda: self.seconds,
        )

    def record(self, reason: Reason, note: str = "so it is") -> None:
        self.recorder.record(event().about, reason, note)


Post = Callable[..., Posting]


@pytest.fixture
async def posting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Post]:
    monkeypatch.setattr(events, "QUIET", 0.0)
    tasks = []

    def begin(**more: Any) -> Posting:
        made = Posting(**more)
        tasks.append(asyncio.create_task(made.recorder.run()))
        return made

    yield begin
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_an_event_bears_the_time_of_what_happened(posting: Post) -> None:
    post = posting()
    post.record(Reason.STOPPED)
    post.time += timedelta(seconds=2)
    post.record(Reason.STOPPED)  # before the task has had a turn
    post.time += timedelta(hours=1)
    body = await post.server.taken.get()
    assert (body["type"], body["reason"], body["eventTime"]) == ("Normal", "Stopped", "2030-01-01T00:00:00.000000Z")
    assert body["series"] == {"count": 2, "lastObservedTime": "2030-01-01T00:00:02.000000Z"}
    assert await post.seen.get() == ("Normal", "posted")


async def test_where_warnings_alone_are_wanted_no_other_event_is_posted(posting: Post) -> None:
    post = posting(normal=False)
    post.record(Reason.STOPPED)
    post.record(Reason.RUN_FAILED)
    assert (await post.server.taken.get())["reason"] == "RunFailed"
    assert await post.seen.get() == ("Warning", "posted")
    assert post.seen.empty()


async def test_a_replica_that_leads_no_more_tells_no_more_what_it_did(posting: Post) -> None:
    post = posting()
    post.leads = False
    post.record(Reason.STOPPED)
    assert await post.seen.get() == ("Normal", "dropped")
    post.record(Reason.STOP_TIMED_OUT)  # what its own clients met is its to tell
    assert (await post.server.taken.get())["reason"] == "StopTimedOut"


async def test_an_event_that_is_not_taken_is_counted_and_the_next_one_posted(posting: Post) -> None:
    post = posting()
    post.server.away = True
    post.record(Reason.STOPPED)
    assert await post.seen.get() == ("Normal", "failed")
    post.server.away = False
    post.record(Reason.STARTED)
    assert (await post.server.taken.get())["reason"] == "Started"


async def test_what_does_not_fit_is_counted(posting: Post) -> None:
    post = posting()
    for number in range(QUEUE + 1):
        post.record(Reason.STOPPED, str(number))
    assert await post.seen.get() == ("Normal", "dropped")


async def test_an_api_server_that_hangs_holds_up_neither_new_warnings_nor_old_ones_for_long(
    posting: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "POST_SECONDS", 0.01)
    post = posting()
    post.server.hangs = True
    for number in range(10):
        post.record(Reason.RUN_FAILED, str(number))
    assert (await post.server.asked.get())["note"] == "9"
    post.record(Reason.RUN_FAILED, "new")
    assert (await post.server.asked.get())["note"] == "new"
    post.seconds = STALE + 1  # by the end of this post at the latest
    while (became := await asyncio.wait_for(post.seen.get(), 5))[1] == "failed":
        pass
    assert became == ("Warning", "dropped")
    post.server.hangs = False
    post.record(Reason.RUN_FAILED, "newer")
    assert (await post.server.taken.get())["note"] == "newer"
