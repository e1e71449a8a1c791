"""A form that writes the manifest of a new job, and shows what the job would do. Nothing is created.

Who sees it may create jobs in the namespace: a preview shows a part of the source's data.
"""

import asyncio
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import web

from rollup_operator.explaining.buckets import buckets_of, table
from rollup_operator.explaining.text import spoken
from rollup_operator.http.access.authentication import Route, namespace_of
from rollup_operator.http.access.permits import PERMIT, EndpointAction
from rollup_operator.http.access.store_errors import discreet
from rollup_operator.http.api.preview import Previews, proposal_of
from rollup_operator.http.protocol import job_errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.ui import rendering
from rollup_operator.http.ui.forms import listed
from rollup_operator.http.ui.guard import reason_of
from rollup_operator.http.ui.job import Figure, as_yaml
from rollup_operator.http.ui.pages import ListPages
from rollup_operator.http.ui.rows import namespace_url, new_job_url
from rollup_operator.model.base import API_VERSION
from rollup_operator.model.counts import counted
from rollup_operator.model.schedule_words import schedule_in_words
from rollup_operator.model.status import shortened

CALENDAR = ("minute", "hour", "day", "week", "month", "quarter", "year")

LONGEST_DOCUMENT, LONGEST_COLUMN, MOST_DOCUMENTS, MOST_COLUMNS = 2_000, 200, 5, 60
"""Characters of a document and of a column, documents and columns that are shown: a page stays below 100 kB."""

LONGEST_CELL, MOST_BUCKETS, MOST_HEADS = 60, 10, 20
"""The same of the table: characters of a cell, rows, and columns."""

EMPTY: Mapping[str, str] = {"cron": "0 0 * * * ?", "interval": "1h", "store": "default"}
"""What the form proposes."""


@dataclass(frozen=True, slots=True)
class PreviewShown:
    """A preview, for people."""

    figures: Sequence[Figure]
    notes: Sequence[str]
    columns: Sequence[str]
    heads: Sequence[str]
    """Of the table of the first buckets."""
    buckets: Sequence[Sequence[str]]
    documents: Sequence[str]
    """As they are stored."""

    @classmethod
    def of(cls, found: Mapping[str, Any], spec: Mapping[str, Any]) -> "PreviewShown":
        """Read an answer of the preview call for a job with this spec."""
        estimate, bounds, source = found["estimate"], found["range"], found["source"]
        pages, took = counted(estimate["pages"], "page"), spoken(estimate["time_in_ms"] / 1000)
        columns = [*source["columns"].items(), *chain.from_iterable(csv["columns"].items() for csv in source["csv"])]
        sources = [each["_source"] for each in found["preview"]]
        heads, buckets = table(buckets_of(spec, sources[:MOST_BUCKETS])) if sources else ([], [])
        left, written = len(columns) - MOST_COLUMNS, [_column(*each) for each in columns[:MOST_COLUMNS]]
        return cls(
            figures=[
                Figure("Source", counted(estimate["source_documents"], "document")),
                Figure("Would write", f"about {counted(estimate['buckets'], 'document')}", f"in {pages} and {took}"),
                Figure("Range", f"{bounds['gte'] or 'the beginning'} to {bounds['lt']}"),
            ],
            notes=found["notes"],
            columns=written + ([f"and {left:,} more"] if left > 0 else []),
            heads=_cells(heads),
            buckets=[_cells(row) for row in buckets],
            documents=[_written(source) for source in sources[:MOST_DOCUMENTS]],
        )


