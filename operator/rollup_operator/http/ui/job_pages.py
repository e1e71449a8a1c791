"""The page of one job, and what can be done there. Each change is the API's own call, with the caller's own right."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from aiohttp import web

from rollup_operator.concurrency.background import side_by_side
from rollup_operator.explaining.explain import Seen
from rollup_operator.http.access.authentication import Route, namespace_of
from rollup_operator.http.access.permits import PERMIT, EndpointAction, Permit
from rollup_operator.http.api.run import Runs
from rollup_operator.http.api.start import Starts
from rollup_operator.http.api.stop import Stops, Wait
from rollup_operator.http.jobs.lookup import Lookup
from rollup_operator.http.jobs.request_context import ARRIVED, OWNED, Call, warnings
from rollup_operator.http.ports import Reads
from rollup_operator.http.protocol import errors, state_errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.ui import rendering
from rollup_operator.http.ui.events import Event, JobEvents, ShownEvent, shown_events
from rollup_operator.http.ui.guard import PART, takes_json
from rollup_operator.http.ui.job import JobShown, commands, definition, manifest
from rollup_operator.http.ui.pages import ListPages
from rollup_operator.http.ui.rows import job_url, namespace_url
from rollup_operator.http.ui.verified import COMPARISONS
from rollup_operator.kube.client import KubeError, NotFound
from rollup_operator.kube.paths import ApiPath, InvalidName, jobs_path, stores_path
from rollup_operator.model.job_view import JobView
from rollup_operator.model.time_values import parse_time_value

READ_SECONDS = 5.0
"""How long the API server may take."""

TIMEOUTS: Mapping[str, str] = {"10s": "10 seconds", "30s": "30 seconds", "1m": "1 minute", "5m": "5 minutes"}
"""How long somebody may choose to wait for a stop."""

OFFERED = (
    EndpointAction.START,
    EndpointAction.STOP,
    EndpointAction.RUN,
    EndpointAction.SEARCH,
    EndpointAction.VERIFY,
)
"""What a job's page offers to those who may do it."""

DONE: Mapping[str, str] = {
    "start": "Started: it runs at its next tick.",
    "stop": "Stopped: nothing of the job runs any more, and its position is saved.",
    "run": "A run is requested; it begins as soon as the store has a place for it.",
    "again": "A run is requested that rolls up the stretch again; it begins as soon as the store has a place for it.",
}


