"""The endpoint's routes and its server. Every answer, errors too, has Elasticsearch's form."""

import asyncio
import contextlib

import structlog
from aiohttp import web

from rollup_operator.http import answers, errors
from rollup_operator.http.access import CALLER, PERMIT, Access, Deed, Permit
from rollup_operator.http.answers import Form
from rollup_operator.http.asks import Asks
from rollup_operator.http.audit import audit
from rollup_operator.http.call import ARRIVED, Call, noted
from rollup_operator.http.desired_state import DesiredStates
from rollup_operator.http.errors import ApiError
from rollup_operator.http.health import readiness
from rollup_operator.http.limits import WaitingRoom
from rollup_operator.http.middleware import Handler, admission, authentication, whole_body
from rollup_operator.http.notices import Notices
from rollup_operator.http.parameters import Parameters
from rollup_operator.http.ports import Events, Jobs, Kubernetes, NoEvents
from rollup_operator.http.presentation import present
from rollup_operator.http.repeats import Repeats
from rollup_operator.http.server import Server
from rollup_operator.http.start import Starts
from rollup_operator.http.stop import Manner, Stops, Wait
from rollup_operator.http.tls import Certificate
from rollup_operator.http.version import version_information
from rollup_operator.http.versions import DIALECTS
from rollup_operator.http.waiters import Waiters
from rollup_operator.settings import Settings

log = structlog.get_logger(__name__)

ALL = frozenset({"", "_all", "*"})
"""Ids that mean every job of the namespace."""

DEFAULT_TIMEOUT = "30s"
"""Of a stop that waits."""


