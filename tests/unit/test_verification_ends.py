"""A verification that a stop waits for ends only when nothing of it is in progress in its cluster."""

import asyncio
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, cast

import pytest

from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.stores.base import Settled
from rollup_operator.stores.errors import StoreUnavailable
from rollup_operator.stores.opensearch import ends, quiet, settling
from rollup_operator.stores.opensearch.ends import Ends
from rollup_operator.stores.opensearch.store import ClusterStore
from rollup_operator.stores.opensearch.transport.answers import Value
from support.embedded import spec


class Paused:
    """A cluster that has not read a search of a verification, and does not answer while it is paused."""

    def __init__(self) -> None:
        self.goes_on, self.asked, self.times = False, asyncio.Event(), 0
        self.under_way: list[str] = []
        self.is_closed = False

    def is_unread(self, _: str) -> bool:
        return True

    async def call(self, *_: object, doing: str, **__: object) -> Value:
        self.asked.set()
        self.times += 1
        if not self.goes_on:
            raise StoreUnavailable("it does not answer")
        tasks = {str(n): {"headers": {"X-Opaque-Id": each}} for n, each in enumerate(self.under_way)}
        answer: Mapping[str, Any] = {"nodes": {"n": {"tasks": tasks}} if tasks else {}}
        return Value(answer, doing)


async def test_a_stop_that_comes_while_a_lost_search_is_waited_for_waits_for_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ends, "FIRST_PAUSE", 0.005)
    cluster = Paused()
    store = ClusterStore("opensearch", cast("Any", cluster), is_alive=lambda _: True)
    config = JobConfig("job", spec(), Owner("here", "n", "j", "u"), "hash")

    async def verify() -> None:
        async with store.verification(config, awaited=True):
            raise StoreUnavailable("a search was not answered")

    verification = asyncio.create_task(verify())
    async with asyncio.timeout(10):
        await cluster.asked.wait()
        verification.cancel()  # as a stop does, once
        cluster.asked.clear()
        await cluster.asked.wait()
        assert not verification.done()
        cluster.goes_on = True
        await asyncio.wait({verification})
    assert verification.cancelled()


async def test_an_answer_that_nobody_foresaw_is_no_end_of_a_lost_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "FIRST_PAUSE", 0.005)
    cluster = Paused()
    store = ClusterStore("opensearch", cast("Any", cluster), is_alive=lambda _: True)
    config = JobConfig("job", spec(), Owner("here", "n", "j", "u"), "hash")
    answered = cluster.call

    async def odd(*of: object, doing: str, **more: object) -> Value:
        if not cluster.goes_on:
            cluster.asked.set()
            raise ValueError("a mistake")
        return await answered(*of, doing=doing, **more)

    monkeypatch.setattr(cluster, "call", odd)

    async def verify() -> None:
        async with store.verification(config, awaited=True):
            raise StoreUnavailable("a search was not answered")

    verification = asyncio.create_task(verify())
    async with asyncio.timeout(10):
        for _ in range(2):
            await cluster.asked.wait()
            cluster.asked.clear()
        assert not verification.done()
        cluster.goes_on = True
        await asyncio.wait({verification})
    assert isinstance(verification.exception(), StoreUnavailable)


@pytest.mark.parametrize("verified", [True, False])
async def test_settling_asks_for_a_verification_where_an_earlier_leader_may_have_left_one(
    monkeypatch: pytest.MonkeyPatch, verified: bool
) -> None:
    """Whatever the spec says by then."""

    async def settle(*_: object, **__: object) -> Settled:
        return Settled(None)

    monkeypatch.setattr(settling, "settle", settle)
    cluster = Paused()
    store = ClusterStore("opensearch", cast("Any", cluster), is_alive=lambda _: True)
    config = JobConfig("job", spec(), Owner("here", "n", "j", "u"), "hash")
    with pytest.raises(StoreUnavailable) if verified else nullcontext():
        assert await store.settle(config, "me", delete_documents=False, verified=verified) == Settled(None)
    assert cluster.asked.is_set() is verified


async def test_one_that_is_given_up_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "FIRST_PAUSE", 0.005)
    cluster = Paused()
    store = ClusterStore("opensearch", cast("Any", cluster), is_alive=lambda _: True)
    config = JobConfig("job", spec(), Owner("here", "n", "j", "u"), "hash")

    async def verify() -> None:
        async with store.verification(config, awaited=True):
            await asyncio.Event().wait()

    verification = asyncio.create_task(verify())
    async with asyncio.timeout(10):
        await asyncio.sleep(0)
        for _ in range(3):
            verification.cancel()
            await asyncio.sleep(0.02)
        await asyncio.wait({verification})
    assert verification.cancelled()


async def test_a_cluster_that_does_not_answer_is_asked_once_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "FIRST_PAUSE", 0.02)
    cluster = Paused()
    over = Ends(cast("Any", cluster))
    waiting = [asyncio.create_task(over.over(quiet.verification_id(f"u{n}"), "waiting")) for n in range(1_000)]
    async with asyncio.timeout(20):
        while cluster.times < 3:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.001)
        assert not any(task.done() for task in waiting)
        cluster.under_way = [quiet.verification_id("u7")]
        cluster.goes_on = True
        await asyncio.wait([task for n, task in enumerate(waiting) if n != 7])
        assert cluster.times < 10
        assert not waiting[7].done()
        late = asyncio.create_task(over.over(quiet.verification_id("u7"), "waiting"))
        await asyncio.sleep(0)
        late.cancel()
        cluster.under_way = []
        await waiting[7]


async def test_whoever_comes_after_an_outage_does_not_wait_for_a_pause_that_began_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ends, "FIRST_PAUSE", 0.001)
    cluster = Paused()
    at = Ends(cast("Any", cluster))
    earlier = asyncio.create_task(at.over("a", "waiting"))
    async with asyncio.timeout(30):
        while cluster.times < 13:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.001)
    cluster.goes_on = True  # and the next pause would be 4 s
    async with asyncio.timeout(2):
        await at.over("b", "waiting")
        await earlier


async def test_whoever_comes_as_the_last_wait_ends_is_told_too() -> None:
    cluster = Paused()
    cluster.goes_on = True
    at = Ends(cast("Any", cluster))
    async with asyncio.timeout(10):
        for _ in range(2):  # with no turn of the loop between the two
            await at.over("searches", "waiting")
