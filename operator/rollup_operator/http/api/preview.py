"""The preview call: what a job would do, computed from its first page. It creates, claims and writes nothing.

The body is a configuration as for the creation call, or a whole RollupJob as for `kubectl apply`. Only a RollupJob
can name a store, a start and an end. What `kubectl apply` would refuse of one is refused, in the same words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rollup_operator.http.api.create import STORE
from rollup_operator.http.job_config.manifest_check import ManifestChecks, with_unknown_fields
from rollup_operator.http.job_config.rules import new_job
from rollup_operator.http.job_config.source_check import SourceChecks, source_errors_answered, within_limit
from rollup_operator.http.ports import Kubernetes, Stores
from rollup_operator.http.protocol import errors
from rollup_operator.http.protocol.dialects import Dialect
from rollup_operator.http.protocol.positioned_json import Node
from rollup_operator.http.protocol.turns import Turns
from rollup_operator.model.base import API_VERSION
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.times import rfc3339_ms
from rollup_operator.model.validation import problems
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.due import due
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.sharing.shares import Shares
from rollup_operator.stores.base import Preview

DOCUMENTS = 10
"""How many documents are shown."""

AT_ONCE = 8
"""Previews at a time in this process, half of them of one namespace. Each reads a page, which is work for the store."""

WAITING = 16
"""Of one namespace, for their turn."""

TURN_SECONDS = 30.0
"""How long a preview waits for its turn. The time of its store is limited separately."""

ID = "preview"
"""Of a job whose body names none."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A job that does not exist yet."""

    job_id: str
    store: str
    spec: RollupJobSpec
    name: str = ""
    """Of the RollupJob that the body is."""
    manifest: Mapping[str, Any] | None = None
    """That RollupJob as it was sent; None: the body is a configuration."""


def proposal(root: Node, dialect: Dialect) -> Proposal:
    """Read a body. Raises ApiError 400 that names the field."""
    body = root.plain()
    if isinstance(body, dict) and "kind" in body:
        return proposal_of(body)
    new = new_job(root, ID, dialect)
    return Proposal(new.job_id, STORE, RollupJobSpec.model_validate(new.spec))


def proposal_of(body: Mapping[str, Any]) -> Proposal:
    """Read a RollupJob. Raises ApiError 400 that names the field."""
    if body["kind"] != "RollupJob" or body.get("apiVersion", API_VERSION) != API_VERSION:
        raise errors.illegal_argument(
            f"kind and apiVersion must be [RollupJob] and [{API_VERSION}]; leave out kind for a job configuration"
        )
    meta = body.get("metadata", {})
    name = meta.get("name", ID) if isinstance(meta, Mapping) else None
    if not isinstance(name, str) or not name:
        raise errors.illegal_argument("metadata.name must be a non-empty string, where it is given")
    if found := problems(body.get("spec")):
        raise errors.illegal_argument(with_unknown_fields("; ".join(map(str, found)), body.get("spec")))
    spec = RollupJobSpec.model_validate(body["spec"])
    return Proposal(spec.job_id or name, spec.store_ref.name, spec, name, {"apiVersion": API_VERSION, **body})


class Previews:
    """Previews jobs."""

    def __init__(self, client: Kubernetes, stores: Stores, now: Callable[[], datetime]) -> None:
        self._manifests, self._sources, self._now = ManifestChecks(client), SourceChecks(client, stores), now
        what = "Previews of this namespace take all of its turns"
        self._turns = Turns(what, Shares(AT_ONCE, waiting=WAITING), seconds=TURN_SECONDS)

    async def preview(self, namespace: str, job: Proposal) -> dict[str, Any]:
        """Return the answer. Raises ApiError."""
        span = due(job.spec, self._now()).fresh
        config = JobConfig(job.job_id, job.spec, Owner("", namespace, job.job_id, ""), "")
        of_manifest = job.manifest is not None
        async with self._turns.turn(namespace), within_limit(job.store):
            if job.manifest is not None:
                await self._manifests.check(namespace, job.name, job.manifest)
            store = await self._sources.open(namespace, job.store)
            await self._sources.check(store, job.store, job.spec, manifest=of_manifest)
            with source_errors_answered(job.store, job.spec, manifest=of_manifest):
                found = await store.preview(config, span, DOCUMENTS)
        return _answer(found, span)


def _answer(found: Preview, span: Span) -> dict[str, Any]:
    return {
        "preview": [{"_id": id_, "_source": source} for id_, source in found.documents],
        "estimate": {
            "source_documents": found.rows,
            "buckets": found.buckets,
            "pages": found.pages,
            "time_in_ms": round(found.seconds * 1000),
        },
        "source": {
            "columns": dict(found.columns),
            "csv": [
                {"delimiter": c.delimiter, "header": c.header, "columns": dict(c.columns)}
                | ({"time_format": c.time_format} if c.time_format is not None else {})
                for c in found.csv
            ],
        },
        "notes": list(found.notes),
        "range": {"gte": rfc3339_ms(span.start_ms) if span.start_ms else None, "lt": rfc3339_ms(span.end_ms)},
    }
