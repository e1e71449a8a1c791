"""The endpoint's routes and its server. Every answer, errors too, has Elasticsearch's form."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from aiohttp import web

from rollup_operator.http import answers, errors, job_errors
from rollup_operator.http.acceptance import ACCEPT_SECONDS, Acceptances
from rollup_operator.http.access import ALL_JOBS, CALLER, PERMIT, Access, Deed, Permit
from rollup_operator.http.answers import Form
from rollup_operator.http.asks import Asks
from rollup_operator.http.audit import audit
from rollup_operator.http.bodies import Bodies
from rollup_operator.http.call import ARRIVED, Call, noted
from rollup_operator.http.capabilities import EVERYTHING, Described, by_index, by_pattern
from rollup_operator.http.config_rules import new_job
from rollup_operator.http.create import Creations
from rollup_operator.http.data import RolledUp
from rollup_operator.http.delete import Deletions, unfinished
from rollup_operator.http.desired_state import DesiredStates
from rollup_operator.http.errors import ApiError
from rollup_operator.http.health import Pulse, add_probes, liveness, readiness
from rollup_operator.http.limits import WaitingRoom
from rollup_operator.http.lookup import Lookup
from rollup_operator.http.media_types import header
from rollup_operator.http.middleware import Handler, admission, authentication
from rollup_operator.http.newest import Newest
from rollup_operator.http.notices import Notices
from rollup_operator.http.parameters import Parameters
from rollup_operator.http.ports import Events, Jobs, Kubernetes, NoEvents, NoWatcher, Reads, Stores, Watcher
from rollup_operator.http.presentation import present
from rollup_operator.http.preview import Previews, proposal
from rollup_operator.http.repeats import Repeats
from rollup_operator.http.server import Server
from rollup_operator.http.start import Starts
from rollup_operator.http.stop import Manner, Stops, Wait
from rollup_operator.http.store_errors import discreet
from rollup_operator.http.tls import Certificate
from rollup_operator.http.usage import usage
from rollup_operator.http.version import version_information
from rollup_operator.http.versions import DIALECTS
from rollup_operator.http.waiters import Waiters
from rollup_operator.http.watched import watched
from rollup_operator.http.wire import wire
from rollup_operator.memory import Budgets, memory_limit
from rollup_operator.portions import in_portions
from rollup_operator.settings import Settings

log = structlog.get_logger(__name__)


DEFAULT_TIMEOUT = "30s"
"""Of a stop that waits."""


class Endpoint:
    """The HTTP server of this process. Life: `start`, `drain`, `close`.

    `client` writes, and `reads` reads: a storm of reads must not hold up the writes. `events` is where to post Events;
    `failure` tells which part of this process has failed, so that it lives no more, and `health` of each part
    that must work whether it does (True), or what is wrong with it. `budgets`: what calls may take;
    `accept_seconds`: how long a call waits for the operator to take in what it has recorded, and longer while
    `answering` tells that one is there.
    """

    def __init__(
        self,
        *,
        jobs: Jobs,
        client: Kubernetes,
        reads: Reads | None = None,
        stores: Stores,
        access: Access,
        settings: Settings,
        events: Events | None = None,
        certificate: Certificate | None = None,
        watcher: Watcher | None = None,
        failure: Callable[[], str | None] = lambda: None,
        health: Callable[[], Mapping[str, bool | str]] = dict,
        budgets: Budgets | None = None,
        accept_seconds: float = ACCEPT_SECONDS,
        answering: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings, self._failure, self._health = settings, failure, health
        watcher, budgets = watcher or NoWatcher(), budgets or Budgets.of(memory_limit())
        self._dialect = DIALECTS[settings.compat_version]
        self._jobs = jobs
        self._access = access
        acceptances = Acceptances(jobs, accept_seconds, answering=answering)
        self._waiters = Waiters(jobs, acceptances)
        self._states = DesiredStates(
            jobs, client, reads or client, namespaces=settings.namespaces, found=self._waiters.hear
        )
        self._newest = Newest(jobs, self._states, alone=not settings.leader_election)
        self._pulse = Pulse(watcher.lagged)
        notices = Notices(jobs, events or NoEvents())
        self._lookup = Lookup(jobs, self._states)
        asks = Asks(
            self._lookup,
            self._states,
            notices,
            Repeats(_clock),
            acceptances=acceptances,
            managers=settings.gitops_managers,
            watcher=watcher,
        )
        manner = Manner(self._dialect, settings.stop_timeout_status)
        room = WaitingRoom(settings.http_waiters_per_caller)
        self._stops = Stops(asks, self._states, self._waiters, room, notices, manner, watcher)
        self._starts = Starts(asks, self._newest, self._dialect)
        self._creations = Creations(jobs, client, stores)
        self._previews = Previews(client, stores, _now)
        self._deletions = Deletions(self._lookup, self._newest, self._states, jobs, client)
        self._rolled_up = RolledUp(self._newest, stores, settings.cluster)
        deeds = {
            self._stop: Deed.STOP,
            self._start: Deed.START,
            self._create: Deed.CREATE,
            self._delete: Deed.DELETE,
        }
        self.app = web.Application(
            middlewares=[
                noted,
                wire,
                watched(watcher, deeds),
                audit(deeds, settings.default_namespace),
                envelope,
                admission,
                authentication(access),
            ],
            client_max_size=settings.http_body_bytes,
        )
        self._bodies = Bodies(most=settings.http_body_bytes, seconds=settings.http_body_seconds, memory=budgets.bodies)
        self._add_routes(self.app.router)
        self._server = Server(self.app, settings, certificate, budgets.connections)

    @property
    def waiting(self) -> int:
        """How many clients wait for a stop."""
        return len(self._waiters)

    async def start(self) -> None:
        """Listen for calls. Raises CannotListen."""
        self._pulse.start()
        await self._server.start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.port

    @property
    def url(self) -> str:
        """The URL that is listened on."""
        return self._server.url

    def liveness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether this process goes on, and what to tell."""
        return liveness(self._failure())

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether this process should be given work, and what to tell."""
        return readiness(self._jobs, self._waiters, self._health())

    async def drain(self, seconds: float) -> int:
        """Become unready, refuse new waits, give those that wait `seconds`, then answer the rest with their state.

        Returns how many were sent away so. Needs the watch still alive. All other calls go on until `close`.
        """
        return await self._waiters.drain(seconds)

    async def close(self) -> None:
        """Stop listening, let answers under way go out, wait for writes under way."""
        self._waiters.draining = True
        self._pulse.stop()
        await self._server.close()
        await self._states.settle()

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        add_probes(router, self.liveness, self.readiness)
        for space in ("", "/namespaces/{namespace}"):
            router.add_get(f"{space}/", self._version)
            if space:
                router.add_get(space, self._version)
            # A part of a path may be anything but a slash; aiohttp's own pattern leaves out braces.
            job_id, index = "{id:[^/]+}", "{index:[^/]+}"
            # Elasticsearch takes every path with a slash at its end, too.
            for end in ("", "/"):
                router.add_get(f"{space}/_xpack/usage{end}", self._usage)
                for base in ("_rollup", "_xpack/rollup"):
                    jobs, data = f"{space}/{base}/job", f"{base}/data"
                    router.add_get(f"{jobs}{end}", self._get)
                    router.add_get(f"{jobs}/{job_id}{end}", self._get)
                    router.add_put(f"{jobs}/{job_id}{end}", self._create)
                    router.add_delete(f"{jobs}/{job_id}{end}", self._delete)
                    router.add_post(f"{jobs}/_preview{end}", self._preview)
                    router.add_post(f"{jobs}/{job_id}/_stop{end}", self._stop)
                    router.add_post(f"{jobs}/{job_id}/_start{end}", self._start)
                    router.add_get(f"{space}/{data}{end}", self._capabilities)
                    router.add_get(f"{space}/{data}/{job_id}{end}", self._capabilities)
                    router.add_get(f"{space}/{index}/{data}{end}", self._index_capabilities)

    async def _stop(self, request: web.Request) -> web.Response:
        parameters = Parameters(request, self._dialect)
        waits = parameters.boolean("wait_for_completion", False)
        timeout = parameters.time("timeout", DEFAULT_TIMEOUT)
        form = Form.wanted(request, parameters)
        parameters.finish()
        await self._bodies.refuse(request)
        wait = Wait.of(timeout, request[ARRIVED]) if waits else None
        namespace, job_id = self._addressed(request)
        whom = "_all" if job_id in EVERYTHING else job_id
        text = f"stop {whom}" + (f" within {timeout.text}" if waits else "")
        call = Call.of(request, text, self._permit(request, Deed.STOP))
        if job_id in EVERYTHING:
            await self._stops.stop_all(namespace, wait, call)
        else:
            await self._stops.stop(namespace, job_id, wait, call)
        return await answers.answer({"stopped": True}, form)

    async def _start(self, request: web.Request) -> web.Response:
        form = await self._plain(request)
        namespace, job_id = self._addressed(request)
        text = f"start {'_all' if job_id in EVERYTHING else job_id}"
        call = Call.of(request, text, self._permit(request, Deed.START))
        if job_id in EVERYTHING:
            await self._starts.start_all(namespace, call)
        else:
            await self._starts.start(namespace, job_id, call)
        return await answers.answer({"started": True}, form)

    async def _get(self, request: web.Request) -> web.Response:
        form = await self._plain(request)
        namespace, job_id = self._addressed(request)
        permit = self._permit(request, Deed.GET)
        if job_id in EVERYTHING:
            found = await self._newest.all(namespace, permit)
        else:
            job = await self._lookup.find(namespace, job_id, permit)
            if job is not None:
                job = await self._newest.one(job, permit)
            found = [] if job is None else [job]
        return await answers.answer({"jobs": map(partial(present, dialect=self._dialect), found)}, form)

    async def _create(self, request: web.Request) -> web.Response:
        form = await self._plain(request, body=True)
        namespace, path_id = self._addressed(request)
        permit = self._permit(request, Deed.CREATE)
        known = await self._lookup.find(namespace, path_id, permit)
        new = await self._bodies.make(request, self._dialect, partial(new_job, path_id=path_id, dialect=self._dialect))
        if new.job_id != path_id:
            known = await self._lookup.find(namespace, new.job_id, permit)
        if not self._states.covers(namespace):
            raise job_errors.no_such_namespace(namespace)
        if known is not None:
            known = await self._newest.one(known, permit)
        async with discreet(permit):
            await self._creations.create(namespace, new, known)
        return await answers.answer({"acknowledged": True}, form, headers=answers.warning(new.warning))

    async def _preview(self, request: web.Request) -> web.Response:
        form = await self._plain(request, body=True)
        namespace, _ = self._addressed(request)
        # Whoever may create a job can have the source's data rolled up for him, so he may see a part of that.
        permit = self._permit(request, Deed.CREATE)
        await permit.require(ALL_JOBS, None)
        if not self._states.covers(namespace):
            raise job_errors.no_such_namespace(namespace)
        job = await self._bodies.make(request, self._dialect, partial(proposal, dialect=self._dialect))
        async with discreet(permit):
            found = await self._previews.preview(namespace, job)
        return await answers.answer(found, form)

    async def _delete(self, request: web.Request) -> web.Response:
        form = await self._plain(request)
        namespace, job_id = self._addressed(request)
        left = await self._deletions.delete(namespace, job_id, self._permit(request, Deed.DELETE))
        return await answers.answer({"acknowledged": left is None}, form, headers=answers.warning(unfinished(left)))

    async def _capabilities(self, request: web.Request) -> web.Response:
        form = await self._plain(request)
        namespace, pattern = self._addressed(request)
        jobs = await self._capable(namespace, request)
        return await answers.answer(await in_portions(by_pattern(jobs, pattern, self._dialect)), form)

    async def _index_capabilities(self, request: web.Request) -> web.Response:
        parameters = Parameters(request, self._dialect)
        options = parameters.index_options()
        form = Form.wanted(request, parameters)
        parameters.finish()
        await self._bodies.refuse(request)
        namespace, _ = self._addressed(request)
        jobs = await self._capable(namespace, request)
        found = by_index(jobs, request.match_info["index"], options, self._dialect)
        return await answers.answer(await in_portions(found), form)

    async def _usage(self, request: web.Request) -> web.Response:
        form = await self._plain(request)
        namespace, _ = self._addressed(request)
        mine = await self._newest.all(namespace, self._permit(request, Deed.GET))
        return await answers.answer(usage(len(mine), self._dialect), form)

    async def _version(self, request: web.Request) -> web.Response:
        form = await self._plain(request)
        return await answers.answer(version_information(self._settings.cluster, self._dialect), form)

    async def _plain(self, request: web.Request, *, body: bool = False) -> Form:
        """Read a call that has no parameters of its own. `body`: it takes one."""
        parameters = Parameters(request, self._dialect)
        form = Form.wanted(request, parameters)
        parameters.finish()
        if not body:
            await self._bodies.refuse(request)
        return form

    async def _capable(self, namespace: str, request: web.Request) -> list[Described]:
        permit = self._permit(request, Deed.GET)
        async with discreet(permit):
            return await self._rolled_up.jobs(namespace, permit)

    def _addressed(self, request: web.Request) -> tuple[str, str]:
        """Return namespace and job id."""
        given = request.match_info
        return given.get("namespace", self._settings.default_namespace), given.get("id", "")

    def _permit(self, request: web.Request, deed: Deed) -> Permit:
        permit = request[PERMIT] = Permit(self._access, request[CALLER], deed, self._addressed(request)[0])
        return permit


def _now() -> datetime:
    return datetime.now(UTC)


def _clock() -> float:
    return asyncio.get_running_loop().time()


@web.middleware
async def envelope(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors in Elasticsearch's envelope, unexpected ones after logging them."""
    try:
        return await handler(request)
    except Exception as e:
        # No variable of this frame may keep the exception, whose traceback has the frame: only a full collection of
        # garbage would free the two, with all that the request has in its frames.
        return _failure(request, e)


def _failure(request: web.Request, e: Exception) -> web.Response:
    if isinstance(e, web.HTTPMethodNotAllowed) and request.method == "OPTIONS":
        return answers.options(e.allowed_methods)
    error = _error(request, e)
    if error is not e:
        error.__traceback__ = e.__traceback__
    response = answers.failure(error, Form.of_error(request))
    if error.closes:
        response.force_close()
    return response


def _error(request: web.Request, e: Exception) -> ApiError:
    match e:
        case ApiError():
            return e
        case web.HTTPMethodNotAllowed():
            return errors.method_not_allowed(request.method, request.path_qs, list(e.allowed_methods))
        case web.HTTPNotFound():
            return errors.no_such_route(request.method, request.path_qs)
        case web.RequestPayloadError():
            request.content.feed_eof()  # or the server would go on reading it, to throw it away
            return errors.unreadable_body(header(request, "Content-Encoding"))
        case web.HTTPException():
            return ApiError(e.status, "exception", e.text or e.reason)
        case _:
            log.error("request failed", method=request.method, path=request.rel_url.raw_path, exc_info=e)
            return errors.internal()
