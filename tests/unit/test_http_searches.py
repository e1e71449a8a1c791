"""What the endpoint asks of a store for searches: once for what they have in common, and nothing for who is gone."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import pytest

from rollup_operator.http.api import search
from rollup_operator.http.api.search_turns import AT_ONCE, STORE_AT_ONCE
from rollup_operator.sharing.memory import MIB, Budgets
from rollup_operator.stores.errors import StoreUnavailable
from rollup_operator.stores.search import Documents, Fetch, LevelBuckets, Partials, Row, Tier
from support.access_double import Anybody
from support.http_double import Cluster, Shelf
from support.serving import Client, call, calling, served

SPEC = {"indexPattern": "sensor-*", "rollupIndex": "sensor_rollup"}
PANEL = {"size": 0, "aggs": {"most": {"max": {"field": "distance"}}}}
NDJSON = {"Content-Type": "application/x-ndjson"}


class Slow(Shelf):
    """A store that counts what it is asked, and answers searches when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = self.searched = self.under_way = self.most = 0
        self.go_on = asyncio.Event()

    async def tiers(self, rollup_indices: Collection[str]) -> Sequence[Tier]:
        self.asked += 1
        await asyncio.sleep(0.01)
        return await super().tiers(rollup_indices)

    async def search(self, fetches: Sequence[Fetch], **more: Any) -> Sequence[Partials]:
        self.searched += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.go_on.wait()
            return await super().search(fetches, **more)
        finally:
            self.under_way -= 1

    async def until(self, searches: int) -> None:
        async with asyncio.timeout(30):
            while self.under_way != searches:  # noqa: ASYNC110  # the endpoint tells nobody
                await asyncio.sleep(0.005)


@pytest.fixture
def shelf() -> Slow:
    return Slow()


@pytest.fixture
def cluster(shelf: Slow) -> Cluster:
    made = Cluster()
    made.shelves["default", "default"] = shelf
    made.create("sensor", desiredState="stopped", **SPEC)
    made.status("sensor", state="stopped")
    shelf.roll_up("sensor", SPEC)
    return made


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with served(cluster, access=Anybody()) as endpoint, calling(endpoint) as made:
        yield made


def dashboard(count: int, *indices: str) -> bytes:
    lines = [part for n in range(count) for part in ({"index": indices[n % len(indices)]}, PANEL)]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def ask(client: Client, panels: bytes) -> list[dict[str, Any]]:
    status, answer = await call(client, "POST", "/_msearch", data=panels, headers=NDJSON)
    assert status == 200, answer
    responses: list[dict[str, Any]] = answer["responses"]
    return responses


async def test_the_panels_of_a_call_share_what_is_read_of_their_source(client: Client, shelf: Slow) -> None:
    shelf.go_on.set()
    for calls in (1, 2):  # what an earlier call has read is of no use to a later one
        answers = await ask(client, dashboard(40, "sensor_rollup", "sensor-*"))
        assert {answer["status"] for answer in answers} == {200}, answers[0]
        assert (shelf.asked, shelf.searched) == (calls, 40 * calls)


