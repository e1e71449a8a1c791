"""Calls that come again: what a client or a proxy repeats undoes nothing, what a person asks for is done."""

import asyncio
import gc

import pytest

from rollup_operator.http.jobs import attempt as asks_module
from rollup_operator.http.jobs import desired_state as states_module
from rollup_operator.http.jobs import repeats as repeats_module
from rollup_operator.http.jobs.repeats import GRACE, Asked, Doubt, Repeats, expected_generation, overtaken
from rollup_operator.kube.client import KubeError, Unreachable
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from support.http_double import Cluster
from support.serving import Client, call, calling, served, when_waiting

STOP = "/_rollup/job/sensor/_stop"
WAIT = f"{STOP}?wait_for_completion=true&timeout=20ms"
LONG = f"{STOP}?wait_for_completion=true&timeout=20s"
START = "/_rollup/job/sensor/_start"
STARTED, STOPPED = DesiredState.STARTED, DesiredState.STOPPED


def job(generation: int, desired: str | None, recorded: str | None = None) -> JobView:
    meta = {"uid": "u", "namespace": "n", "name": "j", "generation": generation, "resourceVersion": "1"}
    return JobView.of(
        {
            "metadata": meta,
            "spec": {"desiredState": desired} if desired else {},
            "status": {"desiredState": recorded} if recorded else {},
        }
    )


# The decision


@pytest.mark.parametrize(
    ("before", "state", "generation"),
    [
        (job(3, "started"), STOPPED, 4),
        (job(3, "stopped"), STOPPED, 3),
        (job(3, None), STOPPED, 4),
        (job(3, None, "stopped"), STOPPED, 4),  # the field is added: a change, though nothing else changes
        (job(3, "stopped"), STARTED, 4),
    ],
)
def test_the_generation_that_a_write_leads_to(before: JobView, state: DesiredState, generation: int) -> None:
    assert expected_generation(before, state) == generation


@pytest.mark.parametrize(
    ("doubt", "now", "verdict"),
    [
        (Doubt(STOPPED, 4, 0), job(5, "started"), True),
        (Doubt(STOPPED, 4, 0), job(4, "stopped"), False),  # it stands
        (Doubt(STOPPED, 4, 0), job(6, "stopped"), False),  # started, and stopped again
        (Doubt(STOPPED, 4, 0), job(3, "started"), False),  # it was never carried out
        (Doubt(STOPPED, 4, 0), job(4, "started"), False),  # nor here: another field was changed
        (Doubt(STOPPED, 4, 0), job(5, None, "started"), True),
        (Doubt(STARTED, 4, 0), job(5, "stopped"), True),
        (Doubt(STARTED, 4, 0), job(5, "started"), False),
    ],
)
def test_what_counts_as_overtaken(doubt: Doubt, now: JobView, verdict: bool) -> None:
    assert overtaken(doubt, now) is verdict


# The memory


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def asked(number: int = 0, caller: str = "anna", text: str = "stop sensor") -> Asked:
    return Asked(caller, f"uid-{number}", text)


def test_a_call_is_remembered_until_its_own_time_is_over_and_some_seconds_more() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    repeats.remember(asked(), Doubt(STOPPED, 4, 0), until=110.0)
    clock.now = 110.0 + GRACE
    assert repeats.recall(asked()) == Doubt(STOPPED, 4, 110.0 + GRACE)
    clock.now += 0.001
    assert repeats.recall(asked()) is None
    assert len(repeats) == 0


def test_a_call_whose_time_was_over_before_its_end_counts_from_the_end() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    repeats.remember(asked(), Doubt(STOPPED, 4, 0), until=50.0)
    clock.now += GRACE
    assert repeats.recall(asked()) is not None


@pytest.mark.parametrize("other", [asked(1), asked(caller="ben"), asked(text="stop sensor within 10s")])
def test_another_job_caller_or_parameter_is_another_call(other: Asked) -> None:
    repeats = Repeats(Clock())
    repeats.remember(asked(), Doubt(STOPPED, 4, 0), until=0)
    assert repeats.recall(other) is None


