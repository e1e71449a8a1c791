"""The verify call: compares what a job has rolled up with its source. It writes nothing and makes no claim.

It ends with its caller's connection, with a stop of the job that is requested meanwhile, and with the job's deletion.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from pydantic import ValidationError

from rollup_operator.concurrency.background import dropped
from rollup_operator.http.access import store_errors
from rollup_operator.http.job_config.source_check import SourceChecks
from rollup_operator.http.ports import Jobs, Kubernetes, Stores
from rollup_operator.http.protocol import errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.protocol.turns import Turns
from rollup_operator.indexer.verify import Verified, Verifier, VerifyProgress
from rollup_operator.lifecycle.jobs.run_task import config_hash
from rollup_operator.model.job import DesiredState, RollupJobSpec
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import shortened
from rollup_operator.model.time_values import epoch_ms
from rollup_operator.model.times import rfc3339_ms
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.times.dates import instant_of
from rollup_operator.rollup.bounds import Bounds, Span
from rollup_operator.rollup.comparison import Finding, Kind
from rollup_operator.rollup.documents import Layout, document_id, is_ambiguous, scheme_2_id
from rollup_operator.rollup.due import due
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.sharing.shares import Shares
from rollup_operator.stores.errors import ForbiddenSource, SourceInvalid, SourceNotFound, StoreError

AT_ONCE = 4
"""Verifications at a time in this process, half of them of one namespace. Each reads a source, page by page."""

WAITING = 16
"""Of one namespace, for their turn."""

TURN_SECONDS = 30.0
"""How long a verification waits for its turn."""

DATES, LONGEST_DATE = "2024-01-31 or now-7d/d", 60
"""Examples of dates, and how much of another text is quoted."""

MOST_DAYS = 1_000
"""Days with findings that an answer lists."""


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What to compare, as a body says it."""

    begin: str | int | None = None
    end: str | int | None = None
    fields: Sequence[str] | None = None
    full: bool | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "VerifyRequest":
        """Read a body. Raises ApiError 400 that names the field."""
        known = {"from", "to", "fields", "full"}
        if unknown := sorted(body.keys() - known):
            raise errors.illegal_argument(f"unknown field [{unknown[0]}]: use one of {', '.join(sorted(known))}")
        for name in ("from", "to"):
            if isinstance(body.get(name), bool) or not isinstance(body.get(name), str | int | None):
                raise errors.illegal_argument(f"[{name}] must be a date, as in {DATES}")
        fields, full = body.get("fields"), body.get("full")
        if fields is not None and not (
            isinstance(fields, list) and fields and all(isinstance(name, str) for name in fields)
        ):
            raise errors.illegal_argument("[fields] must be a list of names of fields")
        if not isinstance(full, bool | None):
            raise errors.illegal_argument("[full] must be true or false")
        return cls(body.get("from"), body.get("to"), fields, full)

    def span(self, spec: RollupJobSpec, now: datetime) -> Span:
        """Return the buckets that begin in the time asked for and that the job covers. Raises ApiError 400."""
        group, covered = spec.groups.date_histogram, due(spec, now).fresh
        today = epoch_ms(now)

        def instant(name: str, at: str | int | None) -> int | None:
            try:
                return None if at is None else instant_of(at, None, group.time_zone, today)
            except SearchRefused as e:
                text = shortened(str(at), LONGEST_DATE)
                raise errors.illegal_argument(f"[{name}] must be a date, as in {DATES}, and not [{text}]") from e

        begin, end = instant("from", self.begin), instant("to", self.end)
        if begin is not None and end is not None and begin >= end:
            raise errors.illegal_argument(f"[from] [{self.begin}] is not before [to] [{self.end}]")
        bounds = Bounds.of(group)
        earliest = bounds.round_down(0)
        first, last = (
            limit if at is None else bounds.next_edge(max(earliest, min(at, today)) - 1)
            for at, limit in ((begin, covered.start_ms), (end, covered.end_ms))
        )
        first, last = max(first, covered.start_ms), min(last, covered.end_ms)
        return Span(first, max(first, last))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A verification that can begin."""

    job: JobView
    spec: RollupJobSpec
    span: Span
    request: VerifyRequest


class Verifications:
    """Verifies jobs. `cluster` is the name of this one."""

    def __init__(
        self, jobs: Jobs, client: Kubernetes, stores: Stores, cluster: str, now: Callable[[], datetime]
    ) -> None:
        self._jobs, self._sources, self._cluster, self._now = jobs, SourceChecks(client, stores), cluster, now
        self._turns = Turns(
            "Verifications of this namespace take all of its turns",
            Shares(AT_ONCE, waiting=WAITING),
            seconds=TURN_SECONDS,
        )

    def prepare(self, job: JobView, request: VerifyRequest) -> Prepared:
        """Check that the job can be verified as requested. Raises ApiError 400."""
        try:
            spec = job.spec()
            span = request.span(spec, self._now())
        except (ValidationError, ValueError) as e:
            why = "its spec cannot be read: kubectl rollup explain says why"
            raise errors.illegal_argument(f"Rollup job [{job.job_id}] cannot be verified: {why}") from e
        metrics = {m.field for m in spec.metrics}
        for name in request.fields or ():
            if name not in metrics:
                known = ", ".join(f"[{field}]" for field in sorted(metrics)) or "none"
                raise errors.illegal_argument(f"[fields]: the job has no metrics of [{name}]; it has those of {known}")
        return Prepared(job, spec, span, request)

    async def verify(self, prepared: Prepared, progress: VerifyProgress) -> dict[str, Any]:
        """Return the answer; `progress` is filled meanwhile.

        Raises ApiError; StoreTrouble; 409 if the job is stopped or deleted meanwhile.
        """
        progress.doing = "waiting for a turn"
        return await self._until_stopped(prepared.job, self._in_turn(prepared, progress))

    async def _in_turn(self, prepared: Prepared, progress: VerifyProgress) -> dict[str, Any]:
        async with self._turns.turn(prepared.job.namespace):
            return await self._verify(prepared, progress)

    async def _verify(self, prepared: Prepared, progress: VerifyProgress) -> dict[str, Any]:
        job, spec = prepared.job, prepared.spec
        began = asyncio.get_running_loop().time()
        store = await self._sources.open(job.namespace, job.store_name)
        owner = Owner(self._cluster, job.namespace, job.name, job.uid)
        config = JobConfig(job.job_id, spec, owner, config_hash(spec))

        verifier = Verifier(
            spec.groups.date_histogram, lambda: store.verification(config, prepared.request.fields), progress
        )
        with _errors_answered(job):
            found = await verifier.verify(prepared.span, full=prepared.request.full)
        took = round((asyncio.get_running_loop().time() - began) * 1000)
        return {"took": took, "job": job.job_id, **answer_of(found)}

    async def _until_stopped(self, job: JobView, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        """Do the work, and end it if the job is stopped or deleted meanwhile: `stopped` means that nothing is read.

        A job that was stopped before is not kept from being shown so.
        """
        over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        desired, reading = job.desired, ExitStack()
        if desired is DesiredState.STARTED:
            reading.enter_context(self._jobs.reading(job.uid))

        def hear(view: JobView | None) -> None:
            nonlocal desired
            why = None
            if view is None or view.deleting:
                why = "deleted"
            elif view.desired is DesiredState.STOPPED and desired is DesiredState.STARTED:
                why = "stopped"
            if view is not None:
                if view.desired is DesiredState.STARTED is not desired:
                    reading.enter_context(self._jobs.reading(job.uid))
                desired = view.desired
            if why is not None and not over.done():
                over.set_result(why)

        unsubscribe = self._jobs.subscribe(job.uid, hear)
        newest = self._jobs.find(job.namespace, job.job_id)
        if self._jobs.is_gone(job):
            hear(None)
        elif newest is not None and newest.uid == job.uid and newest.age > job.age:
            hear(newest)  # it has changed since it was looked up
        task = asyncio.ensure_future(work)
        with reading:
            try:
                if not over.done():
                    either: set[asyncio.Future[Any]] = {task, over}
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                unsubscribe()
                await dropped(task)
        if task.cancelled():
            reason = f"Rollup job [{job.job_id}] was {over.result()} while it was verified; verify it again"
            raise ApiError(409, "status_exception", reason)
        return task.result()


@contextmanager
def _errors_answered(job: JobView) -> Iterator[None]:
    """Turn errors of a store into answers: ApiError for a problem of the job's source, else StoreTrouble."""
    try:
        yield
    except (SourceNotFound, SourceInvalid, ForbiddenSource) as e:
        raise errors.illegal_argument(f"Rollup job [{job.job_id}] cannot be verified: {e}") from e
    except StoreError as e:
        trouble = store_errors.unavailable if e.transient else store_errors.unsuitable
        raise trouble(f"RollupStore [{job.store_name}]: {e}") from e


