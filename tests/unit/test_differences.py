"""Each difference from Elasticsearch that is on purpose has tests in differences.json; some of them are here."""

import json
import re
from pathlib import Path

import pytest

from rollup_operator.http.protocol.dialects import DIALECTS
from support.bodies import sensor
from support.http_calls import Client, call, served
from support.http_double import Cluster

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"
PATH = "/_rollup/job/sensor"
DONE = (200, {"acknowledged": True})


def rows(page: str, heading: str) -> list[str]:
    """The rows of all tables below a heading, the heads of the tables left out."""
    text = (DOCS / page).read_text().partition(f"\n{heading}\n")[2]
    level = heading.split(" ", maxsplit=1)[0]
    text = re.split(rf"^#{{1,{len(level)}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]
    lines = text.splitlines()
    heads = {n + step for n, line in enumerate(lines) if line.startswith("| ---") for step in (-1, 0)}
    return [line for n, line in enumerate(lines) if line.startswith("|") and n not in heads]


DIFFERENCES = [
    *(("from-elasticsearch.md", row) for row in rows("from-elasticsearch.md", "## Versions")),
    *(("from-elasticsearch.md", row) for row in rows("from-elasticsearch.md", "## Where we differ on purpose")),
    *(("stop-semantics.md", row) for row in rows("stop-semantics.md", "## Where Elasticsearch differs")),
]
HELD_BY: dict[str, dict[str, list[str]]] = json.loads((TESTS / "differences.json").read_text())
"""Of each page: the first cell of a row, and the tests that prove the row."""


def first_cell(row: str) -> str:
    return row.strip("| ").split(" | ")[0]


def test_all_differences_are_found() -> None:
    assert len(DIFFERENCES) > 50
    for page, held in HELD_BY.items():
        assert sorted(held) == sorted(first_cell(row) for at, row in DIFFERENCES if at == page)


@pytest.mark.parametrize(("page", "row"), DIFFERENCES)
def test_a_difference_is_held_by_tests(page: str, row: str) -> None:
    named = HELD_BY[page][first_cell(row)]
    assert named
    for file, test in (name.split("::") for name in named):
        assert re.search(rf"^(async )?def {test}\(", (TESTS / file).read_text(), re.MULTILINE), f"{file}::{test}"


@pytest.mark.parametrize("version", DIALECTS)
async def test_jobs_can_be_created_where_there_are_none(cluster: Cluster, version: int) -> None:
    async with served(cluster, compat_version=version) as client:
        assert await call(client, "PUT", PATH, sensor()) == DONE


@pytest.mark.parametrize("version", DIALECTS)
async def test_a_list_of_patterns_is_taken_in_every_version(cluster: Cluster, version: int) -> None:
    cluster.shelf.pattern = "sensor-*,meter"
    async with served(cluster, compat_version=version) as client:
        assert await call(client, "PUT", PATH, sensor(index_pattern="sensor-*,meter")) == DONE


async def test_a_job_that_no_operator_has_looked_at_is_shown(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    _, answered = await call(client, "GET", PATH)
    assert [job["status"] for job in answered["jobs"]] == [{"job_state": "stopped"}]


@pytest.mark.parametrize("header", ["Accept", "Content-Type"])
async def test_a_version_is_taken_from_either_header_alone(client: Client, header: str) -> None:
    body = sensor()
    of_version = "application/vnd.elasticsearch+json; compatible-with=8"
    plain = {"Content-Type": "application/json"} if header == "Accept" else {}
    async with client.put(PATH, json=body, headers={**plain, header: of_version}) as answer:
        assert (answer.status, await answer.json(content_type=None)) == DONE


@pytest.mark.parametrize("version", DIALECTS)
async def test_no_answer_warns_that_rollups_will_be_removed(cluster: Cluster, version: int) -> None:
    async with served(cluster, compat_version=version) as client:
        for method, path, body in (
            ("PUT", PATH, sensor()),
            ("GET", PATH, None),
            ("POST", f"{PATH}/_start", None),
            ("POST", f"{PATH}/_stop", None),
            ("GET", "/_rollup/data", None),
        ):
            async with client.request(method, path, json=body) as answer:
                assert answer.status == 200
                assert "Warning" not in answer.headers
