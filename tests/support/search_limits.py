"""Searches of as many buckets as an answer may have, and of one more."""

import asyncio
import json
from pathlib import Path
from typing import Any

from rollup_operator.http.api.search import MEMORY_OF_A_BUCKET
from rollup_operator.stores.search import MAX_BUCKETS
from support.random_worlds import TIME, Row
from support.rounding import HOUR, ms
from support.search_front import endpoint
from support.search_oracle import moment
from support.search_places import Place
from support.serving import Client

Body = dict[str, Any]

_BEGIN = ms("2024-03-01T00:00")
_HOURS = 48
_JOB = {
    "groups": {"dateHistogram": {"field": TIME, "fixedInterval": "1h"}, "terms": {"fields": ["code"]}},
    "metrics": [{"field": "delay", "metrics": ["sum", "value_count"]}],
    "pageSize": 10_000,
}
_BY_CODE = {"terms": {"field": "code", "size": 70_000}, "aggs": {"of": {"sum": {"field": "delay"}}}}


async def answers_as_many_as_allowed(place: Place) -> None:
    """Ask for MAX_BUCKETS buckets, half of them rolled up and half live, and for one more."""
    job = place.job(0, _JOB)
    await place.add("0", [_row(code) for code in range(MAX_BUCKETS)])
    ran = await place.run(job, moment(_BEGIN + _HOURS // 2 * HOUR))
    assert ran.outcome == "Completed", ran
    async with endpoint([place], [job]) as client:
        before = _peak_begins()
        status, found = await _searched(client, place, {"codes": _BY_CODE})
        assert status == 200, found
        assert _grown(before) <= MAX_BUCKETS * MEMORY_OF_A_BUCKET
        codes = {bucket["key"]: bucket for bucket in found["aggregations"]["codes"]["buckets"]}
        assert codes.keys() == set(range(MAX_BUCKETS))
        assert all(of["doc_count"] == 1 and of["of"]["value"] == code / 4 for code, of in codes.items())
        (stretch,) = found["_rollup"]["jobs"]
        assert ms(stretch["to"].rstrip("Z")) == _BEGIN + _HOURS // 2 * HOUR
        status, found = await _searched(client, place, {"hours": _hours(MAX_BUCKETS)})
        assert status == 200, found
        hours = [bucket["doc_count"] for bucket in found["aggregations"]["hours"]["buckets"]]
        assert (len(hours), sum(hours), any(hours[_HOURS:])) == (MAX_BUCKETS, MAX_BUCKETS, False)
        await _is_too_many(client, place, {"hours": _hours(MAX_BUCKETS + 1)})
        await place.add("1", [{**_row(MAX_BUCKETS), TIME: _BEGIN + (_HOURS - 1) * HOUR}])
        await _is_too_many(client, place, {"codes": _BY_CODE})


def _row(code: int) -> Row:
    return {TIME: _BEGIN + code % _HOURS * HOUR, "code": code, "delay": code / 4}


def _hours(count: int) -> Body:
    bounds = {"min": _BEGIN, "max": _BEGIN + (count - 1) * HOUR}
    return {"date_histogram": {"field": TIME, "fixed_interval": "1h", "extended_bounds": bounds}}


async def _searched(client: Client, place: Place, aggregations: Body) -> tuple[int, Body]:
    body = json.dumps({"size": 0, "aggs": aggregations})
    headers = {"Content-Type": "application/json"}
    async with client.post(f"/{place.target}/_search", data=body, headers=headers) as answer:
        return answer.status, await asyncio.to_thread(json.loads, await answer.read())


async def _is_too_many(client: Client, place: Place, aggregations: Body) -> None:
    status, found = await _searched(client, place, aggregations)
    assert (status, found["error"]["type"]) == (400, "too_many_buckets_exception"), str(found)[:1000]
    assert str(MAX_BUCKETS) in found["error"]["reason"]


_STATUS, _REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _peak_begins() -> int | None:
    """Let the peak of this process's memory begin now; returns that in bytes. None: nothing measures it here."""
    try:
        _REFS.write_text("5")
    except OSError:
        return None
    return _peak()


def _peak() -> int:
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _grown(before: int | None) -> int:
    return 0 if before is None else _peak() - before
