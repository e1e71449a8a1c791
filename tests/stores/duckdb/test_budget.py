"""How what all open databases may take together is divided among them."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.duckdb import Budget
from rollup_operator.stores.duckdb.database import lingering
from rollup_operator.stores.duckdb.database.budget import LEAST_MEMORY, Heads, Share, _processors
from rollup_operator.stores.duckdb.database.database import Lane
from support.embedded import Embedded, agree, config, spec, truth
from support.rounding import HOUR, hour, ms

BEGIN = ms("2024-03-01T00:00")


class Known:
    """A database that keeps to its share, at once or later."""

    def __init__(self, budget: Budget, namespace: str, volume: int = 4000) -> None:
        self.can = True
        self.asked = 0
        self.share = budget.enter(self, namespace, volume)
        budget.opened(self)

    def keep_to(self, share: Share) -> bool:
        self.asked += 1
        if self.can:
            self.share = share
        return self.can

    def later(self, work: Callable[[], None]) -> None:
        work()

    @property
    def beyond(self) -> int:
        return self.share.memory - LEAST_MEMORY


def settled(budget: Budget, known: Sequence[Known]) -> None:
    """Let it be divided until nothing changes any more, with all promises kept meanwhile."""
    for _ in range(100):
        assert sum(each.share.memory for each in known) <= budget.memory
        budget._divide_again()


MEMORY = 16 * LEAST_MEMORY
"""Eight places, and as much beyond them."""
BEYOND = MEMORY // 2


def test_what_there_is_is_divided_among_namespaces_and_then_among_their_databases() -> None:
    budget = Budget(MEMORY, threads=8, spill=1 << 30)
    a = [Known(budget, "a")]
    assert (a[0].beyond, a[0].share.threads) == (BEYOND * 3 // 4, 8)
    b = Known(budget, "b")
    settled(budget, [*a, b])
    assert all(BEYOND / 3 < each.beyond <= BEYOND / 2 for each in (*a, b))
    assert b.share.threads == 4
    a += [Known(budget, "a") for _ in range(3)]
    settled(budget, [*a, b])
    assert BEYOND / 3 < sum(each.beyond for each in a) <= BEYOND / 2
    assert all(each.beyond <= BEYOND / 8 for each in a)
    assert BEYOND / 3 < b.beyond <= BEYOND / 2
    assert sum(each.share.spill for each in (*a, b)) <= 1 << 30
    for known in a:
        budget.leave(known)
    settled(budget, [b])
    assert b.beyond == BEYOND * 3 // 4


def test_a_database_that_is_open_and_not_used_takes_nothing_from_those_that_are() -> None:
    budget = Budget(MEMORY, threads=8)
    used, *others = [Known(budget, namespace) for namespace in ("a", "b", "c", "a")]
    for other in others:
        budget.rest(other)
    settled(budget, [used, *others])
    assert (used.beyond, used.share.threads) == (BEYOND * 3 // 4, 8)
    assert [(other.beyond, other.share.threads) for other in others] == [(0, 1)] * 3
    budget.wake(others[0])
    settled(budget, [used, *others])
    assert all(BEYOND / 3 < each.beyond <= BEYOND / 2 for each in (used, others[0]))
    assert used.share.threads == others[0].share.threads == 4
    for resting in (used, others[0]):
        before = resting.share
        budget.rest(resting)
    assert others[0].share == before, "nobody else could use it"
    for each in (used, *others):
        budget.leave(each)
    assert budget._open == {}


def test_what_a_database_is_being_given_is_given_to_no_other() -> None:
    """It may take long to keep to a share, and the next one who comes has a part of that by then."""
    budget, asked, may_go_on = Budget(MEMORY, threads=8), threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    class Slow(Known):
        def keep_to(self, share: Share) -> bool:
            if threads:
                asked.set()
                assert may_go_on.wait(30)
            return super().keep_to(share)

    first, slow = Known(budget, "b"), Slow(budget, "a")
    settled(budget, [first, slow])

    def in_a_thread(work: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=work))
        threads[-1].start()

    slow.later = in_a_thread  # type: ignore[method-assign]
    budget.leave(first)
    assert asked.wait(30)
    try:
        another = Known(budget, "c")
        for _ in range(100):
            budget._divide_again()
        assert BEYOND * 3 // 4 + another.beyond <= BEYOND
    finally:
        may_go_on.set()
    for thread in tuple(threads):
        thread.join(30)
    settled(budget, [slow, another])
    assert BEYOND / 3 < slow.beyond <= BEYOND / 2
    assert BEYOND / 3 < another.beyond <= BEYOND / 2


def test_a_quarter_of_the_volume_is_for_what_is_spilled() -> None:
    assert 400 < Known(Budget(MEMORY), "a", 4000).share.spill <= 1000


def test_who_can_give_nothing_back_leaves_something_to_each_that_comes() -> None:
    budget = Budget(MEMORY)
    known: list[Known] = []
    for number in range(8):
        known.append(Known(budget, f"n{number}"))
        known[-1].can = False
        assert known[-1].share.memory >= LEAST_MEMORY
        assert sum(each.share.memory for each in known) <= budget.memory
    known[0].can = True
    settled(budget, known)
    assert known[0].beyond == BEYOND // 8
    for each in known:  # nobody is asked again after this test
        budget.leave(each)


async def test_a_database_that_cannot_give_memory_back_is_asked_again() -> None:
    budget = Budget(MEMORY)
    first = Known(budget, "a")
    first.can = False
    second = Known(budget, "b")
    assert second.beyond <= BEYOND // 4
    asked = first.asked
    async with asyncio.timeout(5):
        while first.asked == asked:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)
    first.can = True
    async with asyncio.timeout(5):
        while budget._again is not None:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)
    assert first.beyond == BEYOND // 2
    assert second.beyond > BEYOND // 4
    asked = first.asked
    await asyncio.sleep(0.3)
    assert first.asked == asked


@pytest.mark.parametrize(
    ("text", "processors"), [("max 100000", None), ("50000 100000", 1), ("150000 100000", 2), ("", None), (None, None)]
)
def test_processors_are_no_more_than_the_quota_of_the_pod(
    tmp_path: Path, text: str | None, processors: int | None
) -> None:
    here = _processors(tmp_path)
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert _processors(tmp_path) == (here if processors is None else min(here, processors))


async def test_a_database_keeps_to_its_share_while_it_is_open(tmp_path: Path) -> None:
    budget = Budget(1 << 30, threads=2, spill=1 << 30)
    one, two = Embedded(tmp_path, budget=budget), Embedded(tmp_path, budget=budget, database="two.duckdb")

    def limits(lane: Lane) -> tuple[object, ...]:
        ((memory, threads, spill),) = lane.execute(
            "SELECT current_setting('memory_limit'), current_setting('threads'), "
            "current_setting('max_temp_directory_size')"
        )
        return memory, threads, spill

    lane = await one.base.lane()
    assert limits(lane) == ("416.0 MiB", 2, "416.0 MiB")
    other = await two.base.lane()
    assert limits(lane) == ("288.0 MiB", 1, "288.0 MiB")
    assert limits(other)[1] == 1
    await asyncio.to_thread(one.base.leave, lane)
    await asyncio.to_thread(one.base.close_if_idle)
    assert str(limits(other)[0]) > "400"
    await asyncio.to_thread(two.base.leave, other)
    await asyncio.to_thread(two.base.close_if_idle)
    await asyncio.sleep(0)
    assert (budget.places.taken, budget._open) == (0, {})


LONG = "SELECT sum(sin(i + n) * cos(i - n)) FROM _scratch.many, range(1000) r(n)"
"""Some minutes."""


async def test_nobody_waits_until_a_statement_of_another_ends(tmp_path: Path) -> None:
    """Also not for its threads, which become fewer meanwhile."""
    budget = Budget(1 << 30, threads=4)
    one, two = Embedded(tmp_path, budget=budget), Embedded(tmp_path, budget=budget, database="two.duckdb")
    busy, watching = await one.base.lane(), await one.base.lane()

    def fill(lane: Lane) -> None:
        lane.execute("CREATE TABLE _scratch.many AS SELECT i FROM range(2000000) t(i)")

    def threads(lane: Lane) -> object:
        return lane.execute("SELECT current_setting('threads')")[0][0]

    await busy.run("filling", fill, interruptible=True)
    assert threads(watching) == 4
    task = asyncio.ensure_future(busy.run("reading", lambda lane: lane.execute(LONG), interruptible=True))
    await until(lambda: busy.doing is not None and busy._busy.locked())
    await asyncio.sleep(0.2)  # until its threads are at work, of which nobody tells
    try:
        for _ in range(2):
            async with asyncio.timeout(20):
                lane = await two.base.lane()
                await until(lambda: threads(watching) == 2)
                await asyncio.to_thread(two.base.leave, lane)
                await asyncio.to_thread(two.base.close_if_idle)
                await until(lambda: threads(watching) == 4)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait({task})
    for lane in (busy, watching):
        await asyncio.to_thread(one.base.leave, lane)
    await asyncio.to_thread(one.base.close_if_idle)
    assert (one.base.is_open, budget._open) == (False, {})


async def test_a_file_that_stays_open_for_the_next_search_leaves_its_share_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "SEARCHED_S", 1e6)
    budget = Budget(1 << 30, threads=8)
    searched, used = (Embedded(tmp_path, budget=budget, database=f"{name}.duckdb") for name in ("one", "two"))
    lane = await searched.base.lane()
    await asyncio.to_thread(searched.base.leave, lane)
    stores = searched.store(), used.store()
    await stores[0].tiers(["out"])
    lane = await used.base.lane()
    whole = ("416.0 MiB", 8)

    def has(lane: Lane, share: tuple[str, int]) -> Callable[[], bool]:
        ask = "SELECT current_setting('memory_limit'), current_setting('threads')"
        return lambda: lane.execute(ask) == [share]

    try:
        assert searched.base.is_open
        await until(has(lane, whole))
        again = await searched.base.lane()
        await until(has(lane, ("288.0 MiB", 4)))
        await until(lambda: again.execute("SELECT current_setting('threads')") == [(4,)])
        await asyncio.to_thread(searched.base.leave, again, searched=True)
        await until(has(lane, whole))
        assert searched.base.is_open
        await asyncio.to_thread(used.base.leave, lane)
    finally:  # else this process does not end
        for store in stores:
            await store.close()
    assert budget._open == {}


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not so():  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)


async def test_who_finds_no_place_waits_until_another_database_is_closed(tmp_path: Path) -> None:
    budget = Budget(4 * LEAST_MEMORY)
    stores = [Embedded(tmp_path, budget=budget, database=f"{n}.duckdb") for n in range(4)]
    first = await stores[0].base.lane()
    waiting = [asyncio.ensure_future(of.base.lane()) for of in stores[1:]]
    await asyncio.wait(waiting, timeout=0.3)
    assert not any(task.done() for task in waiting), "one namespace leaves a place to others"
    waiting.pop().cancel()
    await asyncio.to_thread(stores[0].base.leave, first)
    async with asyncio.timeout(10):
        for of, task in zip(stores[1:], waiting, strict=False):
            await asyncio.to_thread(of.base.leave, await task)
        while budget.places.taken:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)


async def test_a_file_that_cannot_be_opened_takes_no_place(tmp_path: Path) -> None:
    embedded = Embedded(tmp_path, budget=Budget(4 * LEAST_MEMORY))
    embedded.file.write_bytes(b"x" * 20_000)
    for _ in range(3):
        with pytest.raises(Exception, match=r"rollup\.duckdb"):
            await embedded.base.lane()
    assert (embedded.budget.places.taken, embedded.budget._open) == (0, {})


async def test_the_least_memory_will_do_for_rows_in_no_order(tmp_path: Path) -> None:
    embedded = Embedded(tmp_path, budget=Budget(2 * LEAST_MEMORY, threads=2))
    rows = [
        (BEGIN + (i * 7919 % 400_000) * HOUR // 100, float(i % 13), f"term {i % 97}", i % 40) for i in range(400_000)
    ]
    embedded.write("rows.parquet", rows)
    job = config(spec("rows.parquet"))
    await embedded.completed(job)
    agree(embedded.documents(job), truth(rows, hour))
    assert await embedded.store().preview(job, Span(0, ms("2030-01-01T00:00")), 3)


def test_what_a_lane_holds_of_the_heads_counts_for_what_it_needs_next() -> None:
    """Each look of a run at its source needs the same memory."""
    budget = Budget(128 << 20)
    run, other = Heads(budget, "a"), Heads(budget, "a")
    for amount in (60 << 20, 60 << 20, 0, 70 << 20, 60 << 20):
        assert run.hold(amount, lambda: None)
    assert budget.take_heads("b", 58 << 20)
    assert not budget.take_heads("b", 1 << 20)
    budget.give_heads("b", 58 << 20)
    run.end()
    assert other.hold(100 << 20, lambda: None)
    assert run.hold(0, lambda: None)  # although the namespace has more than its share
    other.end()
    for _ in range(2):
        assert run.hold(40 << 20, lambda: None, beside=True)
    assert not budget.take_heads("b", 49 << 20)
    run.end()
    assert budget.take_heads("b", 128 << 20)
