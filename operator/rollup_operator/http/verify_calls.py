"""The verify call's request and answer: one JSON object, or lines of JSON with progress and the result at the end."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from rollup_operator.concurrency.background import dropped, spawn
from rollup_operator.http.access.authentication import namespace_of
from rollup_operator.http.access.bodies import Bodies, json_object
from rollup_operator.http.access.permits import PERMIT, Permit
from rollup_operator.http.access.store_errors import discreet
from rollup_operator.http.api.verify import Prepared, Verifications, VerifyRequest
from rollup_operator.http.jobs.lookup import Lookup
from rollup_operator.http.protocol import answers, state_errors
from rollup_operator.http.protocol.answers import PRODUCT, Form
from rollup_operator.http.protocol.dialects import Dialect
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.protocol.parameters import Parameters
from rollup_operator.indexer.verify import VerifyProgress

LINES = "application/x-ndjson"

LINE_SECONDS = 1.0
"""Between two lines of progress: they also keep proxies from taking a long answer for a dead one."""

WHOLE_SECONDS = 50.0
"""How long a verification may take whose answer is one JSON object: proxies often end a silent call after 60 s."""


@dataclass(frozen=True, slots=True)
class VerifyCalls:
    """Reads the request, has the work done, and answers."""

    dialect: Dialect
    bodies: Bodies
    lookup: Lookup
    verifications: Verifications

    async def verify(self, request: web.Request) -> web.StreamResponse:
        """Compare what is rolled up of a job with its source. Raises ApiError."""
        parameters = Parameters(request, self.dialect)
        in_lines = parameters.boolean("progress", False)
        form = Form.wanted(request, parameters)
        parameters.finish()
        job_id, permit = request.match_info["id"], request[PERMIT]
        job = await self.lookup.find(namespace_of(request), job_id, permit)
        asked = await self.bodies.read(request, lambda data: VerifyRequest.of(json_object(data)), needed=False)
        if job is None:
            raise state_errors.job_not_found(job_id)
        prepared = self.verifications.prepare(job, asked)
        if in_lines:
            return await self._in_lines(request, prepared, permit)
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                found = await self._verified(prepared, VerifyProgress(), permit)
        except TimeoutError as e:
            text = f"The verification was ended: it took longer than {WHOLE_SECONDS:g}s"
            raise ApiError(504, "timeout_exception", f"{text}; ask for less, or with [progress=true]") from e
        return await answers.answer(found, form)

    async def _verified(self, prepared: Prepared, progress: VerifyProgress, permit: Permit) -> dict[str, Any]:
        async with discreet(permit):
            return await self.verifications.verify(prepared, progress)

    async def _in_lines(self, request: web.Request, prepared: Prepared, permit: Permit) -> web.StreamResponse:
        progress = VerifyProgress()

        async def work() -> dict[str, Any]:
            return {"result": await self._verified(prepared, progress, permit)}

        return await in_lines(request, work(), lambda: _progress(progress), ApiError.envelope, PRODUCT)


async def in_lines(
    request: web.Request,
    work: Coroutine[Any, Any, dict[str, Any]],
    progress: Callable[[], dict[str, Any]],
    failed: Callable[[ApiError], dict[str, Any]],
    headers: Mapping[str, str],
) -> web.StreamResponse:
    """Answer in lines: those of progress, then the one that the work returns, or that says how it has failed.

    The work ends with the connection. What fails before the first line is raised.
    """
    task = spawn("verification", _outcome(work), follows="the call ends")
    response = web.StreamResponse(headers={**headers, "Content-Type": LINES, "X-Accel-Buffering": "no"})
    try:
        while not (await asyncio.wait({task}, timeout=LINE_SECONDS))[0]:
            if not response.prepared:
                await response.prepare(request)
            await response.write(_line({"progress": progress()}))
        outcome = task.result()
        if isinstance(outcome, ApiError) and not response.prepared:
            raise outcome
        if not response.prepared:
            await response.prepare(request)
        await response.write(_line(failed(outcome) if isinstance(outcome, ApiError) else outcome))
        await response.write_eof()
    finally:
        await dropped(task)
    return response


async def _outcome(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any] | ApiError:
    """Return the answer, or the error to answer with."""
    try:
        return await work
    except ApiError as e:
        return e


def _progress(progress: VerifyProgress) -> dict[str, Any]:
    return {
        "doing": progress.doing,
        "percent": progress.percent,
        "days": progress.days,
        "buckets": progress.buckets,
        "findings": progress.findings,
    }


def _line(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document) + b"\n"
