"""One store under the searches of the bench: its jobs, and the ways to a chart with and without the operator."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import duckdb
import orjson

from bench.client import Server
from bench.search_charts import INDEX, ROLLED, Body, Span, by_hand, chart, raw_sql, spec, sql
from bench.store_calls import call
from bench.subject import OURS, Subject

JOBS = f"/apis/{OURS}/v1alpha1/namespaces/default/rollupjobs"
RUN_REQUEST = "rollup-operator.dev/run-requested-at"
NDJSON = {"Content-Type": "application/x-ndjson"}

Side = Callable[[int], Awaitable[None]]
"""Asks for the chart of a round, by one of the ways that are compared."""


@dataclass
class Place:
    """One store, and how to reach it with and without the operator."""

    store: str
    pattern: str
    unrolled: str
    """A second pattern of the same rows."""
    ours: aiohttp.ClientSession
    server: Server
    one: Subject
    span: Span
    node: aiohttp.ClientSession | None = None
    """The cluster itself."""
    files: tuple[str, str] | None = None
    """The exported result and the source, of an embedded store."""

    # Jobs

    async def create(self, name: str, **changes: Any) -> None:
        """Create a job over the rows."""
        body = {
            "apiVersion": f"{OURS}/v1alpha1",
            "kind": "RollupJob",
            "metadata": {"name": name},
            "spec": spec(self.store, self.pattern, self.span, **changes),
        }
        await self.server.create(JOBS, body)

    async def status(self, name: str) -> Body:
        """Read a job's status."""
        status: Body = orjson.loads(await self.server.call("GET", f"{JOBS}/{name}")).get("status") or {}
        return status

    async def until(self, name: str, question: Callable[[Body], bool], seconds: float = 900) -> Body:
        """Return the status that answers a question with yes."""
        end = time.monotonic() + seconds
        while not question(status := await self.status(name)):
            self.one.check()
            if time.monotonic() > end:
                raise SystemExit(f"job {name} after {seconds:g} s: {json.dumps(status)[:1000]}")
            await asyncio.sleep(0.02)
        return status

    async def run(self, name: str, request: str) -> float:
        """Have a job run once; return the seconds until its status says that the run is over."""
        body = {"metadata": {"annotations": {RUN_REQUEST: request}}}
        began = time.perf_counter()
        await self.server.call("PATCH", f"{JOBS}/{name}", body, {"Content-Type": "application/merge-patch+json"})

        def is_over(status: Body) -> bool:
            handled = status.get("lastHandledRunRequest") == request
            return handled and status["state"] == "started" and status.get("lastRun", {}).get("outcome") is not None

        status = await self.until(name, is_over)
        if status["lastRun"]["outcome"] != "Completed":
            raise SystemExit(f"the run of {name} did not complete: {status['lastRun']}")
        return time.perf_counter() - began

    async def delete(self, name: str) -> None:
        """Delete a job and its documents."""
        await self.server.call("DELETE", f"{JOBS}/{name}")
        with suppress(RuntimeError):
            while True:
                await self.server.call("GET", f"{JOBS}/{name}")
                await asyncio.sleep(0.02)

    # Searches

    async def search(self, body: Body, index: str = ROLLED) -> Body:
        """Search through the operator."""
        found: Body = await call(self.ours, "POST", f"/{index}/_search", json=body)
        return found

    async def msearch(self, bodies: Sequence[Body], index: str = ROLLED) -> list[Body]:
        """Search through the operator, several at once, as Grafana does."""
        lines = b"".join(orjson.dumps(part) + b"\n" for body in bodies for part in ({"index": index}, body))
        found = await call(self.ours, "POST", "/_msearch", data=lines, headers=NDJSON)
        return _whole(found)

    async def bare_msearch(self, bodies: Sequence[Body]) -> list[Body]:
        """Search the two parts of each chart in the cluster itself."""
        assert self.node is not None
        lines = []
        for body in bodies:
            for index, part in zip((ROLLED, INDEX), by_hand(self.span, body), strict=True):
                lines += [orjson.dumps({"index": index, "request_cache": False}), orjson.dumps(part)]
        found = await call(self.node, "POST", "/_msearch", data=b"\n".join([*lines, b""]), headers=NDJSON)
        return _whole(found)

    async def raw(self, body: Body) -> Body:
        """Search all rows in the cluster itself."""
        assert self.node is not None
        found: Body = await call(self.node, "POST", f"/{INDEX}/_search?request_cache=false", json=body)
        return found

    def sides(self) -> dict[str, Side]:
        """Return the ways to a chart."""

        async def ours(shift: int) -> None:
            await self.search(chart(self.span, shift))

        if self.node is not None:

            async def bare(shift: int) -> None:
                await self.bare_msearch([chart(self.span, shift)])

            async def raw(shift: int) -> None:
                await self.raw(chart(self.span, shift))

            return {"ours": ours, "bare": bare, "raw": raw}

        connection = duckdb.connect()

        def statement(make: Callable[[int], str]) -> Side:
            async def side(shift: int) -> None:
                await asyncio.to_thread(lambda: connection.execute(make(shift)).fetchall())

            return side

        assert self.files is not None
        result, source = self.files
        return {
            "ours": ours,
            "bare": statement(lambda shift: sql(self.span, shift, result, source)),
            "raw": statement(lambda shift: raw_sql(self.span, shift, source)),
        }


def _whole(found: Body) -> list[Body]:
    responses: list[Body] = found["responses"]
    for response in responses:
        if "error" in response:
            raise SystemExit(f"a search failed: {json.dumps(response)[:1000]}")
    return responses