def test_a_call_that_was_answered_well_is_forgotten() -> None:
    repeats = Repeats(Clock())
    repeats.remember(asked(), Doubt(STOPPED, 4, 0), until=0)
    doubt = repeats.begin(asked(), STOPPED, 4)
    repeats.forget(asked(), doubt)
    repeats.forget(asked(), doubt)
    assert repeats.recall(asked()) is None


def test_the_memory_is_bounded_and_the_oldest_go_first() -> None:
    repeats = Repeats(Clock(), limit=3)
    for number in (0, 1, 2, 0, 3):
        repeats.remember(asked(number), Doubt(STOPPED, 4, 0), until=0)
    assert [repeats.recall(asked(number)) is not None for number in range(4)] == [True, False, True, True]
    assert len(repeats) == 3


def test_whoever_is_in_doubt_most_forgets_own_calls_alone() -> None:
    clock = Clock()
    repeats = Repeats(clock, limit=10)
    for number in range(3):
        repeats.remember(asked(number, "ben"), Doubt(STOPPED, 4, 0), until=0)
    for number in range(1_000):
        repeats.remember(asked(number), Doubt(STOPPED, 4, 0), until=0)
    assert all(repeats.recall(asked(number, "ben")) for number in range(3))
    assert repeats.recall(asked(999)) is not None
    assert len(repeats) == 10
    clock.now += GRACE + 1
    for number in range(10):
        repeats.remember(asked(number, f"caller {number}"), Doubt(STOPPED, 4, 0), until=0)
    assert len(repeats) == 10
    assert repeats.recall(asked(0, "caller 0")) is not None  # what had expired went first


def test_late_calls_are_forgotten() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    for number in range(3):
        repeats.remember(asked(number), Doubt(STOPPED, 4, 0), until=clock.now + number)
    clock.now += GRACE + 1.5
    assert repeats.forget_late()
    assert len(repeats) == 1
    clock.now += 1
    assert not repeats.forget_late()


# The endpoint


@pytest.fixture
def cluster() -> Cluster:
    return Cluster.indexing("sensor")


def desired_state(cluster: Cluster) -> str:
    [body] = cluster.objects.values()
    state: str = body["spec"]["desiredState"]
    return state


async def refused(client: Client, path: str, text: str) -> None:
    status, answer = await call(client, "POST", path)
    assert (status, answer["error"]["type"]) == (409, "status_exception")
    assert answer["error"]["reason"] == (
        f"{text}; nothing was changed. If it is meant for the job as it is now, send it again"
    )


AGAIN = "Stop of rollup job [sensor] arrived again after a newer start (generation [3])"


async def test_a_stop_that_timed_out_and_comes_again_after_a_start_changes_nothing(
    client: Client, cluster: Cluster
) -> None:
    assert (await call(client, "POST", WAIT))[0] == 500
    assert (await call(client, "POST", START))[0] == 200
    await refused(client, WAIT, AGAIN)
    assert desired_state(cluster) == "started"


async def test_who_sends_it_once_more_after_the_refusal_is_obeyed(client: Client, cluster: Cluster) -> None:
    await call(client, "POST", WAIT)
    await call(client, "POST", START)
    await refused(client, WAIT, AGAIN)
    await call(client, "POST", WAIT)
    assert desired_state(cluster) == "stopped"


async def test_a_start_by_others_counts_before_the_watch_has_shown_it(client: Client, cluster: Cluster) -> None:
    await call(client, "POST", WAIT)
    shown = dict(cluster.known)
    cluster.ask("sensor", "started")
    cluster.known = shown
    await refused(client, WAIT, AGAIN)


async def test_a_stop_that_timed_out_may_come_again_while_nobody_has_started(client: Client, cluster: Cluster) -> None:
    await call(client, "POST", WAIT)
    assert (await call(client, "POST", WAIT))[0] == 500
    cluster.status("sensor", state="stopped")
    assert await call(client, "POST", WAIT) == (200, {"stopped": True})


@pytest.mark.parametrize("path", [STOP, LONG])
async def test_who_stops_starts_and_stops_again_is_obeyed(client: Client, cluster: Cluster, path: str) -> None:
    cluster.after_write = lambda _: cluster.status("sensor", state="stopped")
    for _ in range(3):
        assert (await call(client, "POST", path))[0] == 200
        assert (await call(client, "POST", START))[0] == 200
    assert [body["spec"]["desiredState"] for _, body in cluster.applied] == ["stopped", "started"] * 3


