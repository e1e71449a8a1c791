"""A RollupStore of kind opensearch or elasticsearch: sources, rollup indices and claims in one cluster."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Literal

import structlog

from rollup_operator.concurrency.background import dropped
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.base import (
    Checkup,
    ClockReading,
    KnownJob,
    Preview,
    Purged,
    Retained,
    RollupIndex,
    Session,
    Settled,
)
from rollup_operator.stores.errors import SearchTooSlow, StoreUnavailable, StoreUnsuitable
from rollup_operator.stores.opensearch import claims, quiet, replication, settling
from rollup_operator.stores.opensearch import preview as previews
from rollup_operator.stores.opensearch import search as searches
from rollup_operator.stores.opensearch.ends import Ends
from rollup_operator.stores.opensearch.session import ClusterSession
from rollup_operator.stores.opensearch.source import sources
from rollup_operator.stores.opensearch.target import index as target
from rollup_operator.stores.opensearch.target import mapping
from rollup_operator.stores.opensearch.tiers import Tiers
from rollup_operator.stores.opensearch.transport.answers import LATEST_MS, Value
from rollup_operator.stores.opensearch.transport.client import OPAQUE_ID, Cluster
from rollup_operator.stores.opensearch.transport.errors import Redact
from rollup_operator.stores.opensearch.verification import ClusterVerification
from rollup_operator.stores.search import MAX_BUCKETS, SEARCH_SECONDS, Documents, Fetch, Partials, Tier

log = structlog.get_logger(__name__)

Kind = Literal["opensearch", "elasticsearch"]

OLDEST: Mapping[Kind, tuple[int, int]] = {"opensearch": (1, 0), "elasticsearch": (7, 10)}
"""The oldest supported version of each."""

NAMES: Mapping[str, str] = {"opensearch": "OpenSearch", "elasticsearch": "Elasticsearch"}

CHECK_SECONDS = 10.0
"""How long each request of a health check may take."""

HEALTHS = ("green", "yellow", "red")

_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?:[.+-][0-9A-Za-z.+-]{0,48})?")

_LONGEST_UUID = 64

_SEARCHES = 8
"""Of one store at once."""

_VERIFICATION_ENDS = "waiting for the end of a verification"


class ClusterStore:
    """The store behind one RollupStore. It owns its connections."""

    def __init__(self, kind: Kind, cluster: Cluster, *, is_alive: Callable[[Owner], bool]) -> None:
        """`is_alive` is called, in the event loop, for another owner of a record. No I/O."""
        self._kind, self._cluster, self._is_alive = kind, cluster, is_alive
        self._uuid: str | None = None
        self._may_copy_segments = kind == "opensearch"
        # Every index may, including that of the claims, and other clusters do not support the preference.
        self._claims_copies = replication.PRIMARY if self._may_copy_segments else replication.ANY
        self._ends = Ends(cluster)
        self._tiers = Tiers(cluster, self._claims_copies)
        self._searches = asyncio.Semaphore(_SEARCHES)

    @property
    def distribution(self) -> str:
        """Return opensearch or elasticsearch."""
        return self._kind

    @property
    def place(self) -> str | None:
        """Return the cluster's UUID from the last health check."""
        return self._uuid

    async def check(self) -> Checkup:
        """Return version and health. Raises StoreUnsuitable for another product, or for a version too old."""
        about = await self._cluster.call("GET", "/", doing="asking for the version", timeout=CHECK_SECONDS)
        version = version_of(about, self._kind, self._cluster.redact)
        uuid = about.find("cluster_uuid")
        # A cluster that forms has none yet.
        self._uuid = uuid.text(_LONGEST_UUID) if uuid.value not in (None, "_na_") else None
        await self._check_tasks()
        health = await self._cluster.call(
            "GET",
            "/_cluster/health",
            params={"filter_path": "status"},
            doing="asking for the health",
            timeout=CHECK_SECONDS,
        )
        status = health.find("status").value
        return Checkup(version, next((known for known in HEALTHS if status == known), None))

    async def _check_tasks(self) -> None:
        """Search the task list for this very request, as a halt searches it for a job's.

        A missing right, or a proxy that drops the header with the id of a request, must not show only at a
        halt.
        """
        answer = await self._cluster.call(
            "GET",
            "/_tasks",
            params={
                "nodes": "_local",
                "actions": "cluster:monitor/tasks/lists*",
                "filter_path": "nodes.*.tasks.*.headers.X-Opaque-Id",
            },
            doing="asking for the tasks",
            timeout=CHECK_SECONDS,
        )
        if OPAQUE_ID not in quiet.owners(answer):
            raise StoreUnsuitable(
                "the cluster's task list shows no X-Opaque-Id of the operator, so the operator cannot see what a job "
                "has under way: let every proxy between the operator and the cluster pass that header on"
            )

    async def clock(self) -> ClockReading:
        """Read the clock of the node that answers: the cluster's task list says when its own request began."""
        answer = await self._cluster.call(
            "GET",
            "/_tasks",
            params={
                "nodes": "_local",
                "actions": "cluster:monitor/tasks/lists*",
                "filter_path": "nodes.*.tasks.*.start_time_in_millis",
            },
            doing="asking for the time",
            timeout=CHECK_SECONDS,
        )
        began = [
            task.at("start_time_in_millis").whole(most=LATEST_MS)
            for _, node in answer.find("nodes").members()
            for _, task in node.at("tasks").members()
        ]
        if not began:
            raise StoreUnavailable("asking for the time: the task list does not show its own request")
        return ClockReading("the cluster's", datetime.fromtimestamp(max(began) / 1000, UTC))

    def session(self, config: JobConfig, holder: str) -> Session:
        """Return a session for one run of a job."""
        return ClusterSession(self._cluster, config, holder, self._is_alive, may_copy_segments=self._may_copy_segments)

    async def fields(
        self, index_pattern: str, rollup_index: str, spec: RollupJobSpec | None = None, *, uid: str | None = None
    ) -> Mapping[str, SourceField]:
        """Describe the fields of all indices that the pattern matches, by their mappings."""
        if spec is not None:
            sources.refuse_csv(spec)
        # As a request of the job it is sent only by the leader, and waited for if it is cancelled. No run has epoch 0.
        opaque_id = OPAQUE_ID if uid is None else quiet.opaque_id(uid, 0)
        return await sources.fields(self._cluster, index_pattern, rollup_index, opaque_id=opaque_id)

    async def preview(self, config: JobConfig, span: Span, documents: int) -> Preview:
        """Read the first page of the span, and estimate from it."""
        return await previews.preview(self._cluster, config, span, documents, may_copy_segments=self._may_copy_segments)

    @asynccontextmanager
    async def verification(
        self, config: JobConfig, fields: Collection[str] | None = None, *, awaited: bool = False
    ) -> AsyncIterator[ClusterVerification]:
        """Compare by searches that belong to no run."""
        opaque_id = quiet.verification_id(config.owner.uid) if awaited else ""
        try:
            yield ClusterVerification(
                self._cluster,
                config,
                fields,
                self._is_alive,
                may_copy_segments=self._may_copy_segments,
                opaque_id=opaque_id,
            )
        finally:
            if awaited and self._cluster.is_unread(opaque_id):
                await self._until_over(opaque_id)

    async def _until_over(self, opaque_id: str) -> None:
        """Wait until nothing is in progress under an id, however long the cluster cannot be asked.

        Cancelled, it waits on: a stop that comes meanwhile waits, too. Cancelled again, it ends.
        """
        over = asyncio.create_task(self._ends.over(opaque_id, _VERIFICATION_ENDS))
        try:
            await asyncio.wait({over})
        except asyncio.CancelledError:
            await asyncio.wait({over})
            raise
        finally:
            await dropped(over)

    async def tiers(self, rollup_indices: Collection[str]) -> Sequence[Tier]:
        """Read the indices' mappings and the records, and let searches see what is said to be rolled up."""
        async with self._searching(SEARCH_SECONDS):
            return await self._tiers.of(rollup_indices)

    async def search(
        self, fetches: Sequence[Fetch], *, max_buckets: int = MAX_BUCKETS, seconds: float = SEARCH_SECONDS
    ) -> Sequence[Partials]:
        """Answer by one `_msearch`, which the cluster ends with the connection."""
        async with self._searching(seconds), self._searches:
            found = await searches.search(self._cluster, fetches, max_buckets, seconds, self._tiers.copies_of)
            await self._tiers.must_stand([f.relation for f in fetches if isinstance(f.relation, Documents)])
            return found

    @asynccontextmanager
    async def _searching(self, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as e:
            raise SearchTooSlow(seconds) from e

    async def rollup_index(self, index: str) -> RollupIndex | None:
        """Read an index and its `_meta`. Raises Unfit if the name belongs to something else."""
        found = await target.read(self._cluster, index, opaque_id=OPAQUE_ID)
        if found is None:
            return None
        return RollupIndex(frozenset(mapping.entries(found.mappings) or ()), mapping.missing_meta(found.mappings))

    async def known_jobs(self) -> Sequence[KnownJob]:
        """List the records."""
        return await claims.known(self._cluster, copies=self._claims_copies)

    async def held(self, holder: str) -> Collection[Owner]:
        """List the records that have another holder."""
        return await claims.held(self._cluster, holder, copies=self._claims_copies)

    async def settle(
        self, config: JobConfig, holder: str, *, delete_documents: bool, verified: bool = False
    ) -> Settled:
        """Take the claim from its holder, and wait until nothing of it is in progress."""
        settled = await settling.settle(
            self._cluster, config, holder, self._is_alive, delete_documents=delete_documents
        )
        if verified:  # a verification holds no claim
            opaque_id = quiet.verification_id(config.owner.uid)
            await quiet.over(self._cluster, opaque_id, doing=_VERIFICATION_ENDS)
        return settled

    async def retained(self, key: tuple[str, str]) -> Retained | None:
        """Read the record, and count the documents that it is about."""
        return await settling.retained(self._cluster, key)

    async def purge(self, key: tuple[str, str], owner: Owner, holder: str) -> Purged:
        """Take the claim, wait until nothing of it is in progress, and delete the documents."""
        return await settling.purge(self._cluster, key, owner, holder)

    async def retire(self) -> None:
        """Close connections that no call needs."""
        await self._cluster.retire()

    async def close(self) -> None:
        """Close all connections."""
        await self._cluster.close()


def version_of(about: Value, kind: Kind, redact: Redact = str) -> str:
    """Return the version in the answer of `GET /`, fit to be shown.

    Raises StoreUnsuitable for another kind of cluster or one that is too old, StoreUnavailable for no cluster at all.
    """
    number = about.find("version", "number").value
    parts = _VERSION.fullmatch(number) if isinstance(number, str) else None
    if parts is None:
        raise StoreUnavailable("the host answers, but reports no version: does it lead to a cluster?")
    number = redact(parts[0])
    found: Kind = "opensearch" if about.find("version", "distribution").value == "opensearch" else "elasticsearch"
    if found != kind:
        raise StoreUnsuitable(
            f"the hosts lead to {NAMES[found]} {number}: delete the RollupStore and create it with spec.{found} in "
            f"place of spec.{kind}"
        )
    oldest = OLDEST[kind]
    if (int(parts[1]), int(parts[2])) < oldest:
        raise StoreUnsuitable(
            f"the cluster is {NAMES[kind]} {number}: {'.'.join(map(str, oldest))} or newer is needed; upgrade it"
        )
    return number