async def test_what_is_read_of_a_source_counts_for_seconds(
    client: Client, shelf: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.go_on.set()
    monkeypatch.setattr(search, "READABLE_SECONDS", 0.0)
    await ask(client, dashboard(3, "sensor_rollup"))
    assert shelf.asked == 3


async def test_a_store_that_fails_is_asked_once_for_all_panels(client: Client, shelf: Slow) -> None:
    shelf.fail = StoreUnavailable("away")
    answers = await ask(client, dashboard(40, "sensor_rollup"))
    assert [answer["status"] for answer in answers] == [503] * 40
    assert shelf.asked == 1


def as_user(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def searching(client: Client, user: str, count: int) -> list[asyncio.Task[Any]]:
    path = "/sensor_rollup/_search"
    return [asyncio.create_task(call(client, "POST", path, json=PANEL, headers=as_user(user))) for _ in range(count)]


async def test_a_store_that_hangs_leaves_turns_to_others_and_all_to_stops(client: Client, shelf: Slow) -> None:
    hanging = searching(client, "anna", 20)
    await shelf.until(4)
    others = searching(client, "berta", 20) + searching(client, "carla", 20)
    await shelf.until(4 + 2 + 1)  # some is left for the next one
    stop = "/_rollup/job/sensor/_stop?wait_for_completion=true&timeout=10s"
    async with asyncio.timeout(9):
        assert await call(client, "POST", stop) == (200, {"stopped": True})
    late = searching(client, "dora", 1)
    await shelf.until(STORE_AT_ONCE)
    shelf.go_on.set()
    answers = await asyncio.gather(*hanging, *others, *late)
    assert {status for status, _ in answers} == {200}
    assert shelf.most == STORE_AT_ONCE


async def test_stores_that_hang_in_one_namespace_leave_turns_to_the_next(cluster: Cluster, client: Client) -> None:
    """Who may create a store may also create users: they have the turns of one namespace together."""
    bad = {f"bad-{number}": Slow() for number in range(4)}
    for name, one in bad.items():
        cluster.shelves["team-a", name] = one
        spec = SPEC | {"rollupIndex": name, "storeRef": {"name": name}}
        cluster.create(f"of-{name}", "team-a", desiredState="stopped", **spec)
        one.roll_up(f"of-{name}", spec, index=name, namespace="team-a")
    hanging = [
        asyncio.create_task(call(client, "POST", f"/namespaces/team-a/{name}/_search", json=PANEL, headers=as_user(u)))
        for name in bad
        for u in ("anna", "berta", "carla", "dora")
        for _ in range(4)
    ]
    async with asyncio.timeout(30):
        while sum(one.under_way for one in bad.values()) < AT_ONCE // 2:  # noqa: ASYNC110  # they tell nobody
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    assert sum(one.under_way for one in bad.values()) == AT_ONCE // 2
    cluster.shelf.go_on.set()  # type: ignore[attr-defined]  # it is the slow one
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*searching(client, "emil", 4))
    assert {status for status, _ in answers} == {200}
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_who_hangs_up_leaves_no_search_at_the_store(client: Client, shelf: Slow) -> None:
    gone = [*searching(client, "anna", 20), asyncio.create_task(ask(client, dashboard(40, "sensor_rollup")))]
    await shelf.until(4 + 2)
    for task in gone:
        task.cancel()
    await shelf.until(0)
    searched = shelf.searched
    await asyncio.sleep(0.05)
    assert shelf.searched == searched  # those that waited for a turn are gone as well
    shelf.go_on.set()
    answers = await asyncio.gather(*searching(client, "anna", 8))
    assert {status for status, _ in answers} == {200}


async def test_what_is_known_of_jobs_follows_them(cluster: Cluster, client: Client, shelf: Slow) -> None:
    shelf.go_on.set()

    async def statuses(*names: str) -> list[int]:
        return [(await call(client, "POST", f"/{name}/_search", json=PANEL))[0] for name in names]

    assert await statuses("sensor_rollup", "second") == [200, 404]
    spec = SPEC | {"rollupIndex": "second", "indexPattern": "others-*"}
    cluster.create("second", desiredState="stopped", **spec)
    shelf.roll_up("second", spec, index="second")
    assert await statuses("sensor_rollup", "second", "others-*") == [200] * 3
    metrics = [{"field": "height", "metrics": ["max"]}]
    cluster.edit("second", metrics=metrics)
    shelf.rolled_up.clear()
    assert await statuses("second") == [200]
    cluster.remove("second")
    assert await statuses("sensor_rollup", "second") == [200, 404]


class Rich(Shelf):
    """A store with as many buckets as a test wants, whose keys take so many bytes."""

    def __init__(self, buckets: int, key_bytes: int) -> None:
        super().__init__()
        self.buckets, self._bytes = buckets, key_bytes

    async def search(self, fetches: Sequence[Fetch], **more: Any) -> Sequence[Partials]:
        found = []
        for fetch, partials in zip(fetches, await super().search(fetches, **more), strict=True):
            rows = (
                {(n * 3_600_000,): Row(1) for n in range(self.buckets)} if isinstance(fetch.relation, Documents) else {}
            )
            found.append({path: LevelBuckets(rows, {}, self._bytes) if path else of for path, of in partials.items()})
        return found


@pytest.mark.parametrize(("buckets", "key_bytes"), [(22_000, 0), (700, 22 * MIB)])
async def test_answers_have_a_part_of_the_memory_until_they_are_sent(
    cluster: Cluster, buckets: int, key_bytes: int
) -> None:
    shelf = cluster.shelves["default", "default"] = Rich(buckets, key_bytes)
    shelf.roll_up("sensor", SPEC)
    hours = {"date_histogram": {"field": "time_hour", "fixed_interval": "1h", "min_doc_count": 1}}
    panel = {"size": 0, "aggs": {"hours": hours}}
    lines = [part for _ in range(3) for part in ({"index": "sensor_rollup"}, panel)]
    panels = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    async with served(cluster, access=Anybody(), budgets=Budgets.of(64 * MIB)) as endpoint, calling(endpoint) as client:
        answers = await ask(client, panels)
        assert sorted(answer["status"] for answer in answers) == [200, 429, 429], answers[0].get("error")
        for _ in range(3):
            status, answer = await call(client, "POST", "/sensor_rollup/_search", json=panel)
            assert (status, len(answer["aggregations"]["hours"]["buckets"])) == (200, shelf.buckets)
