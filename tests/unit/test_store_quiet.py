"""When a cluster is known to do nothing for a run any more."""

import asyncio
from typing import Any

from rollup_operator.stores.opensearch.quiet import opaque_id, quiet
from rollup_operator.stores.opensearch.transport.answers import Value

ARRIVES_AFTER = 0.04
"""Seconds that a search needs to the node, less than what `quiet` reckons with."""


class Busy:
    """A cluster with one search at work at the first look, and another that was sent with it and arrives later."""

    def __init__(self) -> None:
        self.sent = asyncio.get_running_loop().time()
        self.looks = 0
        self.seen_late = 0

    async def call(self, *_: Any, doing: str, **__: Any) -> Value:
        self.looks += 1
        late = asyncio.get_running_loop().time() - self.sent >= ARRIVES_AFTER and not self.seen_late
        self.seen_late += late
        there = {"t": {"headers": {"X-Opaque-Id": opaque_id("u", 1)}}} if self.looks == 1 or late else {}
        return Value({"nodes": {"n": {"tasks": there}}}, doing)


async def test_a_search_that_is_seen_says_nothing_about_another_that_is_on_its_way() -> None:
    cluster: Any = Busy()
    await quiet(cluster, ["u"], before=2, doing="waiting")
    assert cluster.seen_late == 1


async def test_where_all_has_arrived_one_look_is_enough() -> None:
    cluster: Any = Busy()
    cluster.looks = 1  # nothing is at work
    await quiet(cluster, ["u"], before=2, doing="waiting", arrived=True)
    assert cluster.looks == 2
