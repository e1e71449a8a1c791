"""Searches at the endpoint, on a real node, while runs write, are stopped, end and rewrite what came late.

SEARCH_RACES: how many orders of events are tried.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from rollup_operator.indexer.run import Run, RunResult
from support.random_worlds import TIME, Chance, Row
from support.rounding import DAY, HOUR, ms
from support.search_front import endpoint
from support.search_places import Indices, on_cluster
from support.serving import Client
from support.store_http import StoreHttp

Body = dict[str, Any]
Group = tuple[int, str]
Numbers = tuple[int, float, float, float]
"""Of the rows of a group: how many, and the sum, minimum and maximum of their values."""

RACES = int(os.environ.get("SEARCH_RACES", "4"))
HOURS, CARRIERS = 36, "abc"
BEGIN = ms("2024-03-30T00:00")
PAST = datetime.fromtimestamp((BEGIN + 10 * DAY) / 1000, UTC)
SEARCHERS = 3
STATS = {"stats": {"field": "delay"}}
BY_CARRIER = {"terms": {"field": "carrier", "size": 10}, "aggs": {"of": STATS}}
SEARCH: Body = {
    "size": 0,
    "track_total_hits": True,
    "aggs": {
        "hours": {"date_histogram": {"field": TIME, "fixed_interval": "1h"}, "aggs": {"by": BY_CARRIER, "of": STATS}},
        "of": STATS,
    },
}
JOB = {
    "groups": {"dateHistogram": {"field": TIME, "fixedInterval": "1h"}, "terms": {"fields": ["carrier"]}},
    "metrics": [{"field": "delay", "metrics": ["min", "max", "sum", "avg", "value_count"]}],
    "pageSize": 10,
    "lookback": "1000d",
}


class Answers:
    """All groups of one answer."""

    def __init__(self, body: Body) -> None:
        self.groups: dict[Group, Numbers] = {}
        for hour in body["aggregations"]["hours"]["buckets"]:
            for by in hour["by"]["buckets"]:
                assert by["doc_count"] == by["of"]["count"]
                self.groups[hour["key"], by["key"]] = _numbers(by["of"])
            # What is above is of the same rows: whole groups of one moment add up.
            assert hour["doc_count"] == hour["of"]["count"] == sum(by["doc_count"] for by in hour["by"]["buckets"])
            assert hour["of"]["sum"] == sum(by["of"]["sum"] for by in hour["by"]["buckets"])
        everything = self.groups.values()
        assert body["hits"]["total"] == {"value": sum(n for n, *_ in everything), "relation": "eq"}
        assert _numbers(body["aggregations"]["of"]) == (
            sum(n for n, *_ in everything),
            sum(total for _, total, *_ in everything),
            min(low for *_, low, _ in everything),
            max(high for *_, high in everything),
        )


def _numbers(stats: Body) -> Numbers:
    return stats["count"], stats["sum"], stats["min"], stats["max"]


class Race:
    """A job over a source, and searches of it all the time."""

    def __init__(self, node: StoreHttp, place: Indices, client: Client, chance: Chance) -> None:
        self.node, self.place, self.chance, self._client = node, place, chance, client
        self.job = place.job(0, JOB)
        self.asked = 0

    def raw(self) -> dict[Group, Numbers]:
        """Return what the node says of all rows."""
        self.node.refresh(self.place.pattern)
        return Answers(self.node.search(self.place.pattern, SEARCH)).groups

    async def found(self) -> dict[Group, Numbers]:
        """Return what the endpoint says."""
        headers = {"Content-Type": "application/json"}
        path = f"/{self.place.target}/_search"
        async with self._client.post(path, data=json.dumps(SEARCH), headers=headers) as answer:
            body = await answer.json()
            assert answer.status == 200, body
        self.asked += 1
        return Answers(body).groups

    @asynccontextmanager
    async def watched(self, *right: dict[Group, Numbers]) -> Any:
        """Search all the time: each group is as one of those given says, and goes through them in their order."""
        ended = asyncio.Event()

        async def watch() -> None:
            at: dict[Group, int] = {}
            while not ended.is_set():
                found = await self.found()
                assert found.keys() == right[-1].keys()
                for group, numbers in found.items():
                    ways = [i for i in range(at.get(group, 0), len(right)) if right[i].get(group) == numbers]
                    assert ways, (group, numbers, [each.get(group) for each in right], at.get(group))
                    at[group] = ways[0]

        async with asyncio.TaskGroup() as group:
            for _ in range(SEARCHERS):
                group.create_task(watch())
            try:
                yield
            finally:
                ended.set()

    async def run(self) -> RunResult:
        """Run to the end, after some stops in the middle."""
        for _ in range(self.chance.randint(0, 2)):
            await self.place.run(self.job, PAST, self._halt_after(self.chance.randint(1, 6)))
        return await self.place.run(self.job, PAST)

    @staticmethod
    def _halt_after(pages: int) -> Any:
        def halts(run: Run) -> bool:
            return run.progress.pages >= pages or run.progress.rewritten >= 10 * pages

        return halts


def _rows(chance: Chance, groups: Sequence[Group]) -> list[Row]:
    """Return a row of each group. Quarters add up without an error, in any order."""
    return [{TIME: at, "carrier": name, "delay": chance.randint(-400, 400) / 4} for at, name in groups]


@pytest.mark.parametrize("seed", range(RACES))
async def test_each_answer_is_of_all_rows_while_a_job_is_run_and_stopped(opensearch: StoreHttp, seed: int) -> None:
    """Late rows of a group are in all its numbers or in none, and once they are in, they stay."""
    chance = Chance(seed)
    groups = [(BEGIN + h * HOUR, name) for h in range(HOURS) for name in CARRIERS]
    async with on_cluster(opensearch) as place:
        await place.add("0", _rows(chance, groups) + _rows(chance, groups))
        async with endpoint([place], [place.job(0, JOB)]) as client:
            race = Race(opensearch, place, client, chance)
            right = await asyncio.to_thread(race.raw)
            async with race.watched(right):  # rolled or live, each row counts once
                assert (await race.run()).outcome == "Completed"
            for late in ("1", "2"):
                await place.add(late, _rows(chance, chance.some(groups, 20)))
                before, right = right, await asyncio.to_thread(race.raw)
                assert await race.found() == before  # no run has rewritten their buckets
                async with race.watched(before, right):
                    assert (await race.run()).outcome == "Completed"
                assert await race.found() == right
            assert race.asked >= 6
