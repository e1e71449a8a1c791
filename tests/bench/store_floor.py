"""The least that a run costs on a node: the same pages read, and the same documents written, with nothing around it.

The documents come from a run's own result and are ready as bodies of bulks before the clock starts. A page is written
while the next one is read. There is no claim, no fence, no check of an item and no commit of a position, so that a run
cannot be quicker; what it takes beyond this is what those cost, and the making of the documents.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from bench.store_calls import PAGE, PLAIN, call, pages_of

_COPY = "copied"
_BULK = {"Content-Type": "application/x-ndjson"}


@dataclass(frozen=True)
class Result:
    """What a run has written: the rollup index as it was made, and bodies of bulks of a page's size."""

    index: dict[str, Any]
    bulks: tuple[bytes, ...]

    @classmethod
    async def of(cls, url: str, rollup_index: str) -> "Result":
        """Read it back."""
        async with aiohttp.ClientSession() as session:
            made = (await call(session, "GET", f"{url}/{rollup_index}"))[rollup_index]
            settings = {name: made["settings"]["index"][name] for name in ("number_of_shards", "number_of_replicas")}
            bulks = [bulk async for bulk in _bulks(session, url, rollup_index)]
        return cls({"settings": settings, "mappings": made["mappings"]}, tuple(bulks))


async def _bulks(session: aiohttp.ClientSession, url: str, rollup_index: str) -> AsyncIterator[bytes]:
    body = {"size": PAGE, "sort": ["ts.date_histogram.timestamp"]}
    found = await call(session, "POST", f"{url}/{rollup_index}/_search?scroll=1m", json=body)
    while hits := found["hits"]["hits"]:
        lines = ((orjson.dumps({"index": {"_id": hit["_id"]}}), orjson.dumps(hit["_source"])) for hit in hits)
        yield b"".join(line + b"\n" for pair in lines for line in pair)
        again = {"scroll": "1m", "scroll_id": found["_scroll_id"]}
        found = await call(session, "POST", f"{url}/_search/scroll", json=again)
    await call(session, "DELETE", f"{url}/_search/scroll", json={"scroll_id": found["_scroll_id"]})


async def floor(url: str, shape: str, result: Result) -> float:
    """Return the seconds that reading the pages and writing the result to another index takes, refresh included."""
    async with aiohttp.ClientSession(headers=PLAIN) as session:
        began = time.perf_counter()
        await call(session, "PUT", f"{url}/{_COPY}", json=result.index)
        writing: asyncio.Task[Any] | None = None
        bulks = iter(result.bulks)
        async for _ in pages_of(session, url, shape):
            if writing is not None:
                await writing
            if (bulk := next(bulks, None)) is not None:
                path = f"{url}/{_COPY}/_bulk?filter_path=errors"
                writing = asyncio.ensure_future(call(session, "POST", path, data=bulk, headers=_BULK))
        if writing is not None:
            await writing
        await call(session, "POST", f"{url}/{_COPY}/_refresh")
        took = time.perf_counter() - began
        found = (await call(session, "GET", f"{url}/{_COPY}/_count"))["count"]
        await call(session, "DELETE", f"{url}/{_COPY}")
    if (expected := sum(bulk.count(b"\n") // 2 for bulk in result.bulks)) != found:
        raise SystemExit(f"{found} documents of {expected} were copied")
    return took
