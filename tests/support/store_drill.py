"""A job on a cluster behind a faulty way: runs that are held to their word, and what they must have come to."""

import random
import time
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from rollup_operator.indexer.run import RunResult
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.errors import StoreError
from rollup_operator.stores.opensearch import records
from support.clustered import Clustered
from support.embedded import Row, agree, truth
from support.rounding import HOUR, hour
from support.store_http import StoreHttp
from support.store_proxy import StoreProxy


@dataclass
class Drill:
    """A job on a cluster behind a faulty way, and all rows that its source was given."""

    at: Clustered
    proxy: StoreProxy
    rows: list[Row]

    def grow(self, hours: int = 8) -> None:
        """Give the source some further hours of rows."""
        begin = max((hour(t) for t, *_ in self.rows if t is not None), default=-HOUR) + HOUR
        chance = random.Random(begin)
        new: list[Row] = [
            (begin + h * HOUR + i, chance.uniform(-9, 9), f"t{i}", i * 7) for h in range(hours) for i in range(3)
        ]
        self.rows += new
        self.at.write(new)

    async def run(self, job: JobConfig, **more: Any) -> RunResult:
        """Run, and hold the result to its word: what is released is quiet."""
        result = await self.at.run(job, **more)
        ended = time.monotonic()
        assert result.error is None or isinstance(result.error, StoreError), result
        if result.released is not False:
            assert not (left := self.at_work()), left
            assert self.proxy.quiet_since(ended, opaque_id="rollup/")
            assert not self.held(job)
        return result

    def at_work(self, opaque_id: str = "rollup/", *, but: Container[str] = ()) -> list[str]:
        """What the node does for any run, or one; what is of an X-Opaque-Id in `but` is left out."""
        return whole_tasks(self.at.node, opaque_id, but=but)

    def held(self, job: JobConfig) -> bool:
        """Whether the job's record names a holder."""
        found = self.at.node.get(records.ALIAS, records.document_id(job.key))
        return found is not None and found["_source"]["holder"] is not None

    async def recover(self, job: JobConfig, before: RunResult) -> RunResult:
        """Go on without faults, as the operator would after such a run."""
        self.proxy.heal()
        if not before.released:
            await self.at.store.settle(job, "me", delete_documents=False)
            assert not self.held(job)
        result = before if before.outcome == "Completed" else await self.run(job)
        assert result.outcome == "Completed", result
        self.complete(job, result)
        return result

    def complete(self, job: JobConfig, result: RunResult) -> None:
        """Assert that all rows are rolled up, once."""
        documents = [d for d in self.at.documents() if d["_rollup.id"] == job.job_id]
        expected = truth(self.rows, hour)
        agree(documents, expected)
        assert result.claim is not None
        assert result.claim.position is not None
        assert result.claim.position["ts.date_histogram"] == max(time for time, *_ in expected)
        assert result.claim.stats.documents_processed == len(self.rows)
        assert result.claim.stats.rollups_indexed == len(expected)


def whole_tasks(node: StoreHttp, opaque_id: str = "rollup/", *, but: Container[str] = ()) -> list[str]:
    """What a node does for runs.

    Parts of a request may be listed for a moment after its answer; and what a node does afterwards by itself for a
    shard is no work of a run.
    """
    found = []
    for task in node.tasks(opaque_id, actions="indices:*"):
        whose = task["headers"]["X-Opaque-Id"]
        by_itself = task["action"].startswith("indices:admin/seq_no/")
        if "parent_task_id" not in task and not by_itself and whose not in but:
            found.append(f"{task['action']} [{whose}]")
    return found
