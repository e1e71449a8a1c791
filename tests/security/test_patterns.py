"""Patterns that users write cost time linear in their length, wherever they are matched."""

import os
import time
from pathlib import Path

import pytest

from rollup_operator.model.validation import problems
from rollup_operator.stores.duckdb.database.folders import Folders
from rollup_operator.stores.duckdb.source.sources import Search
from support import bodies
from support.bodies import sensor
from support.http_calls import call, served
from support.http_double import Cluster

SECONDS = 2.0
"""Of processor time. Without backtracking each of these takes milliseconds."""

STARS = "*" * 20


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "pattern", ["in/*a*a*a*a*a*a*a*b.parquet", f"in/{STARS}b.parquet", f"in/a{'*a' * 60}b.parquet"]
)
def test_files_are_found_in_time(tmp_path: Path, pattern: str) -> None:
    folder = tmp_path / "team" / "in"
    folder.mkdir(parents=True)
    for number in range(100, 112):
        (folder / f"{'a' * 200}{number}.parquet").touch()
    (folder / f"{'a' * 200}b.parquet").touch()
    began = time.thread_time()
    found = list(Search(lambda: None).files(pattern, Folders.of(tmp_path, "team"), "out"))
    assert time.thread_time() - began < SECONDS
    for fd, _ in found:
        os.close(fd)
    assert len(found) == 1


@pytest.mark.timeout(30)
@pytest.mark.parametrize("pattern", ["*a" * 8 + "b", f"{STARS}b", "a," * 100 + "*a" * 8 + "b"])
def test_a_spec_is_checked_in_time(pattern: str) -> None:
    began = time.thread_time()
    problems(bodies.job(indexPattern=pattern, rollupIndex="a" * 200)["spec"])
    assert time.thread_time() - began < SECONDS


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", "/_rollup/job/x", sensor(index_pattern=f"in/{STARS}z.parquet"), "index_pattern"),
        ("POST", "/_rollup/job/_preview", sensor(index_pattern=f"in/{STARS}z.parquet"), "index_pattern"),
        ("POST", "/_rollup/job/_preview", bodies.job(indexPattern=f"in/{STARS}z.parquet"), "spec.indexPattern"),
    ],
    ids=["creation", "preview", "preview-of-a-resource"],
)
async def test_more_stars_than_anybody_needs_are_refused(
    method: str, path: str, body: dict[str, object], field: str
) -> None:
    async with served(Cluster()) as client:
        status, answer = await call(client, method, path, body)
    assert status == 400
    reason = answer["error"]["reason"]
    assert field in reason
    assert "has 20 stars: use at most 8 in one pattern" in reason
