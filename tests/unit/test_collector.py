"""When objects are frozen out of the garbage collector's sight, and when they come back."""

import asyncio
import gc
from collections.abc import AsyncIterator
from itertools import count
from weakref import ref

import pytest

from rollup_operator import collector
from rollup_operator.collector import Collector

pytestmark = pytest.mark.holds_loop("whatever the tests before it have left is collected in it")


class Node:
    """Something that can refer to itself."""

    def __init__(self) -> None:
        self.other: Node | None = None


def loop_of_two() -> Node:
    one, two = Node(), Node()
    one.other, two.other = two, one
    return one


@pytest.fixture
async def keeping(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """A collector at work. It checks after each turn of the loop whether a full collection was too long."""
    thresholds = gc.get_threshold()
    monkeypatch.setattr(collector, "CHECK_EVERY", 0.0)
    made = Collector()
    made.begin()
    task = asyncio.create_task(made.keep_short())
    await turns()
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    made.end()
    gc.set_threshold(*thresholds)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_there_at_the_beginning_is_frozen(keeping: Collector) -> None:
    assert gc.get_freeze_count() > 1_000


async def test_a_short_collection_freezes_nothing(keeping: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "LONG", 60.0)
    node = loop_of_two()
    gone = ref(node)
    gc.collect()
    await turns()
    del node
    gc.collect()
    assert gone() is None


async def test_garbage_goes_although_nothing_is_allocated(keeping: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = ref(loop_of_two())
    await turns()
    assert gone() is not None
    monkeypatch.setattr(collector, "COLLECT_EVERY", 0.0)
    await turns()
    assert gone() is None


async def test_a_long_collection_freezes_what_is_alive(keeping: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "LONG", -1.0)
    before = gc.get_freeze_count()
    nodes = [loop_of_two() for _ in range(1_000)]
    gc.collect()
    assert gc.get_freeze_count() >= before + 2_000
    assert len(nodes) == 1_000


async def test_garbage_is_never_frozen(keeping: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    monkeypatch.setattr(collector, "LONG", -1.0)
    gc.collect()
    monkeypatch.setattr(collector, "LONG", 60.0)
    gone = ref(loop_of_two())  # it comes after that collection
    await turns()
    gc.collect()
    assert gone() is None


def frozen_garbage(monkeypatch: pytest.MonkeyPatch, count: int) -> ref[Node]:
    """Let so many loops of two become garbage after they have been frozen."""
    monkeypatch.setattr(collector, "LONG", -1.0)
    nodes = [loop_of_two() for _ in range(count)]
    gc.collect()
    monkeypatch.setattr(collector, "LONG", 60.0)
    gone = ref(nodes[0])
    del nodes
    gc.collect()
    assert gone() is not None
    return gone


async def test_frozen_garbage_goes_once_there_is_much(keeping: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "CALM_CHECKS", 10**9)
    monkeypatch.setattr(collector, "MOST_GROWN", (0.0, 5_000))
    gone = frozen_garbage(monkeypatch, 1_000)
    await turns()
    assert gone() is not None
    frozen_garbage(monkeypatch, 2_000)
    await turns()
    assert gone() is None


async def test_frozen_garbage_goes_once_nothing_happens(keeping: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "IDLE_CHANGED", (0.0, 1_000))
    gone = frozen_garbage(monkeypatch, 1_000)
    for _ in range(collector.CALM_CHECKS + 1):
        await turns()
    assert gone() is None


async def test_what_is_frozen_while_nothing_happens_is_not_walked_once_more(
    keeping: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[int] = []
    settle = keeping.settle

    def walk() -> None:
        walks.append(1)
        settle()

    monkeypatch.setattr(keeping, "settle", walk)
    # Many more than what the tests' own threads make and free meanwhile.
    monkeypatch.setattr(collector, "IDLE_CHANGED", (0.0, 20_000))
    monkeypatch.setattr(collector, "MOST_GROWN", (0.0, 10**9))
    nodes: list[Node] = []
    for _ in range(collector.CALM_CHECKS + 1):
        await turns()
    walks.clear()
    nodes += [loop_of_two() for _ in range(20_000)]
    with monkeypatch.context() as slow:
        slow.setattr(collector, "LONG", -1.0)
        gc.collect()
    for _ in range(collector.CALM_CHECKS + 1):
        await turns()
    assert not walks
    assert len(nodes) == 20_000


async def test_freed_memory_and_code_go_back_in_a_calm_though_nothing_frozen_has_changed(
    keeping: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    monkeypatch.setattr(collector, "IDLE_CHANGED", (10.0, 10**9))
    monkeypatch.setattr(collector, "COLLECT_EVERY", 0.0)
    monkeypatch.setattr(collector, "give_back", lambda: given.append("freed memory"))
    monkeypatch.setattr(collector, "unmap_code", lambda: given.append("code"))
    with monkeypatch.context() as busy:
        busy.setattr(collector, "_young_collections", count(step=collector.FEW_COLLECTIONS + 1).__next__)
        await turns()
        given.clear()
        await turns()
        assert not given
    # Jobs that try again and again make little, but the process is never idle.
    monkeypatch.setattr("time.process_time", count(step=2 * collector.IDLE_SECONDS).__next__)
    for _ in range(collector.CALM_CHECKS + 1):
        await turns()
    assert set(given) == {"freed memory", "code"}


async def test_nothing_frozen_is_walked_while_there_is_work_though_few_objects_are_made(
    keeping: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[int] = []
    monkeypatch.setattr(collector, "IDLE_CHANGED", (-1.0, 0))
    with monkeypatch.context() as busy:
        busy.setattr("time.process_time", count(step=2 * collector.IDLE_SECONDS).__next__)
        await turns()
        busy.setattr(keeping, "settle", lambda: walks.append(1))
        for _ in range(collector.CALM_CHECKS + 1):
            await turns()
        assert not walks
        busy.setattr("time.process_time", count(step=0).__next__)
        for _ in range(collector.CALM_CHECKS + 1):
            await turns()
        assert walks


async def test_frozen_objects_are_not_counted_between_stops_one_by_one(
    keeping: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To count them is to walk over them: 13 milliseconds for a thousand jobs."""
    counts: list[int] = []
    count_frozen = gc.get_freeze_count

    def counted() -> int:
        counts.append(count_frozen())
        return counts[-1]

    with monkeypatch.context() as stops:
        stops.setattr("time.process_time", count(step=3 * collector.IDLE_SECONDS).__next__)
        await turns()
        stops.setattr(gc, "get_freeze_count", counted)
        for _ in range(collector.CALM_CHECKS + 1):
            await turns()
        assert not counts
        stops.setattr("time.process_time", count(step=0).__next__)
        for _ in range(collector.CALM_CHECKS + 1):
            await turns()
        assert 1 <= len(counts) <= 2


async def test_what_a_walk_amid_much_work_has_frozen_goes_once_nothing_happens(
    keeping: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "IDLE_CHANGED", (0.0, 1_000))
    nodes, passing = [loop_of_two() for _ in range(100)], [Node() for _ in range(5_000)]
    keeping.settle()
    gone = ref(nodes[0])
    del nodes, passing
    with monkeypatch.context() as idle:
        idle.setattr("time.process_time", count(step=0).__next__)
        for _ in range(collector.CALM_CHECKS + 1):
            await turns()
    assert gone() is None


async def test_what_a_long_wait_has_frozen_goes_in_the_calm_after_it(
    keeping: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand connections that wait make nothing, and are frozen as what lasts. They go at once."""
    with monkeypatch.context() as at_work:
        at_work.setattr("time.process_time", count(step=2 * collector.MUCH_WORK).__next__)
        nodes, passing = [loop_of_two() for _ in range(100)], [Node() for _ in range(2 * collector.MUCH_GONE)]
        keeping.settle()
        await turns()
        gone = ref(nodes[0])
        del nodes, passing
        for _ in range(collector.CALM_CHECKS + 1):
            await turns()
        assert gone() is None


async def test_at_the_end_nothing_is_frozen_and_nothing_listens() -> None:
    listening = len(gc.callbacks)
    made = Collector()
    made.begin()
    task = asyncio.create_task(made.keep_short())
    await turns()
    assert len(gc.callbacks) == listening + 1
    task.cancel()
    made.end()
    made.end()
    assert (gc.get_freeze_count(), len(gc.callbacks)) == (0, listening)
