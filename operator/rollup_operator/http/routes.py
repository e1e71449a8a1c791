"""The table of all routes, and what each call reads of its request.

A call is known by its route before anything is read of it: the table says what it does to jobs, so that the caller's
rights, the audit log and telemetry need not ask.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from rollup_operator.concurrency.portions import in_portions
from rollup_operator.http.access import store_errors
from rollup_operator.http.access.authentication import ROUTES, Route, namespace_of
from rollup_operator.http.access.bodies import Bodies
from rollup_operator.http.access.permits import PERMIT, EndpointAction
from rollup_operator.http.access.store_errors import discreet
from rollup_operator.http.api.about import usage, version_information
from rollup_operator.http.api.capabilities import EVERYTHING, Described, by_index, by_pattern
from rollup_operator.http.api.create import STORE, Creations
from rollup_operator.http.api.delete import Deletions, unfinished
from rollup_operator.http.api.every_store import Answers
from rollup_operator.http.api.preview import Previews, proposal
from rollup_operator.http.api.purge import PurgedPlace, Purges
from rollup_operator.http.api.rolled_up import RolledUp
from rollup_operator.http.api.start import Starts
from rollup_operator.http.api.stop import Stops, Wait
from rollup_operator.http.job_config.rules import new_job
from rollup_operator.http.jobs.desired_state import DesiredStates
from rollup_operator.http.jobs.lookup import Lookup
from rollup_operator.http.jobs.newest import Newest
from rollup_operator.http.jobs.presentation import present
from rollup_operator.http.jobs.request_context import ARRIVED, OWNED, Call
from rollup_operator.http.protocol import answers, job_errors
from rollup_operator.http.protocol.answers import Form
from rollup_operator.http.protocol.dialects import Dialect
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.protocol.parameters import Parameters
from rollup_operator.http.search_calls import SearchCalls
from rollup_operator.http.verify_calls import VerifyCalls

DEFAULT_TIMEOUT = "30s"
"""The parameters of a stop that waits."""

SPACES = ("", "/namespaces/{namespace}")
"""The prefixes of all paths: of the default namespace, and of any other."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Each call reads its request, passes it to one of these, and answers. All raise ApiError."""

    dialect: Dialect
    cluster: str
    """The name of this cluster."""
    bodies: Bodies
    lookup: Lookup
    newest: Newest
    states: DesiredStates
    stops: Stops
    starts: Starts
    creations: Creations
    previews: Previews
    deletions: Deletions
    purges: Purges
    rolled_up: RolledUp
    searching: SearchCalls
    verifying: VerifyCalls

    def routes(self) -> Iterator[Route]:
        """Return the table."""
        # A part of a path may be anything but a slash; aiohttp's own pattern leaves out braces.
        job_id, index = "{id:[^/]+}", "{index:[^/]+}"
        yield Route("GET", "", EndpointAction.GET, self.version)
        yield Route("GET", "/_xpack/usage", EndpointAction.GET, self.usage)
        for base in ("/_rollup", "/_xpack/rollup"):
            jobs, data = f"{base}/job", f"{base}/data"
            yield Route("GET", jobs, EndpointAction.GET, self.get)
            yield Route("GET", f"{jobs}/{job_id}", EndpointAction.GET, self.get)
            yield Route("PUT", f"{jobs}/{job_id}", EndpointAction.CREATE, self.create)
            yield Route("DELETE", f"{jobs}/{job_id}", EndpointAction.DELETE, self.delete)
            # Whoever may create a job can have the source's data rolled up for him, so he may see a part of that.
            yield Route("POST", f"{jobs}/_preview", EndpointAction.GET, self.preview, right=EndpointAction.CREATE)
            documents, purge = f"{base}/documents/{index}/{job_id}", EndpointAction.PURGE
            yield Route("GET", documents, EndpointAction.GET, self.documents, right=purge)
            yield Route("DELETE", documents, purge, self.purge)
            yield Route("POST", f"{jobs}/{job_id}/_stop", EndpointAction.STOP, self.stop)
            yield Route("POST", f"{jobs}/{job_id}/_start", EndpointAction.START, self.start)
            yield Route("POST", f"{jobs}/{job_id}/_verify", EndpointAction.VERIFY, self.verifying.verify)
            yield Route("GET", data, EndpointAction.GET, self.capabilities)
            yield Route("GET", f"{data}/{job_id}", EndpointAction.GET, self.capabilities)
            yield Route("GET", f"/{index}{data}", EndpointAction.GET, self.index_capabilities)
        yield from self._searches()

    def _searches(self) -> Iterator[Route]:
        """Return the rows of the calls that search, and of those that clients make before."""
        search, calls = EndpointAction.SEARCH, self.searching
        index = "/{index:_all|[^/_][^/]*}"
        for method in ("GET", "POST"):
            for of in ("", index):
                yield Route(method, f"{of}/_search", search, calls.search)
                yield Route(method, f"{of}/_msearch", search, calls.msearch)
            yield Route(method, f"{index}/_rollup_search", search, calls.rollup_search)
            yield Route(method, f"{index}/_field_caps", search, calls.field_caps)
        yield Route("GET", f"{index}/_mapping", search, calls.mapping)
        yield Route("GET", f"{index}/_mapping/field/{{field:[^/]+}}", search, calls.field_mapping)
        yield Route("GET", "/_cluster/health", search, calls.health)
        yield Route("POST", "/_query", search, calls.query)

    async def stop(self, request: web.Request) -> web.Response:
        """Stop a job, or all; wait for it if requested."""
        parameters = Parameters(request, self.dialect)
        waits = parameters.boolean("wait_for_completion", False)
        timeout = parameters.time("timeout", DEFAULT_TIMEOUT)
        form = Form.wanted(request, parameters)
        parameters.finish()
        await self.bodies.refuse(request)
        wait = Wait.of(timeout, request[ARRIVED]) if waits else None
        namespace, job_id = _addressed(request)
        whom = "_all" if job_id in EVERYTHING else job_id
        text = f"stop {whom}" + (f" within {timeout.text}" if waits else "")
        call = Call(text, request[PERMIT], request[OWNED])
        if job_id in EVERYTHING:
            await self.stops.stop_all(namespace, wait, call)
        else:
            await self.stops.stop(namespace, job_id, wait, call)
        return await answers.answer({"stopped": True}, form)

    async def start(self, request: web.Request) -> web.Response:
        """Start a job, or all."""
        form = await self._plain(request)
        namespace, job_id = _addressed(request)
        text = f"start {'_all' if job_id in EVERYTHING else job_id}"
        call = Call(text, request[PERMIT], request[OWNED])
        if job_id in EVERYTHING:
            await self.starts.start_all(namespace, call)
        else:
            await self.starts.start(namespace, job_id, call)
        return await answers.answer({"started": True}, form)

    async def get(self, request: web.Request) -> web.Response:
        """Show a job, or all."""
        form = await self._plain(request)
        namespace, job_id = _addressed(request)
        permit = request[PERMIT]
        if job_id in EVERYTHING:
            found = await self.newest.all(namespace, permit)
        else:
            job = await self.lookup.find(namespace, job_id, permit)
            if job is not None:
                job = await self.newest.one(job, permit)
            found = [] if job is None else [job]
        return await answers.answer({"jobs": map(partial(present, dialect=self.dialect), found)}, form)

    async def create(self, request: web.Request) -> web.Response:
        """Create a job."""
        form = await self._plain(request, body=True)
        namespace, path_id = _addressed(request)
        permit = request[PERMIT]
        known = await self.lookup.find(namespace, path_id, permit)
        new = await self.bodies.make(request, self.dialect, partial(new_job, path_id=path_id, dialect=self.dialect))
        if new.job_id != path_id:
            known = await self.lookup.find(namespace, new.job_id, permit)
        if not self.states.covers(namespace):
            raise job_errors.no_such_namespace(namespace)
        if known is not None:
            known = await self.newest.one(known, permit)
        async with discreet(permit):
            await self.creations.create(namespace, new, known)
        return await answers.answer({"acknowledged": True}, form, headers=answers.warning(new.warning))

    async def preview(self, request: web.Request) -> web.Response:
        """Show what a job would do."""
        form = await self._plain(request, body=True)
        namespace, _ = _addressed(request)
        permit = request[PERMIT]
        await permit.require_all()
        if not self.states.covers(namespace):
            raise job_errors.no_such_namespace(namespace)
        job = await self.bodies.make(request, self.dialect, partial(proposal, dialect=self.dialect))
        async with discreet(permit):
            found = await self.previews.preview(namespace, job)
        return await answers.answer(found, form)

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a stopped job."""
        form = await self._plain(request)
        namespace, job_id = _addressed(request)
        left = await self.deletions.delete(namespace, job_id, request[PERMIT])
        return await answers.answer({"acknowledged": left is None}, form, headers=answers.warning(unfinished(left)))

    async def documents(self, request: web.Request) -> web.Response:
        """Show whose documents a rollup index holds under a job's id, and how many."""
        place, _, form = await self._place(request)
        permit = request[PERMIT]
        async with discreet(permit):
            return await answers.answer(await self.purges.find(place, permit), form)

    async def purge(self, request: web.Request) -> web.Response:
        """Delete the documents that a deleted job left."""
        place, owner, form = await self._place(request)
        permit = request[PERMIT]
        async with discreet(permit):
            purged = await self.purges.purge(place, owner, permit)
        document: dict[str, Any] = {"acknowledged": True, "documents": purged.documents}
        return await answers.answer(document | ({} if purged.kept is None else {"kept": purged.kept}), form)

    async def _place(self, request: web.Request) -> tuple[PurgedPlace, str | None, Form]:
        """Read where documents are, and the owner that the call names."""
        parameters = Parameters(request, self.dialect)
        store = parameters.text("store") or STORE
        owner = parameters.text("owner") if request.method == "DELETE" else None
        form = Form.wanted(request, parameters)
        parameters.finish()
        await self.bodies.refuse(request)
        namespace, job_id = _addressed(request)
        return PurgedPlace(namespace, store, request.match_info["index"], job_id), owner, form

    async def capabilities(self, request: web.Request) -> web.Response:
        """Show which rolled-up data can be queried, by index pattern."""
        form = await self._plain(request)
        namespace, pattern = _addressed(request)
        known = await self._capable(namespace, request)
        found = await in_portions(by_pattern(known.found, pattern, self.dialect))
        return await self._of_stores(request, known, found, form)

    async def index_capabilities(self, request: web.Request) -> web.Response:
        """Show the same by rollup index."""
        parameters = Parameters(request, self.dialect)
        options = parameters.index_options()
        form = Form.wanted(request, parameters)
        parameters.finish()
        await self.bodies.refuse(request)
        namespace, _ = _addressed(request)
        known = await self._capable(namespace, request)
        async with discreet(request[PERMIT]):
            try:
                found = await in_portions(by_index(known.found, request.match_info["index"], options, self.dialect))
            except ApiError as e:
                if e.status == 404:
                    known.must_be_whole()
                raise
        return await self._of_stores(request, known, found, form)

    async def usage(self, request: web.Request) -> web.Response:
        """Show how many jobs there are."""
        form = await self._plain(request)
        namespace, _ = _addressed(request)
        mine = await self.newest.all(namespace, request[PERMIT])
        return await answers.answer(usage(len(mine), self.dialect), form)

    async def version(self, request: web.Request) -> web.Response:
        """Show which version of Elasticsearch this endpoint follows."""
        form = await self._plain(request)
        return await answers.answer(version_information(self.cluster, self.dialect), form)

    async def _plain(self, request: web.Request, *, body: bool = False) -> Form:
        """Read a call without parameters of its own. `body`: it accepts one."""
        parameters = Parameters(request, self.dialect)
        form = Form.wanted(request, parameters)
        parameters.finish()
        if not body:
            await self.bodies.refuse(request)
        return form

    async def _capable(self, namespace: str, request: web.Request) -> Answers[Described]:
        permit = request[PERMIT]
        async with discreet(permit):
            return await self.rolled_up.jobs(namespace, permit)

    async def _of_stores(
        self, request: web.Request, known: Answers[Described], found: dict[str, Any], form: Form
    ) -> web.Response:
        """Answer what is known of the stores. Raises ApiError 503 if that is nothing, and a store has not answered."""
        permit = request[PERMIT]
        async with discreet(permit):
            if not found:
                known.must_be_whole()
        return await answers.answer(found, form, headers=await store_errors.warning(permit, known.troubles))


def add_routes(app: web.Application, calls: Iterable[Route], pages: Iterable[Route] = ()) -> None:
    """Add all routes to an application: calls below each of SPACES, with and without a slash at the end; pages as is.

    Pages come first, since the name of an index in a path can be any.
    """
    table: dict[web.AbstractRoute, Route] = {}

    def add(route: Route, path: str) -> None:
        resource = app.router.add_resource(path)
        for method in ("HEAD", "GET") if route.method == "GET" else (route.method,):
            table[resource.add_route(method, route.handler)] = route

    for page in pages:
        add(page, page.path)
    for call in calls:
        for path in (f"{space}{call.path}{end}" for space in SPACES for end in ("", "/")):
            if path:
                add(call, path)
    app[ROUTES] = table


def _addressed(request: web.Request) -> tuple[str, str]:
    """Return namespace and job id."""
    return namespace_of(request), request.match_info.get("id", "")