def answer_of(found: Verified) -> dict[str, Any]:
    """Return what a verification has found, as JSON."""
    findings, counts = found.findings, {day.start_ms: (day, count) for day, count in found.days}
    kinds = {} if findings is None else findings.kinds
    layout = findings.judge.layout if findings is not None else None
    days = [] if findings is None else sorted(findings.days)
    return {
        "verified": not kinds,
        "range": _range(found.extent.span),
        "rolled_up_to": rfc3339_ms(found.extent.rolled_up_to_ms) if found.extent.rolled_up_to_ms else None,
        "full": found.full,
        "source_documents": found.extent.rows,
        "days": {"total": len(found.days), "compared": len(found.compared), "with_findings": len(days)},
        "buckets": {"compared": found.buckets, **{kind.value: kinds.get(kind, 0) for kind in Kind}},
        "by_day": [
            {
                **_range(counts[day][0]),
                "source_documents": counts[day][1].rows,
                "rolled_up_documents": counts[day][1].stored,
                **{kind.value: findings.days[day].get(kind, 0) for kind in Kind},
            }
            for day in islice(days, MOST_DAYS)
            if findings is not None
        ],
        "examples": [_example(layout, one) for one in findings.examples] if findings and layout else [],
        "notes": list(found.extent.notes),
    }


def _range(span: Span) -> dict[str, str | None]:
    if span.empty:
        return {"gte": None, "lt": None}
    return {"gte": rfc3339_ms(span.start_ms), "lt": rfc3339_ms(span.end_ms)}


def _example(layout: Layout, finding: Finding) -> dict[str, Any]:
    names = layout.group_keys()
    time, *others = finding.key
    assert isinstance(time, int)
    keys = list(zip(names, finding.key, strict=True))
    is_older = finding.kind is Kind.DUPLICATE and any(map(is_ambiguous, others))
    return {
        "kind": finding.kind.value,
        "_id": document_id(layout.job_id, keys),
        **({"older_id": scheme_2_id(layout.job_id, keys)} if is_older else {}),
        "key": {names[0]: rfc3339_ms(time), **dict(zip(names[1:], others, strict=True))},
        "fields": [{"field": d.field, "stored": d.stored, "recomputed": d.recomputed} for d in finding.differences],
    }