@dataclass(frozen=True, slots=True)
class NewJobPage:
    """Each page reads its request and answers. All raise ApiError."""

    pages: ListPages
    previews: Previews

    def routes(self) -> Iterator[Route]:
        """Return the table of these pages."""
        path = "/ui/namespaces/{namespace}/new-job"
        yield Route("GET", path, EndpointAction.GET, self.show, right=EndpointAction.CREATE)
        yield Route("POST", path, EndpointAction.GET, self.preview, right=EndpointAction.CREATE)

    async def show(self, request: web.Request) -> web.Response:
        """Show the form."""
        await self._require(request)
        return self._page(request, EMPTY)

    async def preview(self, request: web.Request) -> web.Response:
        """Show the manifest, and what the job would do."""
        permit = request[PERMIT]
        await self._require(request)
        given = await self.pages.form(request)
        namespace = namespace_of(request)
        body = manifest_of(given, namespace)
        values: dict[str, Any] = {
            "manifest": await asyncio.to_thread(as_yaml, body),
            "commands": commands(body, namespace),
            "schedule": schedule_in_words(given.get("cron", "")),
        }
        try:
            async with discreet(permit):
                found = await self.previews.preview(namespace, proposal_of(body))
        except ApiError as e:
            # The form stays: something else may be answered.
            return self._page(request, given, status=e.status, problem=reason_of(e), **values)
        return self._page(request, given, shown=PreviewShown.of(found, body["spec"]), **values)

    async def _require(self, request: web.Request) -> None:
        await request[PERMIT].require_all()
        namespace = namespace_of(request)
        if not self.pages.states.covers(namespace):
            raise job_errors.no_such_namespace(namespace)

    def _page(self, request: web.Request, given: Mapping[str, str], *, status: int = 200, **more: Any) -> web.Response:
        namespace = namespace_of(request)
        values: dict[str, Any] = {
            "title": "New job",
            "namespace": namespace,
            "url": new_job_url(namespace),
            "list_url": namespace_url(namespace),
            "given": given,
            "calendar": CALENDAR,
            "manifest": "",
            "problem": "",
            "shown": None,
        }
        return rendering.page("new_job.html", status=status, **values | more, **self.pages.session(request))


def manifest_of(given: Mapping[str, str], namespace: str) -> dict[str, Any]:
    """Return the RollupJob that a form describes. What is wrong with it is found by who takes it. Pure."""
    filled = {name: text.strip() for name, text in given.items() if text.strip()}
    kind = "calendarInterval" if filled.get("interval") in CALENDAR else "fixedInterval"
    date = {"field": "date_field", kind: "interval", "timeZone": "time_zone", "delay": "delay"}
    groups: dict[str, Any] = {"dateHistogram": {key: filled[name] for key, name in date.items() if name in filled}}
    if terms := listed(filled.get("terms", "")):
        groups["terms"] = {"fields": terms}
    names = {"indexPattern": "index_pattern", "rollupIndex": "rollup_index", "cron": "cron"}
    spec: dict[str, Any] = {key: filled[name] for key, name in names.items() if name in filled}
    if filled.get("store", "default") != "default":
        spec["storeRef"] = {"name": filled["store"]}
    spec["groups"] = groups
    if metrics := [_metric(line) for line in filled.get("metrics", "").splitlines() if line.strip()]:
        spec["metrics"] = metrics
    spec |= {name: filled[name] for name in ("start", "end", "lookback") if name in filled}
    if "started" in filled:
        spec["desiredState"] = "started"
    meta = {"name": filled.get("name", ""), "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": "RollupJob", "metadata": meta, "spec": spec}


def commands(body: Mapping[str, Any], namespace: str) -> Sequence[tuple[str, str]]:
    """Return what to type with a manifest: what it does, and the line."""
    path = f"/namespaces/{quote(namespace, safe='')}/_rollup/job/_preview"
    sent = f"-H 'Content-Type: application/json' -d {shlex.quote(orjson.dumps(body).decode())}"
    return [
        ("Create the job", "kubectl apply -f job.yaml"),
        ("Preview it in a terminal", f"kubectl rollup preview -f job.yaml -n {shlex.quote(namespace)}"),
        (
            "Preview it by the HTTP API",
            f'curl -X POST -H "Authorization: Bearer $ROLLUP_TOKEN" {sent} "$ROLLUP_URL"{shlex.quote(path)}',
        ),
    ]


def _metric(line: str) -> dict[str, Any]:
    """Read `field: kind, kind`; the name of a field may have colons."""
    field, _, kinds = line.rpartition(":")
    return {"field": field.strip(), "metrics": listed(kinds)}


def _column(name: str, type_: str) -> str:
    return shortened(f"{name} {type_}", LONGEST_COLUMN)


def _cells(texts: Sequence[str]) -> list[str]:
    return [shortened(text, LONGEST_CELL) for text in texts[:MOST_HEADS]]


def _written(source: Any) -> str:
    return shortened(orjson.dumps(source, option=orjson.OPT_INDENT_2).decode(), LONGEST_DOCUMENT)
