"""When a stored document counts as changed."""

import asyncio
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from rollup_operator.rollup.documents import Layout
from rollup_operator.stores.opensearch.target.encoder import Batch
from rollup_operator.stores.opensearch.target.late import Compared, compare, differs
from rollup_operator.stores.opensearch.transport.answers import Value
from support.portions import watched

COUNT = "ts.date_histogram._count"
SUMS = frozenset({"v.sum.value", "v.avg.value"})
STORED = {
    "ts.date_histogram._count": 3,
    "v.min.value": 0.1,
    "v.sum.value": 0.6,
    "v.avg.value": 0.6,
    "v.avg._count": 3.0,
}


@pytest.mark.parametrize(
    ("now", "changed"),
    [
        ({}, False),
        ({"v.avg._count": 3}, False),  # a number is a number, however it is written
        ({"v.sum.value": 0.6000000000000001, "v.avg.value": 0.5999999999999999}, False),
        ({"v.sum.value": 0.6000001}, True),
        ({"v.sum.value": -0.6}, True),
        ({"v.min.value": 0.10000000000000002}, True),
        ({"ts.date_histogram._count": 4}, True),
        ({"v.max.value": 5.0}, True),
    ],
)
def test_a_document_differs_in_what_it_says(now: dict[str, float], changed: bool) -> None:
    assert differs(STORED, STORED | now, SUMS) is changed


def test_a_value_that_is_gone_is_a_change() -> None:
    assert differs(STORED, {key: value for key, value in STORED.items() if key != "v.min.value"}, SUMS)


def test_sums_that_are_zero_are_the_same() -> None:
    assert not differs({"v.sum.value": 0}, {"v.sum.value": -0.0}, SUMS)


# Wide documents


class Documents:
    """A cluster that holds some documents."""

    def __init__(self, stored: dict[str, Any]) -> None:
        self.stored = stored
        self.asked: list[int] = []

    async def call(self, *_: object, body: dict[str, list[str]], **__: object) -> Value:
        await asyncio.sleep(0)
        self.asked.append(len(body["ids"]))
        docs = ({"_id": each, "_source": self.stored.get(each)} for each in body["ids"])
        return Value(
            {"docs": [doc if doc["_source"] is not None else {"_id": doc["_id"]} for doc in docs]}, "comparing"
        )


def wide(count: int, metrics: int) -> tuple[Layout, dict[str, Any], Batch]:
    """Documents with so many metrics each, as they are stored and as they are read again."""
    layout = Layout("job", "ts", "1h", "UTC", (), None, (), (("v", ("sum",)),))
    stored = {f"id-{n}": {COUNT: 3} | {f"field-{m}.max.value": n + m / 7 for m in range(metrics)} for n in range(count)}
    items = [
        orjson.dumps({"index": {"_id": name}}) + b"\n" + orjson.dumps(source) + b"\n" for name, source in stored.items()
    ]
    return layout, stored, Batch.of(items)


async def compared(layout: Layout, cluster: Documents, batch: Batch) -> Compared:
    parts: Any = cluster, SimpleNamespace(claim=SimpleNamespace(key=("rollup", "job")), opaque_id="x")
    return await compare(*parts, layout, batch)


async def test_wide_documents_are_compared_in_portions_and_asked_for_a_few_at_a_time() -> None:
    layout, stored, batch = wide(1_500, 600)
    cluster = Documents(stored)
    async with watched() as loop:
        assert await compared(layout, cluster, batch) == Compared(Batch.of([]), 0)
    assert loop.longest < 0.05
    assert sum(cluster.asked) == 1_500
    assert max(cluster.asked) * batch.size / len(batch) <= 1_000_000


async def test_narrow_documents_are_asked_for_a_thousand_at_a_time() -> None:
    layout, stored, batch = wide(2_500, 2)
    cluster = Documents(stored)
    stored["id-3"][COUNT] = 2
    stored["id-4"][COUNT] = 4
    del stored["id-2499"]
    assert await compared(layout, cluster, batch) == Compared(Batch.of([batch.items[3], batch.items[2499]]), 1)
    assert cluster.asked == [1_000, 1_000, 500]


async def test_a_document_of_any_size_is_compared() -> None:
    layout, stored, batch = wide(2, 50_000)
    cluster = Documents(stored)
    assert await compared(layout, cluster, batch) == Compared(Batch.of([]), 0)
    assert cluster.asked == [1, 1]
