"""Where random rows lie and are rolled up, on a cluster or in files, and a node that has all of them once more."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import duckdb

from rollup_operator.indexer.run import Run, RunResult
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.stores.base import Store
from support.clustered import Clustered, clustered
from support.embedded import Embedded, config, spec
from support.random_worlds import FIELDS, TIME, Row, values
from support.rounding import DAY, HOUR
from support.search_comparing import SIZE, SIZED
from support.store_http import StoreHttp, unique

Body = dict[str, Any]
Halt = Callable[[Run], bool]
LATE = "late"
"""Of a row in `Copy` that came after the jobs were run: the name of the copy."""


class Place(Protocol):
    """A store and a source."""

    store: Store
    pattern: str
    target: str
    at_once: int
    """How many searches are best read together."""

    def job(self, number: int, changes: Mapping[str, Any]) -> JobConfig:
        """Return a job over the source."""

    async def add(self, name: str, rows: Sequence[Row]) -> None:
        """Add an index or a file to the source."""

    async def remove(self, begin: int, end: int) -> None:
        """Delete the rows of [begin, end)."""

    async def run(self, job: JobConfig, now: datetime, halt_when: Halt | None = None) -> RunResult:
        """Run a job until its end or until `halt_when`."""


class Indices:
    """A source of indices."""

    at_once = 25

    def __init__(self, at: Clustered) -> None:
        self._at, self.store = at, at.store
        at.source, at.target = unique("rows"), unique("out")
        self.pattern, self.target = f"{at.source}-*", at.target
        self.names: list[str] = []

    def job(self, number: int, changes: Mapping[str, Any]) -> JobConfig:
        return _owned(self._at.job(job_id=f"job{number}", uid=str(number), indexPattern=self.pattern, **changes))

    async def add(self, name: str, rows: Sequence[Row]) -> None:
        index = f"{self._at.source}-{name}"
        self.names.append(index)
        await asyncio.to_thread(self._at.node.create, index, FIELDS)
        await asyncio.to_thread(self._at.node.load, index, rows)

    async def remove(self, begin: int, end: int) -> None:
        query = {"range": {TIME: {"gte": begin, "lt": end, "format": "epoch_millis"}}}
        await asyncio.to_thread(self._at.node.delete_documents, self.pattern, query)
        await asyncio.to_thread(self._at.node.refresh, self.pattern)

    async def run(self, job: JobConfig, now: datetime, halt_when: Halt | None = None) -> RunResult:
        self._at.now = now
        return await self._at.run(job, halt_when=halt_when)


class Files:
    """A source of Parquet files. `lists` names the columns that hold lists."""

    at_once = 1

    def __init__(self, at: Embedded, lists: Iterable[str], kind: str, page_seconds: float) -> None:
        self._at, self._lists, self._kind = at, set(lists), kind
        self._folder, self.target = unique("in"), unique("out")
        self.pattern = f"{self._folder}/*.parquet"
        self.store = at.store(page_seconds)
        self._rows: dict[str, list[Row]] = {}

    def job(self, number: int, changes: Mapping[str, Any]) -> JobConfig:
        return _owned(config(spec(self.pattern, self.target, **changes), f"job{number}", str(number)))

    async def add(self, name: str, rows: Sequence[Row]) -> None:
        self._rows[name] = list(rows)
        await asyncio.to_thread(self._write, name)

    async def remove(self, begin: int, end: int) -> None:
        for name, rows in self._rows.items():
            self._rows[name] = [row for row in rows if not (TIME in row and begin <= row[TIME] < end)]
            await asyncio.to_thread(self._write, name)

    async def run(self, job: JobConfig, now: datetime, halt_when: Halt | None = None) -> RunResult:
        self._at.now = now
        return await self._at.run(job, store=self.store, halt_when=halt_when)

    def _write(self, name: str) -> None:
        types = {"date": "BIGINT", "keyword": "VARCHAR", "long": "BIGINT", "double": "DOUBLE"}
        shape = {f: [types[kind]] if f in self._lists else types[kind] for f, kind in FIELDS.items()}
        rows = [
            {f: [v] if f in self._lists and not isinstance(v, list) else v for f, v in row.items()}
            for row in self._rows[name]
        ]
        path = self._at.folder / self._folder / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        time = f"make_timestamp({TIME} * 1000)" if self._kind == "TIMESTAMP" else f"to_timestamp({TIME} / 1000)"
        select = f"SELECT unnest(from_json(?, '{json.dumps([shape])}'), recursive := true)"
        written = path.with_suffix(".tmp")
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            text = f"COPY (SELECT * REPLACE ({time} AS {TIME}) FROM ({select})) TO '{written}' (FORMAT parquet)"
            connection.execute(text, [json.dumps(rows)])
        written.rename(path)


def _owned(job: JobConfig) -> JobConfig:
    """Return the job as one of the cluster and the namespace that `support.http_double` has."""
    return replace(job, owner=Owner("local", "default", job.job_id, job.owner.uid))


@asynccontextmanager
async def on_cluster(node: StoreHttp) -> AsyncIterator[Indices]:
    """A source on the node, gone afterwards."""
    async with clustered(node) as at:
        place = Indices(at)
        try:
            yield place
        finally:
            # By name: a node may refuse to delete by a wildcard.
            await asyncio.to_thread(node.delete, ",".join([*place.names, place.target]))


@asynccontextmanager
async def in_files(folder: Path, lists: Iterable[str], kind: str, page_seconds: float) -> AsyncIterator[Files]:
    """A source in a folder of its own."""
    place = Files(Embedded(folder), lists, kind, page_seconds)
    try:
        yield place
    finally:
        await place.store.close()


class Copy:
    """All rows of a source in indices of a node, which is asked what is right."""

    def __init__(self, node: StoreHttp, parts: int) -> None:
        self.node, self.name = node, unique("copy")
        self.indices = tuple(f"{self.name}-{i}" for i in range(parts))
        for index in self.indices:
            node.create(index, {**FIELDS, LATE: "keyword", **{f"{SIZE}{f}": "double" for f in SIZED}})

    def add(self, rows: Sequence[Row], *, late: bool = False) -> None:
        """Add rows."""
        for i, index in enumerate(self.indices):
            more = {LATE: self.name} if late else {}
            sized = [{**row, **more, **_sizes(row)} for row in rows[i :: len(self.indices)]]
            self.node.load(index, sized)

    @staticmethod
    def ask(copies: Sequence["Copy"], bodies: Sequence[Body], **parameters: Any) -> list[tuple[int, Body]]:
        """Return status and answer of each search of all these copies together."""
        if not bodies:
            return []
        header = {"index": [f"{copy.name}-*" for copy in copies]}
        lines = "".join(f"{json.dumps(header)}\n{json.dumps(body)}\n" for body in bodies)
        parameters |= {"filter_path": "responses.status,responses.error,responses.hits,responses.aggregations"}
        answer = copies[0].node.call("POST", "/_msearch", lines.encode(), timeout=60, **parameters)
        return [(each.pop("status", 200), each) for each in answer["responses"]]

    def delete(self) -> None:
        """Delete them."""
        self.node.delete(",".join(self.indices))


def _sizes(row: Row) -> Row:
    """Return the absolute values of a row."""
    return {f"{SIZE}{f}": [abs(v) for v in values([row], f)] for f in SIZED if f in row}


_PROBES: Mapping[str, Body] = {
    "derivative": {},
    "cumulative_sum": {},
    "serial_diff": {},
    "moving_fn": {"window": 2, "script": "MovingFunctions.max(values)"},
    "bucket_sort": {},
    "bucket_script": {"script": "params._value0"},
    "bucket_selector": {"script": "params._value0 > 1"},
}


NO_VALUE_LAST = "no value last"
ONE_OFFSET = "one offset"
FRACTIONS = "fractions"


def lacking(node: StoreHttp) -> set[str]:
    """Return which pipelines a node does not know, as it is here, and which it lacks of the names above.

    Elasticsearch 8 and 9 sort what has no average to the front, others to the end, whichever way it is sorted.
    A node that fills a gap of a histogram with an empty bucket fills that by the extended bounds of a date histogram
    within, whose offset it adds at each step once more than it should. OpenSearch cuts off the fraction of a range's
    end where a field holds whole numbers.
    """
    index = node.create(unique("probe"), FIELDS)
    node.load(index, [{TIME: 0}])
    found = set()
    for kind, more in _PROBES.items():
        body = {"size": 2} if kind == "bucket_sort" else {"buckets_path": "_count", **more}
        days = {"date_histogram": {"field": TIME, "calendar_interval": "1d"}, "aggs": {"p": {kind: body}}}
        if node.ask("POST", f"/{index}/_search", {"size": 0, "aggs": {"d": days}})[0] >= 400:
            found.add(kind)
    node.load(index, [{"carrier": "a"}, {"carrier": "b", "price": 1}])
    by_average = {"terms": {"field": "carrier", "order": {"p": "desc"}}, "aggs": {"p": {"avg": {"field": "price"}}}}
    answer = node.search(index, {"size": 0, "aggs": {"t": by_average}})
    if answer["aggregations"]["t"]["buckets"][0]["key"] == "a":
        found.add(NO_VALUE_LAST)
    node.load(index, [{TIME: 2 * DAY}])
    within = {"field": TIME, "calendar_interval": "1d", "offset": "+1h", "extended_bounds": {"min": 0, "max": 2 * DAY}}
    times = {"date_histogram": {"field": TIME, "calendar_interval": "1d"}, "aggs": {"w": {"date_histogram": within}}}
    answer = node.search(index, {"size": 0, "aggs": {"d": times}})
    gap = answer["aggregations"]["d"]["buckets"][1]["w"]["buckets"]
    node.load(index, [{"code": 2}])
    below = {"range": {"field": "code", "ranges": [{"to": 2.5}]}}
    if not node.search(index, {"size": 0, "aggs": {"r": below}})["aggregations"]["r"]["buckets"][0]["doc_count"]:
        found.add(FRACTIONS)
    if [bucket["key"] for bucket in gap] != [HOUR, DAY + HOUR, 2 * DAY + HOUR]:
        found.add(ONE_OFFSET)
    node.delete(index)
    return found
