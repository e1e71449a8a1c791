"""Sources on a node that grow while jobs run over them, and what must come of them."""

import random
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from support.api import Body
from support.bodies import job
from support.rounding import HOUR
from support.store_http import StoreHttp, unique

HOSTS = ("a", "b", "c")
BEGIN = 1_704_067_200_000
"""Where the first bucket begins. A node takes a number of four digits for a year."""
Key = tuple[int, str]
"""Begin of a bucket in epoch milliseconds, and host."""
Values = tuple[int, float, float, float]
"""Count, sum, min and max of the load."""


@dataclass
class Source:
    """An index of which each hour appears at once, and a later one after it."""

    node: StoreHttp
    index: str = field(default_factory=lambda: unique("events"))
    hours: int = 0
    _rows: list[tuple[int, str, float]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        fields = {"ts": "date", "host": "keyword", "load": "double"}
        # A refresh in the middle of a bulk would show a part of an hour.
        self.node.create(self.index, fields, settings={"index.refresh_interval": "-1"})

    def grow(self, hours: int, choose: random.Random) -> None:
        """Add so many hours of rows."""
        new = [
            (BEGIN + n * HOUR + choose.randrange(HOUR), host, choose.randrange(-400, 400) / 4)
            for n in range(self.hours, self.hours + hours)
            for host in HOSTS
            for _ in range(choose.randint(1, 3))
        ]
        with self._lock:
            self._rows += new
            self.hours += hours
        self.node.load(self.index, [{"ts": ts, "host": host, "load": load} for ts, host, load in new])

    @property
    def end(self) -> int:
        """Where the last bucket begins."""
        return BEGIN + (self.hours - 1) * HOUR

    def rows(self, last: Key | None = None) -> int:
        """How many rows there are, in all or up to a bucket and host."""
        return sum(values[0] for key, values in self.summary().items() if last is None or key <= last)

    def summary(self) -> dict[Key, Values]:
        """Summarise all rows, one by one."""
        with self._lock:
            rows = list(self._rows)
        found: dict[Key, list[float]] = {}
        for ts, host, load in rows:
            found.setdefault((ts // HOUR * HOUR, host), []).append(load)
        return {key: (len(loads), sum(loads), min(loads), max(loads)) for key, loads in found.items()}


def key_of(position: Mapping[str, Any] | None) -> Key:
    """Return what a position stands at; one before all others where there is none."""
    return (-1, "") if position is None else (position["ts.date_histogram"], position["host.terms"])


def hourly(name: str, source: Source, target: str, **spec: Any) -> Body:
    """A job over a source, every second."""
    return job(
        name,
        **{
            "indexPattern": source.index,
            "rollupIndex": target,
            "cron": "* * * * * ?",
            "groups": {"dateHistogram": {"field": "ts", "fixedInterval": "1h"}, "terms": {"fields": ["host"]}},
            "metrics": [{"field": "load", "metrics": ["sum", "min", "max", "value_count"]}],
            **spec,
        },
    )


@dataclass(frozen=True)
class Rolled:
    """A job's documents as the node keeps them."""

    values: Mapping[Key, Values]
    versions: Mapping[Key, int]


def rolled(node: StoreHttp, target: str, name: str) -> Rolled:
    """Read a job's documents. None is double: no two are of one bucket and host."""
    values: dict[Key, Values] = {}
    versions: dict[Key, int] = {}
    for hit in _hits(node, target):
        d = hit["_source"]
        if d["_rollup.id"] != name:
            continue
        key = d["ts.date_histogram.timestamp"], d["host.terms.value"]
        assert key not in values, f"two documents of {name} are of {key}"
        count = d["ts.date_histogram._count"]
        assert count == d["host.terms._count"] == d["load.value_count.value"], d
        values[key] = count, d["load.sum.value"], d["load.min.value"], d["load.max.value"]
        versions[key] = hit["_version"]
    return Rolled(values, versions)


def _hits(node: StoreHttp, target: str) -> Iterator[Body]:
    if not node.exists(target):
        return
    node.refresh(target)
    answer = node.search(target, {"size": 5_000, "version": True, "sort": ["_doc"]}, scroll="1m")
    while hits := answer["hits"]["hits"]:
        yield from hits
        answer = node.call("POST", "/_search/scroll", {"scroll": "1m", "scroll_id": answer["_scroll_id"]})
    node.call("DELETE", "/_search/scroll", {"scroll_id": answer["_scroll_id"]})
