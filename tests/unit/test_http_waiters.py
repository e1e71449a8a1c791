"""The judgement of a stop, whatever order its news comes in; and the futures around it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.http.jobs.waiters import Waiters
from rollup_operator.model.job_view import JobView
from rollup_operator.model.stop_verdict import StopProgress, Verdict, judge

UID = "uid-1"


def body(
    generation: int,
    *,
    wanted: str | None = "stopped",
    state: str | None = None,
    observed: int = -1,
    version: int = 1,
    uid: str = UID,
    deleting: bool = False,
    recorded: str | None = None,
) -> JobView:
    meta: dict[str, Any] = {
        "uid": uid,
        "namespace": "default",
        "name": "job",
        "generation": generation,
        "resourceVersion": str(version),
    }
    if deleting:
        meta["deletionTimestamp"] = "2024-01-01T00:00:00Z"
    status: dict[str, Any] = {"observedGeneration": observed}
    if state:
        status["state"] = state
    if recorded:
        status["desiredState"] = recorded
    return JobView.of({"metadata": meta, "spec": {"desiredState": wanted} if wanted else {}, "status": status})


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (body(5, state="stopped", observed=5), Verdict.STOPPED),
        (body(7, state="stopped", observed=5), Verdict.STOPPED),  # a later change of another field
        (body(7, state="stopped", observed=7), Verdict.STOPPED),
        (body(5, state="stopped", observed=4), Verdict.WAIT),  # stopped, but as of an older spec
        (body(4, state="stopped", observed=4), Verdict.WAIT),
        (body(5), Verdict.WAIT),  # nobody has looked at it yet
        (body(5, state="started", observed=5), Verdict.WAIT),
        (body(5, state="indexing", observed=4), Verdict.WAIT),
        (body(5, state="stopping", observed=5), Verdict.WAIT),
        (body(6, state="aborting", observed=6, deleting=True), Verdict.WAIT),
        (body(6, state="stopped", observed=5, deleting=True), Verdict.STOPPED),
        (body(6, wanted="started", state="stopped", observed=5), Verdict.OVERTAKEN),
        (body(6, wanted="started", state="started", observed=6), Verdict.OVERTAKEN),
        (body(6, wanted="started", state="started", observed=6, deleting=True), Verdict.WAIT),  # it never starts again
        (body(4, wanted="started", state="indexing", observed=4), Verdict.WAIT),  # older than the stop
        (body(6, wanted=None, recorded="stopped", state="stopped", observed=6), Verdict.STOPPED),
        (body(6, wanted=None, recorded="started", state="started", observed=6), Verdict.OVERTAKEN),
        (body(5, state="stopped", observed=5, uid="another"), Verdict.GONE),
    ],
)
def test_one_body_is_judged_by_itself(seen: JobView, verdict: Verdict) -> None:
    assert judge(seen, UID, 5) is verdict


def test_an_answer_that_shows_the_job_stopped_needs_no_further_event() -> None:
    progress = StopProgress(UID)
    progress.hear(body(3, state="stopped", observed=3, version=10))
    assert progress.written(body(3, state="stopped", observed=3, version=10)) is Verdict.STOPPED


def test_an_event_before_the_write_is_not_judged_but_kept() -> None:
    progress = StopProgress(UID)
    assert progress.hear(body(3, state="stopped", observed=3, version=10)) is Verdict.WAIT
    # The event of the write and of the actor's answer can both come before the write's own answer.
    assert progress.hear(body(4, state="stopped", observed=4, version=12)) is Verdict.WAIT
    assert progress.written(body(4, state="stopped", observed=3, version=11)) is Verdict.STOPPED


def test_a_job_that_went_before_the_answer_came_is_gone() -> None:
    progress = StopProgress(UID)
    progress.hear(None)
    assert progress.written(body(4, state="stopping", observed=4)) is Verdict.GONE


def test_an_older_body_changes_nothing() -> None:
    progress = StopProgress(UID)
    progress.written(body(4, state="stopping", observed=4, version=20))
    assert progress.hear(body(4, state="stopped", observed=4, version=19)) is Verdict.WAIT
    assert progress.newest is not None
    assert progress.newest.version == 20


def test_the_first_verdict_stands() -> None:
    progress = StopProgress(UID)
    progress.written(body(4, version=1))
    assert progress.hear(body(4, state="stopped", observed=4, version=2)) is Verdict.STOPPED
    assert progress.hear(body(5, wanted="started", version=3)) is Verdict.STOPPED
    assert progress.hear(None) is Verdict.STOPPED


states = st.sampled_from([None, "stopped", "started", "indexing", "stopping", "aborting"])
histories = st.lists(
    st.tuples(st.sampled_from(["ask stopped", "ask started", "observe", "delete"]), states), min_size=1, max_size=12
)


def bodies_of(history: list[tuple[str, str | None]]) -> list[JobView]:
    """What an API server could have shown: generations grow with the spec, the status follows it at some distance."""
    generation, wanted, state, observed, deleting = 1, "started", None, -1, False
    shown = [body(1, wanted="started")]
    for version, (event, new_state) in enumerate(history, 2):
        if event.startswith("ask") and wanted != event.removeprefix("ask "):
            wanted, generation = event.removeprefix("ask "), generation + 1
        elif event == "delete" and not deleting:
            deleting, generation = True, generation + 1
        elif event == "observe":
            state, observed = new_state, generation
        shown.append(
            body(generation, wanted=wanted, state=state, observed=observed, version=version, deleting=deleting)
        )
    return shown


@given(histories, st.data())
def test_no_order_of_events_makes_a_stop_seem_done_that_is_not(
    history: list[tuple[str, str | None]], data: st.DataObject
) -> None:
    shown = bodies_of(history)
    stops = [b for b in shown if b.desired.value == "stopped"]
    if not stops:
        return
    answer = data.draw(st.sampled_from(stops))
    views: list[JobView | None] = data.draw(st.lists(st.sampled_from([*shown, None]), max_size=20))
    early = data.draw(st.integers(0, len(views)))

    progress = StopProgress(UID)
    for item in views[:early]:
        assert progress.hear(item) is Verdict.WAIT
    verdict = progress.written(answer)
    for item in views[early:]:
        verdict = progress.hear(item)

    known = [b for b in views if b is not None] + [answer]
    kept = [
        b
        for b in known
        if b.desired.value == "stopped"
        and b.raw_status.get("state") == "stopped"
        and b.raw_status["observedGeneration"] >= answer.generation
    ]
    newer_starts = [
        b for b in known if b.desired.value == "started" and b.generation > answer.generation and not b.deleting
    ]
    if verdict is Verdict.STOPPED:
        assert kept
    if verdict is Verdict.OVERTAKEN:
        assert newer_starts
    if verdict is Verdict.GONE:
        assert None in views
    if verdict is Verdict.WAIT:
        newest = max(known, key=lambda b: b.age)
        assert newest not in kept
        assert newest not in newer_starts
        assert None not in views


class Index:
    """Subscriptions alone."""

    synced = True

    def __init__(self) -> None:
        self.listeners: dict[str, list[Callable[[JobView | None], None]]] = {}

    def find(self, namespace: str, job_id: str) -> JobView | None:
        return None

    def in_namespace(self, namespace: str) -> Sequence[JobView]:
        return ()

    def subscribe(self, uid: str, listener: Callable[[JobView | None], None]) -> Callable[[], None]:
        self.listeners.setdefault(uid, []).append(listener)
        return lambda: self.listeners[uid].remove(listener)

    def tell(self, view: JobView | None, uid: str = UID) -> None:
        for listener in list(self.listeners.get(uid, ())):
            listener(view)


def in_a_minute() -> float:
    return asyncio.get_running_loop().time() + 60


async def test_ten_thousand_waiters_are_woken_by_one_body_and_leave_nothing_behind() -> None:
    index = Index()
    waiters = Waiters(index)

    async def one() -> Verdict:
        with waiters.waiter(UID) as waiter:
            return await waiter.settled(body(4, state="stopping", observed=4), in_a_minute())

    tasks = [asyncio.create_task(one()) for _ in range(10_000)]
    await asyncio.sleep(0)
    assert len(waiters) == 10_000
    assert len(asyncio.all_tasks()) == 10_001
    index.tell(body(4, state="stopped", observed=4, version=2))
    assert set(await asyncio.gather(*tasks)) == {Verdict.STOPPED}
    assert len(waiters) == 0
    assert index.listeners[UID] == []


async def test_a_cancelled_wait_frees_its_waiter() -> None:
    index = Index()
    waiters = Waiters(index)

    async def one() -> None:
        with waiters.waiter(UID) as waiter:
            await waiter.settled(body(4), in_a_minute())

    task = asyncio.create_task(one())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(waiters) == 0
    assert index.listeners[UID] == []


@pytest.mark.parametrize("timeout", [0.0, -0.001, 0.001])
async def test_the_deadline_ends_the_wait(timeout: float) -> None:
    waiters = Waiters(Index())
    with waiters.waiter(UID) as waiter:
        assert await waiter.settled(body(4), asyncio.get_running_loop().time() + timeout) is Verdict.WAIT


async def test_the_longest_time_value_is_a_deadline_too() -> None:
    index = Index()
    waiters = Waiters(index)
    with waiters.waiter(UID) as waiter:
        asyncio.get_running_loop().call_soon(index.tell, None)
        assert await waiter.settled(body(4), (2.0**63) * 86_400) is Verdict.GONE


async def test_a_drain_lets_stops_finish_and_answers_the_rest() -> None:
    index = Index()
    waiters = Waiters(index)

    async def one(uid: str) -> Verdict:
        with waiters.waiter(uid) as waiter:
            return await waiter.settled(body(4, uid=uid), in_a_minute())

    quick, slow = asyncio.create_task(one(UID)), asyncio.create_task(one("slow"))
    await asyncio.sleep(0)
    drain = asyncio.create_task(waiters.drain(0.05))
    await asyncio.sleep(0)
    assert waiters.draining
    index.tell(body(4, state="stopped", observed=4, version=2))
    assert await quick is Verdict.STOPPED
    assert await drain == 1
    assert await slow is Verdict.SHUTDOWN
    assert await one(UID) is Verdict.SHUTDOWN


async def test_a_drain_without_waiters_takes_no_time() -> None:
    async with asyncio.timeout(20):
        assert await Waiters(Index()).drain(60) == 0


async def test_a_write_that_ends_within_a_drain_still_tells_what_its_answer_shows() -> None:
    waiters = Waiters(Index())
    with waiters.waiter(UID) as waiter:
        assert await waiters.drain(0) == 1
        assert await waiter.settled(body(4, state="stopped", observed=4), in_a_minute()) is Verdict.STOPPED
