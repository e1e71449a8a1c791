"""The endpoint: its parts, its lifecycle, and its answers to failed calls."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import structlog
from aiohttp import web

from rollup_operator.http.access.audit import audit
from rollup_operator.http.access.authentication import DEFAULT_NAMESPACE, Handler, admission, authentication
from rollup_operator.http.access.bodies import Bodies
from rollup_operator.http.access.permits import Access
from rollup_operator.http.access.telemetry import with_telemetry
from rollup_operator.http.access.waiting_room import WaitingRoom
from rollup_operator.http.api.create import Creations
from rollup_operator.http.api.delete import Deletions
from rollup_operator.http.api.preview import Previews
from rollup_operator.http.api.purge import Purges
from rollup_operator.http.api.repair import Repairs
from rollup_operator.http.api.rolled_up import RolledUp
from rollup_operator.http.api.run import Runs
from rollup_operator.http.api.search import Searches
from rollup_operator.http.api.searchable import Searchable
from rollup_operator.http.api.start import Starts
from rollup_operator.http.api.stop import Stops, StopTimeoutAnswer
from rollup_operator.http.api.verify import Verifications
from rollup_operator.http.jobs.acceptance import ACCEPT_SECONDS, Acceptances
from rollup_operator.http.jobs.attempt import Attempts
from rollup_operator.http.jobs.desired_state import DesiredStates
from rollup_operator.http.jobs.lookup import Lookup
from rollup_operator.http.jobs.newest import Newest
from rollup_operator.http.jobs.notices import Notices
from rollup_operator.http.jobs.repeats import Repeats
from rollup_operator.http.jobs.request_context import noted
from rollup_operator.http.jobs.waiters import Waiters
from rollup_operator.http.listener.probes import Pulse, add_probes, liveness, readiness
from rollup_operator.http.listener.server import EndpointServer
from rollup_operator.http.listener.tls import Certificate
from rollup_operator.http.ports import EndpointTelemetry, Events, Jobs, Kubernetes, NoEvents, NoTelemetry, Reads, Stores
from rollup_operator.http.protocol import answers, errors
from rollup_operator.http.protocol.answers import Form
from rollup_operator.http.protocol.dialects import DIALECTS
from rollup_operator.http.protocol.encoding import wire
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.protocol.media_types import header
from rollup_operator.http.routes import Calls, add_routes
from rollup_operator.http.search_calls import SearchCalls
from rollup_operator.http.ui.data_page import DataPage
from rollup_operator.http.ui.events import JobEvents
from rollup_operator.http.ui.guard import guard
from rollup_operator.http.ui.job_pages import JobPages
from rollup_operator.http.ui.listing import KnownFacts
from rollup_operator.http.ui.new_job import NewJobPage
from rollup_operator.http.ui.pages import ListPages
from rollup_operator.http.ui.recent_runs import RecentRuns
from rollup_operator.http.ui.sessions import Sessions, given_credentials
from rollup_operator.http.ui.verified import LastFindings
from rollup_operator.http.ui.verify_page import VerifyPage
from rollup_operator.http.verify_calls import VerifyCalls
from rollup_operator.net.aiohttp_private.server import end_of_body
from rollup_operator.settings import Settings
from rollup_operator.sharing.memory import Budgets, memory_limit

log = structlog.get_logger(__name__)


class Endpoint:
    """The HTTP server of this process. Life: `start`, `drain`, `close`.

    `client` writes, and `reads` reads: a storm of reads must not hold up the writes. `events` is where to post Events;
    `failure` says which part of this process has failed, so that it lives no more; `health` says of each part
    that must work whether it does (True), or its problem. `budgets`: what calls may take.
    `recent_runs` has what lists show of runs.
    `accept_seconds`: how long a call waits until the operator has observed its write; longer while
    `answering` says that a leader exists. `holder` names this process in claims.
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
        telemetry: EndpointTelemetry | None = None,
        failure: Callable[[], str | None] = lambda: None,
        health: Callable[[], Mapping[str, bool | str]] = dict,
        budgets: Budgets | None = None,
        recent_runs: RecentRuns | None = None,
        accept_seconds: float = ACCEPT_SECONDS,
        answering: Callable[[], bool] = lambda: False,
        holder: str = "",
    ) -> None:
        self._settings, self._failure, self._health = settings, failure, health
        telemetry, budgets = telemetry or NoTelemetry(), budgets or Budgets.of(memory_limit())
        dialect = DIALECTS[settings.compat_version]
        self._jobs = jobs
        acceptances = Acceptances(jobs, accept_seconds, answering=answering)
        self._waiters = Waiters(jobs, acceptances)
        self._states = DesiredStates(
            jobs, client, reads or client, namespaces=settings.namespaces, found=self._waiters.hear
        )
        newest = Newest(jobs, self._states, alone=not settings.leader_election)
        self._pulse = Pulse(telemetry.lagged)
        notices = Notices(jobs, events or NoEvents())
        lookup = Lookup(jobs, self._states)
        attempts = Attempts(
            lookup,
            self._states,
            notices,
            Repeats(_clock),
            acceptances=acceptances,
            managers=settings.gitops_managers,
            telemetry=telemetry,
        )
        timeout_answer = StopTimeoutAnswer(dialect, settings.stop_timeout_status)
        room = WaitingRoom(settings.http_waiters_per_caller)
        bodies = Bodies(most=settings.http_body_bytes, seconds=settings.http_body_seconds, memory=budgets.bodies)
        calls = Calls(
            dialect=dialect,
            cluster=settings.cluster,
            bodies=bodies,
            lookup=lookup,
            newest=newest,
            states=self._states,
            stops=Stops(attempts, self._states, self._waiters, room, notices, timeout_answer, telemetry),
            starts=Starts(attempts, newest, dialect),
            creations=Creations(jobs, client, stores),
            previews=Previews(client, stores, _now),
            deletions=Deletions(lookup, newest, self._states, jobs, client),
            purges=Purges(lookup, self._states, jobs, stores, cluster=settings.cluster, holder=holder),
            rolled_up=RolledUp(newest, stores, settings.cluster),
            searching=SearchCalls(
                dialect,
                settings.cluster,
                bodies,
                Searches(Searchable(self._states, stores, settings.cluster), stores, _now, memory=budgets.memory),
            ),
            verifying=VerifyCalls(dialect, bodies, lookup, Verifications(jobs, client, stores, settings.cluster, _now)),
        )
        sessions = Sessions(_shared_secret(certificate))
        pages = ListPages(
            access=access,
            jobs=jobs,
            states=self._states,
            sessions=sessions,
            known=KnownFacts(),
            recent_runs=recent_runs or RecentRuns(),
            now=_now,
            body_seconds=settings.http_body_seconds,
        )
        runs, verifications, last_findings = Runs(lookup, client, _now), calls.verifying.verifications, LastFindings()
        job_pages = JobPages(
            pages=pages,
            lookup=lookup,
            reads=reads or client,
            starts=calls.starts,
            stops=calls.stops,
            runs=runs,
            events=JobEvents(reads or client),
            managers=frozenset(settings.gitops_managers),
        )
        data_page = DataPage(pages, lookup, calls.searching.searches, last_findings)
        verify_page = VerifyPage(pages, lookup, runs, verifications, Repairs(jobs, runs, verifications), last_findings)
        new_job_page = NewJobPage(pages, calls.previews)
        outer = [noted, wire, with_telemetry(telemetry), audit, envelope]
        inner = [admission, authentication(access, sessions.credentials if settings.ui else given_credentials)]
        self.app = web.Application(
            middlewares=[*outer, *([guard()] if settings.ui else []), *inner],
            client_max_size=settings.http_body_bytes,
        )
        self.app[DEFAULT_NAMESPACE] = settings.default_namespace
        add_probes(self.app.router, self.liveness, self.readiness)
        add_routes(
            self.app,
            calls.routes(),
            chain(pages.routes(), job_pages.routes(), data_page.routes(), verify_page.routes(), new_job_page.routes())
            if settings.ui
            else (),
        )
        self._server = EndpointServer(self.app, settings, certificate, budgets.connections)

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
        """Return whether this process goes on, and the document to answer."""
        return liveness(self._failure())

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether this process should be given work, and the document to answer."""
        return readiness(self._jobs, self._waiters, self._health())

    async def drain(self, seconds: float) -> int:
        """Become unready, refuse new waits, give current waits `seconds`, then answer the rest with their state.

        Returns the number of the latter. Needs a live watch. All other calls continue until `close`.
        """
        return await self._waiters.drain(seconds)

    async def close(self) -> None:
        """Stop listening, finish current answers, wait for current writes."""
        self._waiters.draining = True
        self._pulse.stop()
        await self._server.close()
        await self._states.settle()


def _shared_secret(certificate: Certificate | None) -> Callable[[], bytes]:
    """Return what gives the secret of sessions: all replicas have the key of the certificate; without, each its own."""
    if certificate is not None:
        return lambda: certificate.key_digest
    own = secrets.token_bytes(32)
    return lambda: own


def _now() -> datetime:
    return datetime.now(UTC)


def _clock() -> float:
    return asyncio.get_running_loop().time()


@web.middleware
async def envelope(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors in Elasticsearch's envelope; log unexpected ones."""
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
            end_of_body(request)
            return errors.unreadable_body(header(request, "Content-Encoding"))
        case web.HTTPException():
            return ApiError(e.status, "exception", e.text or e.reason)
        case _:
            log.error("request failed", method=request.method, path=request.rel_url.raw_path, exc_info=e)
            return errors.internal()