@dataclass(frozen=True, slots=True)
class JobPages:
    """Each page reads its request and answers. All raise ApiError."""

    pages: ListPages
    lookup: Lookup
    reads: Reads
    starts: Starts
    stops: Stops
    runs: Runs
    events: JobEvents
    managers: frozenset[str]
    """Field managers of GitOps, which set a job's desired state back."""

    def routes(self) -> Iterator[Route]:
        """Return the table of these pages."""
        path = "/ui/namespaces/{namespace}/jobs/{id:[^/]+}"
        yield Route("GET", path, EndpointAction.GET, self.show)
        yield Route("POST", f"{path}/start", EndpointAction.START, self.start)
        yield Route("POST", f"{path}/stop", EndpointAction.STOP, self.stop)
        yield Route("POST", f"{path}/run", EndpointAction.RUN, self.run)

    async def show(self, request: web.Request) -> web.Response:
        """Show a job."""
        permit, job = request[PERMIT], await self._found(request)
        part, now = request.query.get(PART), self.pages.now()
        if part == "events":
            if not await permit.may_list_events():
                reason = f"user [{permit.caller.name}] may not list the events of namespace [{permit.namespace}]"
                raise ApiError(403, "security_exception", reason)
            events = await self.events.about(job)
            return rendering.page("job_events.html", events=_shown(events, job, now), part=_part(request, "events"))
        async with side_by_side() as group:
            seeing = group.create_task(self._seen(job, permit))
            listing = group.create_task(self._events(job, permit))
            rights = group.create_task(self._rights(permit, job) if part != "live" else _nothing())
        seen = replace(seeing.result(), events=listing.result() or ())
        shown = JobShown.of(seen, now)
        if part == "live":
            return rendering.page("job_live.html", job=shown, part=_part(request, "live"))
        view = shown.view
        values: dict[str, Any] = {
            "title": view.job_id,
            "job": shown,
            "part": _part(request, "live"),
            "events": _shown(listing.result(), view, now),
            "events_part": _part(request, "events"),
            "given": {},
            "comparisons": COMPARISONS,
            "url": job_url(view.namespace, view.job_id),
            "list_url": namespace_url(view.namespace),
            "may": rights.result(),
            "done": _done(request.query.get("done", ""), shown),
            "timeouts": TIMEOUTS,
            "definition": definition(view),
            "commands": commands(view),
            "manifest": await asyncio.to_thread(manifest, seen.body),
        }
        return rendering.page("job.html", **values, **self.pages.session(request))

    async def start(self, request: web.Request) -> web.Response:
        """Start the job."""
        namespace, job_id = namespace_of(request), request.match_info["id"]

        async def act(_: Mapping[str, str]) -> None:
            await self.starts.start(namespace, job_id, self._call(request, f"start {job_id}"))

        return await self._change(request, "start", act)

    async def stop(self, request: web.Request) -> web.Response:
        """Stop the job, and wait until it is quiet."""
        namespace, job_id = namespace_of(request), request.match_info["id"]

        async def act(form: Mapping[str, str]) -> None:
            timeout = form.get("timeout", "30s")
            if timeout not in TIMEOUTS:
                raise errors.illegal_argument(f"[timeout] must be one of [{', '.join(TIMEOUTS)}]")
            wait = Wait.of(parse_time_value(timeout, "timeout"), request[ARRIVED])
            call = self._call(request, f"stop {job_id} within {timeout}")
            await self.stops.stop(namespace, job_id, wait, call)

        return await self._change(request, "stop", act)

    async def run(self, request: web.Request) -> web.Response:
        """Request a run now."""
        namespace, job_id = namespace_of(request), request.match_info["id"]

        async def act(_: Mapping[str, str]) -> None:
            await self.runs.run(namespace, job_id, request[PERMIT])

        return await self._change(request, "run", act)

    async def _change(
        self, request: web.Request, verb: str, act: Callable[[Mapping[str, str]], Awaitable[None]]
    ) -> web.Response:
        """Read the form once the caller has the right to the job, act, and say what became of it."""
        job = await self._found(request)
        await act(await self.pages.form(request))
        owned: dict[str, list[str]] = request[OWNED]
        warned = warnings(owned)
        if takes_json(request):
            return web.json_response({"message": " ".join([DONE[verb], *warned])})
        return web.Response(status=303, headers={"Location": f"{job_url(job.namespace, job.job_id)}?done={verb}"})

    async def _found(self, request: web.Request) -> JobView:
        return await self.lookup.existing(namespace_of(request), request.match_info["id"], request[PERMIT])

    @staticmethod
    def _call(request: web.Request, text: str) -> Call:
        return Call(text, request[PERMIT], request[OWNED])

    async def _rights(self, permit: Permit, job: JobView) -> Mapping[str, bool]:
        """Return what the caller may do to the job."""
        async with side_by_side() as group:
            asked = {
                action.value: group.create_task(permit.access.may(permit.caller, action, job.namespace, job.name))
                for action in OFFERED
            }
            asked["events"] = group.create_task(permit.may_list_events())
        return {action: review.result() for action, review in asked.items()}

    async def _events(self, job: JobView, permit: Permit) -> Sequence[Event] | None:
        """Return the events about the job; None where the caller may not list them, or nobody can."""
        return await self.events.about(job) if await permit.may_list_events() else None

    async def _seen(self, job: JobView, permit: Permit) -> Seen:
        """Return the job as it is now, with its store, as far as the caller may read that. Raises ApiError 404, 503."""
        async with side_by_side() as group:
            reading = group.create_task(self._read(jobs_path(job.namespace, job.name)))
            reviewing = group.create_task(permit.may_read_stores())
        body = reading.result()
        if body is None or body["metadata"]["uid"] != job.uid:
            raise state_errors.job_not_found(job.job_id)
        if not reviewing.result():
            return Seen(body, store_known=False, managers=self.managers)
        try:
            store = await self._read(stores_path(job.namespace, JobView.of(body).store_name))
        except (ApiError, InvalidName):
            return Seen(body, store_known=False, managers=self.managers)
        return Seen(body, store, managers=self.managers)

    async def _read(self, path: ApiPath) -> Mapping[str, Any] | None:
        """Read an object; None: there is none. Raises ApiError 503."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self.reads.get(path)
        except NotFound:
            return None
        except (KubeError, TimeoutError) as e:
            raise errors.unavailable(f"The API server does not answer: {errors.said(e)}") from e


def _done(verb: str, shown: JobShown) -> str:
    """Say what was done, as long as it is so: anybody may make a link that claims it."""
    so = {"start": not shown.can_start, "stop": not shown.can_stop, "run": shown.can_run, "again": shown.can_run}
    return DONE[verb] if so.get(verb) else ""


def _part(request: web.Request, part: str) -> str:
    return f"{request.rel_url.raw_path}?{PART}={part}"


def _shown(events: Sequence[Event] | None, job: JobView, now: datetime) -> Sequence[ShownEvent] | None:
    return None if events is None else shown_events(events, job, now)


async def _nothing() -> Mapping[str, bool]:
    return {}
