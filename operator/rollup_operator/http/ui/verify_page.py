"""Compares a job's documents with its source, repairs them, and has stretches of time rolled up again.

A script gets lines: how far it is, once a second, and at the end a part of the page. The work ends with the connection.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from rollup_operator.http.access.authentication import Route, namespace_of
from rollup_operator.http.access.permits import CALLER, PERMIT, EndpointAction, Permit
from rollup_operator.http.access.store_errors import discreet
from rollup_operator.http.api.repair import RepairProgress, RepairRun, Repairs
from rollup_operator.http.api.run import Runs
from rollup_operator.http.api.verify import Prepared, Verifications, VerifyRequest
from rollup_operator.http.jobs.lookup import Lookup
from rollup_operator.http.protocol import errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.ui import rendering
from rollup_operator.http.ui.guard import HEADERS, reason_of, takes_json
from rollup_operator.http.ui.job import can_run
from rollup_operator.http.ui.pages import ListPages
from rollup_operator.http.ui.rows import job_url, trail
from rollup_operator.http.ui.verified import (
    COMPARISONS,
    HEADS,
    LastFindings,
    SeenFindings,
    VerificationShown,
    fields_of,
)
from rollup_operator.http.verify_calls import LINES, WHOLE_SECONDS, in_lines
from rollup_operator.model.job_view import JobView
from rollup_operator.model.times import rfc3339_ms


@dataclass(frozen=True, slots=True)
class VerifyPage:
    """Each page reads its request and answers. All raise ApiError."""

    pages: ListPages
    lookup: Lookup
    runs: Runs
    verifications: Verifications
    repairs: Repairs
    last_findings: LastFindings

    def routes(self) -> Iterator[Route]:
        """Return the table of these pages."""
        path = "/ui/namespaces/{namespace}/jobs/{id:[^/]+}"
        yield Route("GET", f"{path}/verify", EndpointAction.VERIFY, self.show)
        yield Route("POST", f"{path}/verify", EndpointAction.VERIFY, self.verify)
        yield Route("POST", f"{path}/repair", EndpointAction.RUN, self.repair)
        yield Route("POST", f"{path}/again", EndpointAction.RUN, self.again)

    async def show(self, request: web.Request) -> web.Response:
        """Show the form."""
        job = await self._found(request)
        return await self._page(request, job, request.query, None)

    async def verify(self, request: web.Request) -> web.StreamResponse:
        """Compare, and show what was found."""
        job = await self._found(request)
        form = await self.pages.form(request)
        prepared = self._prepared(job, form)
        progress = RepairProgress()

        async def work() -> VerificationShown:
            async with discreet(request[PERMIT]):
                found = await self.verifications.verify(prepared, progress.verification)
            return await self._shown(request, prepared, found)

        return await self._answer(request, job, form, work, progress)

    async def repair(self, request: web.Request) -> web.StreamResponse:
        """Compare, let a run repair what was found, and compare once more."""
        job = await self._found(request)
        verifying = replace(request[PERMIT], action=EndpointAction.VERIFY)
        await verifying.require(request.match_info["id"], job)
        form = await self.pages.form(request)
        prepared = self._prepared(job, form)
        progress = RepairProgress()

        async def work() -> VerificationShown:
            async with discreet(verifying):
                found, repairs = await self.repairs.repair(prepared, request[PERMIT], progress)
            return await self._shown(request, prepared, found, *repairs)

        return await self._answer(request, job, form, work, progress)

    async def again(self, request: web.Request) -> web.Response:
        """Request a run that reads a stretch of time again."""
        job = await self._found(request)
        form = await self.pages.form(request)
        if not form.get("from", "").strip() or not form.get("to", "").strip():
            raise errors.illegal_argument("From and To must both be dates, as in 2024-01-31 or now-7d/d")
        span = self._prepared(job, form).span
        if span.empty:
            raise errors.illegal_argument("The job rolls up no bucket that begins in that time")
        await self.runs.run(job.namespace, job.job_id, request[PERMIT], [(span.start_ms, span.end_ms)], uid=job.uid)
        if takes_json(request):
            stretch = f"from {rfc3339_ms(span.start_ms)} to {rfc3339_ms(span.end_ms)}"
            message = f"A run is requested that rolls up again what is rolled up {stretch}."
            return web.json_response({"message": message})
        return web.Response(status=303, headers={"Location": f"{job_url(job.namespace, job.job_id)}?done=again"})

    async def _found(self, request: web.Request) -> JobView:
        return await self.lookup.existing(namespace_of(request), request.match_info["id"], request[PERMIT])

    def _prepared(self, job: JobView, form: Mapping[str, str]) -> Prepared:
        begin, end = (form.get(name, "").strip() or None for name in ("from", "to"))
        how = form.get("compare", "auto")
        if how not in COMPARISONS:
            raise errors.illegal_argument(f"[compare] must be one of [{', '.join(COMPARISONS)}]")
        fields = fields_of(job, form.get("fields", ""))
        return self.verifications.prepare(job, VerifyRequest(begin, end, fields, COMPARISONS[how][1]))

    async def _shown(
        self, request: web.Request, prepared: Prepared, found: Mapping[str, Any], *repairs: RepairRun
    ) -> VerificationShown:
        """Return what to show, and remember what the time line shows of it."""
        seen = SeenFindings.of(found, self.pages.now())
        self.last_findings.seen(request[CALLER].name, prepared.job, seen)
        try:
            may_repair = await self._may_run(request[PERMIT], prepared.job)
        except ApiError:
            may_repair = False  # nobody knows, and what took so long to find is shown all the same
        return VerificationShown.of(prepared.job, prepared.request, found, repairs, may_repair=may_repair)

    async def _answer(
        self, request: web.Request, job: JobView, form: Mapping[str, str], work: Any, progress: RepairProgress
    ) -> web.StreamResponse:
        if LINES in request.headers.get("Accept", ""):

            async def last_line() -> dict[str, Any]:
                shown = await work()
                return {"html": rendering.render("verify_result.html", shown=shown, heads=HEADS)}

            headers = {**HEADERS, "Cache-Control": "no-store"}
            return await in_lines(request, last_line(), lambda: _progress(progress), _failed, headers)
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                shown = await work()
        except TimeoutError as e:
            text = f"It took longer than {WHOLE_SECONDS:g}s and was ended; compare less at a time, or allow scripts"
            raise ApiError(504, "timeout_exception", text) from e
        return await self._page(request, job, form, shown)

    async def _page(
        self, request: web.Request, job: JobView, given: Mapping[str, str], shown: VerificationShown | None
    ) -> web.Response:
        values: dict[str, Any] = {
            "title": f"Verify {job.job_id}",
            **trail(job),
            "can_run": can_run(job),
            "given": given,
            "comparisons": COMPARISONS,
            "may": {"run": await self._may_run(request[PERMIT], job)},
            "shown": shown,
            "heads": HEADS,
        }
        return rendering.page("verify.html", **values, **self.pages.session(request))

    @staticmethod
    async def _may_run(permit: Permit, job: JobView) -> bool:
        return await permit.access.may(permit.caller, EndpointAction.RUN, job.namespace, job.name)


def _progress(progress: RepairProgress) -> dict[str, Any]:
    text, percent = progress.shown()
    return {"text": text, "percent": percent}


def _failed(error: ApiError) -> dict[str, Any]:
    return {"message": reason_of(error)}