async def test_a_repeat_that_was_answered_well_ends_the_doubt(client: Client, cluster: Cluster) -> None:
    await call(client, "POST", WAIT)
    cluster.status("sensor", state="stopped")
    assert (await call(client, "POST", WAIT))[0] == 200
    await call(client, "POST", START)
    await call(client, "POST", WAIT)
    assert desired_state(cluster) == "stopped"


async def test_a_stop_that_was_answered_as_overtaken_may_be_sent_again(client: Client, cluster: Cluster) -> None:
    stop = asyncio.create_task(call(client, "POST", LONG))
    await when_waiting(client)
    cluster.ask("sensor", "started")
    assert (await stop)[0] == 409
    again = asyncio.create_task(call(client, "POST", LONG))
    await when_waiting(client)
    assert desired_state(cluster) == "stopped"
    cluster.status("sensor", state="stopped")
    assert (await again)[0] == 200


async def test_a_stop_whose_client_went_away_and_that_comes_again_after_a_start(
    client: Client, cluster: Cluster
) -> None:
    stop = asyncio.create_task(call(client, "POST", LONG))
    await when_waiting(client)
    stop.cancel()
    await when_waiting(client, 0)
    await call(client, "POST", START)
    await refused(client, LONG, AGAIN)
    assert desired_state(cluster) == "started"


async def test_a_stop_that_comes_again_while_it_is_under_way_undoes_no_start(client: Client, cluster: Cluster) -> None:
    """The client has given up and asks again, and the endpoint has neither noticed that nor seen the start."""
    first = asyncio.create_task(call(client, "POST", LONG))
    await when_waiting(client)
    cluster.ask("sensor", "started", tell=False)
    await refused(client, LONG, AGAIN)
    assert desired_state(cluster) == "started"
    first.cancel()


def test_a_good_answer_to_one_of_two_equal_calls_says_nothing_of_the_other() -> None:
    repeats = Repeats(Clock())
    first = repeats.begin(asked(), STOPPED, 4)
    second = repeats.begin(asked(), STOPPED, 4)
    repeats.forget(asked(), first)
    assert repeats.recall(asked()) is second
    repeats.end(asked(), second)
    assert repeats.recall(asked()) is None


async def test_a_good_answer_to_the_second_of_two_equal_stops_leaves_no_doubt_of_the_first(
    client: Client, cluster: Cluster
) -> None:
    stops = [asyncio.create_task(call(client, "POST", LONG)) for _ in range(2)]
    await when_waiting(client, 2)
    cluster.status("sensor", state="stopped")
    assert [(await stop)[0] for stop in stops] == [200, 200]
    await call(client, "POST", START)
    cluster.after_write = lambda _: cluster.status("sensor", state="stopped")
    assert (await call(client, "POST", LONG))[0] == 200


async def test_a_stop_with_other_parameters_is_another_stop(client: Client, cluster: Cluster) -> None:
    await call(client, "POST", WAIT)
    await call(client, "POST", START)
    assert await call(client, "POST", STOP) == (200, {"stopped": True})


UNKNOWN = [Unreachable("no answer", sent=True), KubeError(504, "Timeout", "slow")]


@pytest.mark.parametrize("failure", UNKNOWN)
@pytest.mark.parametrize("path", [STOP, LONG])
async def test_a_stop_of_unknown_outcome_that_comes_again_after_a_start(
    client: Client, cluster: Cluster, failure: Exception, path: str
) -> None:
    cluster.fail_write = failure
    assert (await call(client, "POST", path))[0] == 500
    cluster.fail_write = None
    cluster.ask("sensor", "stopped")  # it was carried out after all
    cluster.ask("sensor", "started")
    await refused(client, path, AGAIN)


async def test_a_stop_of_unknown_outcome_that_was_not_carried_out_may_come_again(
    client: Client, cluster: Cluster
) -> None:
    cluster.fail_write = Unreachable("no answer", sent=True)
    assert (await call(client, "POST", STOP))[0] == 500
    cluster.fail_write = None
    assert await call(client, "POST", STOP) == (200, {"stopped": True})
    assert desired_state(cluster) == "stopped"


