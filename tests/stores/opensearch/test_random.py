"""Random indices and jobs: where a job completes, its documents are what Python makes of the rows; where it does not,
the message names the field and what would do."""

import asyncio
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from rollup_operator.rollup.source_rules import broken_rules
from rollup_operator.stores.errors import SourceInvalid
from support.clustered import Clustered, clustered
from support.random_indices import JOBS, Source, agree, sources
from support.store_http import StoreHttp, unique

EXAMPLES = int(os.environ.get("TRUTH_SOURCES", "40"))
"""Each has some jobs."""
_TOGETHER = 20
"""Sources whose indices are deleted by one call."""


class World:
    """One node for all examples."""

    def __init__(self, at: Clustered) -> None:
        self.at, self.node = at, at.node
        self.prefix = unique("truth")
        self.number = 0
        self.seen: dict[str, int] = {}

    def next(self) -> str:
        if self.number and self.number % _TOGETHER == 0:
            self.node.delete(f"{self.prefix}-*")
        self.number += 1
        return f"{self.prefix}-{self.number}"

    def put(self, name: str, source: Source) -> None:
        for i, index in enumerate(source.indices):
            body = {
                "settings": {
                    "number_of_shards": index.shards,
                    "number_of_replicas": 0,
                    "index.translog.durability": "async",
                },
                "mappings": {"dynamic": False, "properties": index.properties(source.alias)},
            }
            self.node.call("PUT", f"/{name}-s{i}", body)
            if index.rows:
                self.node.load(f"{name}-s{i}", index.documents(), refresh=False)

    async def run(self, name: str, source: Source) -> None:
        """Run all jobs of a source, which write into one index."""
        self.at.target = f"{name}-out"
        jobs = [
            self.at.job(job_id=f"job{i}", uid=f"{name}/{i}", indexPattern=f"{name}-s*", **of)
            for i, of in enumerate(source.jobs)
        ]
        fields = await self.at.store.fields(f"{name}-s*", self.at.target)
        results = await asyncio.gather(*(self.at.run(job) for job in jobs))
        written = await asyncio.to_thread(self.documents) if any(r.outcome == "Completed" for r in results) else {}
        for of, job, result in zip(source.jobs, jobs, results, strict=True):
            if refused := source.refused(of):
                assert isinstance(result.error, SourceInvalid), (of, result, refused)
                assert any(f"[{field}]" in result.message for field in refused), (result.message, refused)
                self._note("refused")
            else:
                assert result.outcome == "Completed", (result.message, of)
                assert not broken_rules(job.spec, fields)
                agree(source, of, written.get(job.job_id, []))
                self._note("completed")

    def documents(self) -> dict[str, list[dict[str, Any]]]:
        """The documents of all jobs, by job."""
        if not self.node.exists(self.at.target):
            return {}
        answer = self.node.search(self.at.target, {"size": 10_000})
        found: dict[str, list[dict[str, Any]]] = {}
        assert answer["hits"]["total"]["value"] == len(answer["hits"]["hits"])
        for hit in answer["hits"]["hits"]:
            found.setdefault(hit["_source"]["_rollup.id"], []).append(hit["_source"])
        return found

    def _note(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1


@pytest.mark.timeout(60 + 10 * EXAMPLES)
async def test_documents_of_random_indices_are_what_the_rows_come_to(opensearch: StoreHttp) -> None:
    async with clustered(opensearch) as at:
        world, loop = World(at), asyncio.get_running_loop()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            print_blob=True,
        )
        @given(sources())
        def one(source: Source) -> None:
            name = world.next()
            world.put(name, source)
            asyncio.run_coroutine_threadsafe(world.run(name, source), loop).result()

        await asyncio.to_thread(one)
    assert world.seen["completed"] > JOBS * EXAMPLES // 3
    assert world.seen["refused"] > 0
