"""A cluster's store on a real node, rows for it, and runs with the operator's own loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from rollup_operator.indexer.run import Run, RunResult
from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Claim
from rollup_operator.stores.opensearch.store import ClusterStore
from rollup_operator.stores.opensearch.transport.client import Cluster
from support.embedded import Row, config, spec
from support.store_http import StoreHttp, unique
from support.store_jobs import connected

FIELDS = {"ts": "date", "value": "double", "term": "keyword", "size": "long"}


@dataclass
class Clustered:
    """A store, and a source of its own with the fields of `embedded.COLUMNS`. `alive` holds the uids that live."""

    node: StoreHttp
    cluster: Cluster
    source: str = field(default_factory=lambda: unique("rows"))
    target: str = field(default_factory=lambda: unique("out"))
    alive: set[str] = field(default_factory=set)
    now: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    clock_skew: timedelta | None = None

    def __post_init__(self) -> None:
        kind = self.node.distribution
        assert kind in ("opensearch", "elasticsearch")
        self.store = ClusterStore(kind, self.cluster, is_alive=lambda owner: owner.uid in self.alive)

    def job(self, *, job_id: str = "job", uid: str = "1", hash_: str = "h", **changes: Any) -> JobConfig:
        """The job over the source, by hours, terms and sizes, with all metrics."""
        return config(spec(self.source, self.target, **changes), job_id, uid, hash_)

    def write(self, rows: Iterable[Row], index: str | None = None, **settings: Any) -> None:
        """Add rows to the source, which is made where it is missing."""
        index = index or self.source
        if not self.node.exists(index):
            self.node.create(index, FIELDS, settings=settings)
        names = ("ts", "value", "term", "size")
        self.node.load(index, ({n: v for n, v in zip(names, row, strict=True) if v is not None} for row in rows))

    def begin(self, of: JobConfig | None = None, *, holder: str = "me") -> Run:
        """A run of the job with the operator's own loop, still to be started."""

        async def opened() -> ClusterStore:
            return self.store

        return Run(of or self.job(), holder, opened, RunSlots(1), lambda: self.now, clock_skew=self.clock_skew)

    async def run(
        self, of: JobConfig | None = None, *, holder: str = "me", halt_when: Callable[[Run], bool] | None = None
    ) -> RunResult:
        """Run the job until its end or until `halt_when`."""
        run = self.begin(of, holder=holder)
        task = asyncio.ensure_future(run.index())
        while halt_when is not None and not task.done():
            if halt_when(run):
                run.halt()
                break
            await asyncio.sleep(0)
        return await task

    async def completed(self, of: JobConfig | None = None, **kwargs: Any) -> Claim:
        """Run to the end and return the record."""
        result = await self.run(of, **kwargs)
        assert result.outcome == "Completed", result
        assert result.claim is not None
        return result.claim

    def documents(self) -> list[dict[str, Any]]:
        """Return the documents of the rollup index."""
        self.node.refresh(self.target)
        return list(self.node.documents(self.target).values())


@asynccontextmanager
async def clustered(node: StoreHttp, *urls: str, **more: Any) -> AsyncIterator[Clustered]:
    """A store on the node, or behind the URLs that lead to it."""
    async with connected(*(urls or (node.url,))) as cluster:
        yield Clustered(node, cluster, **more)
