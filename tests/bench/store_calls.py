"""The jobs of the store's bench, and plain requests to the node: pages asked for as one would by hand."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp

from rollup_operator.model.job import RollupJobSpec

PAGE = 5000
SHAPES = {"hourly": ("1h", "few", 720), "minutely": ("1m", "many", 360)}
"""Interval, terms field, and over how many of its buckets the rows are spread: 720 x 50 and 360 x 1,000 documents."""
PLAIN = {"Accept-Encoding": "identity"}
"""As the operator asks: compressing costs both sides more than loopback does."""


def job(shape: str) -> RollupJobSpec:
    """Return the job of a shape; `slow` is one whose every search looks at all documents."""
    interval, terms = ("365d", "unique") if shape == "slow" else SHAPES[shape][:2]
    return RollupJobSpec.model_validate(
        {
            "indexPattern": f"rows-{'minutely' if shape == 'slow' else shape}",
            "rollupIndex": f"rolled-{shape}",
            "cron": "0 0 * * * ?",
            "pageSize": PAGE,
            "groups": {"dateHistogram": {"field": "ts", "fixedInterval": interval}, "terms": {"fields": [terms]}},
            "metrics": [{"field": "value", "metrics": ["min", "max", "sum", "avg", "value_count"]}],
            "rollupIndexSettings": {"numberOfShards": 1, "numberOfReplicas": 0},
        }
    )


async def call(session: aiohttp.ClientSession, method: str, url: str, **more: Any) -> Any:
    """Make a request that must succeed."""
    async with session.request(method, url, **more) as answer:
        body = await answer.json()
        if answer.status >= 400:
            raise SystemExit(f"{method} {url}: {answer.status} {body}")
        return body


ALL_NUMBERS, SUM_ALONE = "stats", "sum"
"""Aggregations of a page: of all metrics of the job, and of one that counts no values."""


def search(shape: str, after: dict[str, Any] | None, metrics: str = ALL_NUMBERS) -> dict[str, Any]:
    """Return the body of a search for a page, as one would write it by hand."""
    groups = job(shape).groups
    terms = groups.terms.fields[0] if groups.terms else ""
    composite: dict[str, Any] = {
        "size": PAGE,
        "sources": [
            {"ts": {"date_histogram": {"field": "ts", "fixed_interval": groups.date_histogram.fixed_interval}}},
            {"terms": {"terms": {"field": terms, "missing_bucket": True}}},
        ],
    }
    if after is not None:
        composite["after"] = after
    until = int(datetime.now(UTC).timestamp() * 1000)
    return {
        "size": 0,
        "track_total_hits": False,
        "query": {"range": {"ts": {"gte": after["ts"] if after else 0, "lt": until, "format": "epoch_millis"}}},
        "aggregations": {"page": {"composite": composite, "aggregations": {"v": {metrics: {"field": "value"}}}}},
    }


async def pages_of(
    session: aiohttp.ClientSession, url: str, shape: str, metrics: str = ALL_NUMBERS
) -> AsyncIterator[int]:
    """Read all pages, one after the other, and yield of each how many buckets it has."""
    after: dict[str, Any] | None = None
    while True:
        path = f"{url}/{job(shape).index_pattern}/_search?request_cache=false"
        found = (await call(session, "POST", path, json=search(shape, after, metrics)))["aggregations"]["page"]
        yield len(found["buckets"])
        if len(found["buckets"]) < PAGE:
            return
        after = found["after_key"]


async def count(session: aiohttp.ClientSession, url: str, shape: str, fields: Sequence[str]) -> None:
    """Count all documents, and the values that they have of some fields, as a run does before its first page."""
    path = f"{url}/{job(shape).index_pattern}/_search?request_cache=false"
    until = int(datetime.now(UTC).timestamp() * 1000)
    values = {f"s{i}": {"value_count": {"field": f, **({"missing": 0} if i else {})}} for i, f in enumerate(fields)}
    body = {
        "size": 0,
        "track_total_hits": True,
        "query": {"range": {"ts": {"gte": 0, "lt": until, "format": "epoch_millis"}}},
        "aggregations": values,
    }
    await call(session, "POST", path, json=body)
