"""Pages from a real cluster: the documents that the same rows come to in the embedded store, whatever the page size."""

import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rollup_operator.stores.base import JobConfig
from rollup_operator.stores.duckdb.export import documents_of as exported
from rollup_operator.stores.duckdb.export import export_path
from rollup_operator.stores.opensearch.client import Cluster
from support.embedded import Embedded, Row, config, spec
from support.rounding import DAY, ms
from support.store_http import StoreHttp, unique
from support.store_reading import Documents, connected, documents_of, load, pages_of, some_rows

START = ms("2024-03-20T00:00")
END = ms("2030-01-01T00:00")


@pytest.fixture
async def cluster(opensearch: StoreHttp) -> AsyncIterator[Cluster]:
    async with connected(opensearch.url) as made:
        yield made


async def embedded_documents(folder: Path, rows: list[Row], job: JobConfig) -> Documents:
    """What the embedded store makes of the rows."""
    store = Embedded(folder)
    store.write("rows", rows)
    embedded = config(job.spec.model_copy(update={"index_pattern": "rows"}), job.job_id)
    await store.completed(embedded)
    return dict(exported(export_path(store.folder, job.spec.rollup_index, job.job_id)))


def same(found: Documents, expected: Documents, rows: list[Row]) -> None:
    """Assert that documents are the same; sums as near as adding in another order can come."""
    assert found.keys() == expected.keys()
    tolerance = 1e-12 * math.fsum(abs(v) for _, v, *_ in rows if v is not None)
    for identity, document in expected.items():
        ours = found[identity]
        assert ours.keys() == document.keys()
        for key, value in document.items():
            if key.endswith((".sum.value", ".avg.value")):
                assert math.isclose(ours[key], value, rel_tol=1e-12, abs_tol=tolerance), (identity, key)
            else:
                assert (type(ours[key]), ours[key]) == (type(value), value), (identity, key)


@pytest.mark.parametrize(("page_size", "parallelism"), [(10_000, 1), (7, 1), (50, 4), (7, 16)])
async def test_pages_hold_what_the_embedded_store_makes_of_the_same_rows(
    opensearch: StoreHttp, cluster: Cluster, tmp_path: Path, page_size: int, parallelism: int
) -> None:
    rows = some_rows(3000, START, 14 * DAY)
    index = unique("events")
    load(opensearch, index, rows)
    job = config(spec(index, "out", pageSize=page_size, parallelism=parallelism))
    found = await documents_of(pages_of(cluster, job, END))
    same(found, await embedded_documents(tmp_path, rows, job), rows)