@pytest.mark.parametrize("failure", [Unreachable("refused", sent=False), KubeError(403, "Forbidden", "no patch")])
async def test_a_stop_that_certainly_changed_nothing_may_come_again(
    client: Client, cluster: Cluster, failure: Exception
) -> None:
    cluster.fail_write = failure
    assert (await call(client, "POST", STOP))[0] in (500, 503)
    cluster.fail_write = None
    cluster.ask("sensor", "stopped")
    cluster.ask("sensor", "started")
    assert await call(client, "POST", STOP) == (200, {"stopped": True})


async def test_a_repeat_of_all_spares_only_the_job_that_was_started(client: Client, cluster: Cluster) -> None:
    cluster.create("other", desiredState="started")
    path = "/_rollup/job/{}/_stop?wait_for_completion=true&timeout=20ms"
    await call(client, "POST", path.format("_all"))
    cluster.ask("sensor", "started")
    cluster.ask("other", "stopped")
    cluster.status("other", state="stopped")
    status, answer = await call(client, "POST", path.format("*"))
    assert status == 409
    assert [cause["reason"].partition(";")[0] for cause in answer["error"]["root_cause"]] == [AGAIN]


async def test_a_repeat_that_cannot_be_judged_changes_nothing(client: Client, cluster: Cluster) -> None:
    await call(client, "POST", WAIT)
    await call(client, "POST", START)
    cluster.applied.clear()
    cluster.fail_read = Unreachable("refused", sent=False)
    assert (await call(client, "POST", WAIT))[0] == 503
    assert cluster.applied == []


async def test_a_repeat_waits_within_its_own_time_for_an_api_server_that_is_slow(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten clients stop the same job in the same words: each of them waits, as the first does."""
    monkeypatch.setattr(states_module, "READ_SECONDS", 0.02)
    cluster.read_gate = asyncio.Event()
    async with served(cluster) as endpoint, calling(endpoint) as client:
        stops = [asyncio.create_task(call(client, "POST", LONG)) for _ in range(10)]
        await cluster.writes(1)
        await asyncio.sleep(0.1)
        assert [stop for stop in stops if stop.done()] == []
        cluster.read_gate.set()
        async with asyncio.timeout(20):
            await cluster.listened(10)
        cluster.status("sensor", state="stopped")
        assert {status for status, _ in await asyncio.gather(*stops)} == {200}


async def test_a_repeat_that_does_not_wait_is_answered_though_the_api_server_hangs(
    client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states_module, "READ_SECONDS", 0.02)
    monkeypatch.setattr(asks_module, "WRITE_SECONDS", 0.1)
    cluster.fail_write = Unreachable("no answer", sent=True)
    assert (await call(client, "POST", STOP))[0] == 500
    cluster.applied.clear()
    cluster.read_gate = asyncio.Event()
    async with asyncio.timeout(10):
        assert (await call(client, "POST", STOP))[0] == 503
    assert cluster.applied == []


async def test_a_start_that_comes_again_after_a_stop_never_undoes_it(client: Client, cluster: Cluster) -> None:
    cluster.ask("sensor", "stopped")
    cluster.fail_write = Unreachable("no answer", sent=True)
    assert (await call(client, "POST", START))[0] == 500
    cluster.fail_write = None
    cluster.ask("sensor", "started")
    cluster.ask("sensor", "stopped")
    await refused(client, START, "Start of rollup job [sensor] arrived again after a newer stop (generation [4])")
    assert desired_state(cluster) == "stopped"


async def test_a_call_in_doubt_leaves_no_memory_behind(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_late, forgotten = Repeats.forget_late, asyncio.Event()

    def forget(self: Repeats) -> bool:
        left = forget_late(self)
        if not left:
            forgotten.set()
        return left

    monkeypatch.setattr(Repeats, "forget_late", forget)
    monkeypatch.setattr(repeats_module, "GRACE", 0.0)
    monkeypatch.setattr(asks_module, "CLEAN_SECONDS", 0.01)
    assert (await call(client, "POST", WAIT.replace("20ms", "21ms")))[0] == 500
    async with asyncio.timeout(20):
        await forgotten.wait()
    gc.collect()
    assert not any(isinstance(thing, Asked) and "21ms" in thing.text for thing in gc.get_objects())