class Endpoint:
    """The HTTP server of this process. Life: `start`, then `drain`, then `close`. `events` is where to post Events."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        client: Kubernetes,
        access: Access,
        settings: Settings,
        events: Events | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._access = access
        self._states = DesiredStates(jobs, client, namespaces=settings.namespaces)
        self._waiters = Waiters(jobs)
        self._dialect = DIALECTS[settings.compat_version]
        notices = Notices(jobs, events or NoEvents())
        asks = Asks(self._states, notices, Repeats(_clock), managers=settings.gitops_managers)
        manner = Manner(self._dialect, settings.stop_timeout_status)
        self._stops = Stops(asks, self._states, self._waiters, notices, manner)
        self._starts = Starts(asks, self._states, self._dialect)
        self._waiting_room = WaitingRoom(settings.http_waiters_per_caller)
        deeds = {self._stop: Deed.STOP, self._start: Deed.START}
        self.app = web.Application(
            middlewares=[
                noted,
                audit(deeds, settings.default_namespace),
                envelope,
                admission,
                authentication(access),
                whole_body(most=settings.http_body_bytes, seconds=settings.http_body_seconds),
            ],
            client_max_size=settings.http_body_bytes,
        )
        self._add_routes(self.app.router)
        self._server = Server(self.app, settings, certificate)

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken."""
        await self._server.start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.port

    @property
    def url(self) -> str:
        """The URL that is listened on."""
        return self._server.url

    async def drain(self, seconds: float) -> int:
        """Become unready, refuse new waits, give those that wait `seconds`, then answer the rest with their state.

        Returns how many were sent away so. Needs the watch still alive. All other calls go on until `close`.
        """
        return await self._waiters.drain(seconds)

    async def close(self) -> None:
        """Stop listening, let answers under way go out, wait for writes under way."""
        self._waiters.draining = True
        await self._server.close()
        await self._states.settle()

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/healthz", self._healthz)
        router.add_get("/readyz", self._readyz)
        for space in ("", "/namespaces/{namespace}"):
            router.add_get(f"{space}/", self._version)
            if space:
                router.add_get(space, self._version)
            for base in ("_rollup", "_xpack/rollup"):
                jobs = f"{space}/{base}/job"
                # Elasticsearch takes every path with a slash at its end, too.
                for end in ("", "/"):
                    router.add_get(f"{jobs}{end}", self._get)
                    router.add_get(f"{jobs}/{{id}}{end}", self._get)
                    router.add_post(f"{jobs}/{{id}}/_stop{end}", self._stop)
                    router.add_post(f"{jobs}/{{id}}/_start{end}", self._start)

    async def _stop(self, request: web.Request) -> web.Response:
        parameters = Parameters(request, self._dialect)
        waits = parameters.boolean("wait_for_completion", False)
        timeout = parameters.time("timeout", DEFAULT_TIMEOUT)
        form = Form.wanted(request, parameters)
        await parameters.finish()
        wait = Wait.of(timeout, request[ARRIVED]) if waits else None
        namespace, job_id = self._addressed(request)
        whom = "_all" if job_id in ALL else job_id
        text = f"stop {whom}" + (f" within {timeout.text}" if waits else "")
        call = Call.of(request, text, self._permit(request, Deed.STOP))
        with self._waiting_room.place(call.permit.caller) if waits else contextlib.nullcontext():
            if job_id in ALL:
                await self._stops.stop_all(namespace, wait, call)
            else:
                await self._stops.stop(namespace, job_id, wait, call)
        return answers.answer({"stopped": True}, form)

    async def _start(self, request: web.Request) -> web.Response:
        form = await self._plain(request)
        namespace, job_id = self._addressed(request)
        text = f"start {'_all' if job_id in ALL else job_id}"
        call = Call.of(request, text, self._permit(request, Deed.START))
        if job_id in ALL:
            await self._starts.start_all(namespace, call)
        else:
            await self._starts.start(namespace, job_id, call)
        return answers.answer({"started": True}, form)

    async def _get(self, request: web.Request) -> web.Response:
        form = await self._plain(request)
        namespace, job_id = self._addressed(request)
        permit = self._permit(request, Deed.GET)
        if job_id in ALL:
            found = await permit.among(self._states.in_namespace(namespace))
        else:
            job = await self._states.find(namespace, job_id)
            await permit.require(job_id, job)
            found = [] if job is None else [job]
        return answers.answer({"jobs": [present(job) for job in found]}, form)

    async def _version(self, request: web.Request) -> web.Response:
        form = await self._plain(request)
        return answers.answer(version_information(self._settings.cluster), form)

    async def _healthz(self, _: web.Request) -> web.Response:
        return answers.answer({"status": "ok"}, Form())

    async def _readyz(self, _: web.Request) -> web.Response:
        ready, told = readiness(self._jobs, self._waiters)
        return answers.answer(told, Form(), status=200 if ready else 503)

    async def _plain(self, request: web.Request) -> Form:
        """Read a call that has no parameters of its own."""
        parameters = Parameters(request, self._dialect)
        form = Form.wanted(request, parameters)
        await parameters.finish()
        return form

    def _addressed(self, request: web.Request) -> tuple[str, str]:
        """Return namespace and job id."""
        given = request.match_info
        return given.get("namespace", self._settings.default_namespace), given.get("id", "")

    def _permit(self, request: web.Request, deed: Deed) -> Permit:
        permit = request[PERMIT] = Permit(self._access, request[CALLER], deed, self._addressed(request)[0])
        return permit


def _clock() -> float:
    return asyncio.get_running_loop().time()


@web.middleware
async def envelope(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors in Elasticsearch's envelope, unexpected ones after logging them."""
    try:
        return await handler(request)
    except ApiError as e:
        error = e
    except web.HTTPMethodNotAllowed as e:
        error = errors.method_not_allowed(request.method, request.path_qs, list(e.allowed_methods))
    except web.HTTPNotFound:
        error = errors.no_such_route(request.method, request.path_qs)
    except web.HTTPException as e:
        error = ApiError(e.status, "exception", e.text or e.reason)
    except Exception:
        log.exception("request failed", method=request.method, path=request.rel_url.raw_path)
        error = errors.internal()
    response = answers.failure(error, Form.of_error(request))
    if error.closes:
        response.force_close()
    return response
