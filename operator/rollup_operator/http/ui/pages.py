"""The pages, and what each reads of its request."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from rollup_operator.concurrency.portions import in_portions
from rollup_operator.http.access.authentication import Route, namespace_of
from rollup_operator.http.access.permits import ALL_JOBS, CALLER, PERMIT, Access, EndpointAction
from rollup_operator.http.jobs.desired_state import DesiredStates
from rollup_operator.http.listener.connections import connection_of
from rollup_operator.http.ports import Jobs
from rollup_operator.http.protocol import errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.ui import rendering
from rollup_operator.http.ui.forms import read_form
from rollup_operator.http.ui.guard import PART, foreign_request
from rollup_operator.http.ui.listing import Found, Group, KnownFacts, ListQuery, find
from rollup_operator.http.ui.recent_runs import RecentRuns
from rollup_operator.http.ui.rows import namespace_url, new_job_url, row
from rollup_operator.http.ui.sessions import PATH, Sessions, TokenTooLong
from rollup_operator.model.job_view import JobView

FOR_EVER = "public, max-age=31536000, immutable"
"""Of files whose address has a digest of their content."""

HOME = PATH


@dataclass(frozen=True, slots=True)
class ListPages:
    """Each page reads its request and answers. All raise ApiError, which `guard` turns into a page."""

    access: Access
    jobs: Jobs
    states: DesiredStates
    sessions: Sessions
    known: KnownFacts
    recent_runs: RecentRuns
    now: Callable[[], datetime]
    body_seconds: float
    """How long a form may take to arrive."""

    def routes(self) -> Iterator[Route]:
        """Return the table of pages."""
        get, space = EndpointAction.GET, "/ui/namespaces/{namespace}/jobs"
        yield Route("GET", "/ui", get, self.home, is_open=True)
        yield Route("GET", "/ui/login", get, self.login_form, is_open=True)
        yield Route("POST", "/ui/login", get, self.login, is_open=True)
        yield Route("GET", "/ui/static/{digest}/{name}", get, self.static, is_open=True)
        yield Route("POST", "/ui/logout", get, self.logout)
        yield Route("GET", HOME, get, self.all_jobs)
        yield Route("GET", space, get, self.jobs_of_namespace)

    async def home(self, request: web.Request) -> web.Response:
        """Lead to the first page."""
        return web.Response(status=303, headers={"Location": HOME})

    # Login

    async def login_form(self, request: web.Request) -> web.Response:
        """Show the form for a token."""
        ended = "Your session has ended. Log in again." if "ended" in request.query else ""
        return self._login_page(_inside(request.query.get("next", "")), ended)

    async def login(self, request: web.Request) -> web.Response:
        """Begin a session for the user of a token."""
        form = await read_form(request, self.body_seconds)
        token, onward = form.get("token", "").strip(), _inside(form.get("next", ""))
        token = token.removeprefix("Bearer ").strip()
        response = web.Response(status=303, headers={"Location": onward})
        try:
            caller = await self.access.identify(f"Bearer {token}", request.remote or "")
            self.sessions.begin(request, response, token)
        except ApiError as e:
            why = "The API server does not accept this token." if e.status == 401 else e.reason
            return self._login_refused(onward, e.status, why)
        except TokenTooLong:
            why = (
                "This token is too long for a browser's cookie: log in by a proxy that sends it, or take a shorter one."
            )
            return self._login_refused(onward, 400, why)
        if (connection := connection_of(request)) is not None:
            connection.known(caller.name)
        return response

    async def logout(self, request: web.Request) -> web.Response:
        """End the session."""
        await self.form(request)
        response = web.Response(status=303, headers={"Location": f"{PATH}login"})
        self.sessions.end(request, response)
        return response

    def _login_page(self, onward: str, message: str, status: int = 200) -> web.Response:
        return rendering.page("login.html", status=status, next=onward, message=message, failed=status != 200)

    def _login_refused(self, onward: str, status: int, why: str) -> web.Response:
        response = self._login_page(onward, why, status)
        response.force_close()  # strangers hold no connections
        return response

    async def form(self, request: web.Request) -> Mapping[str, str]:
        """Return the fields of a form that comes from a page of the same session. Raises ApiError 403."""
        form = await read_form(request, self.body_seconds)
        if not self.sessions.is_ours(request, form.get("csrf", "")):
            raise foreign_request()
        return form

    # Files

    async def static(self, request: web.Request) -> web.Response:
        """Return a file that pages refer to."""
        file = rendering.static_files().get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        # While replicas of two versions serve, one may be asked for the other's file.
        lasting = FOR_EVER if request.path == file.url else "no-store"
        headers = {"Cache-Control": lasting}
        return web.Response(body=file.content, content_type=file.content_type, charset="utf-8", headers=headers)

    # Lists

    async def all_jobs(self, request: web.Request) -> web.Response:
        """Show the jobs of all namespaces whose jobs the caller may see."""
        if not self.jobs.synced:
            raise errors.unavailable("The list of jobs has not been read yet. Try again shortly")
        spaces = self.jobs.namespaces()
        mine = await self.access.namespaces(request[CALLER], EndpointAction.GET, spaces)
        jobs = chain.from_iterable(self.states.unsorted(space) for space in spaces if space in mine)
        return await self._list(request, jobs, namespace=None, namespaces=sorted(mine))

    async def jobs_of_namespace(self, request: web.Request) -> web.Response:
        """Show the jobs of a namespace that the caller may see."""
        namespace, permit = namespace_of(request), request[PERMIT]
        mine = await permit.among(self.states.unsorted(namespace))
        if not mine:
            await permit.require_all()
        whole = request.query.get(PART) != "list"
        may_create = whole and await self.access.may(permit.caller, EndpointAction.CREATE, namespace, ALL_JOBS)
        return await self._list(request, mine, namespace=namespace, namespaces=[], may_create=may_create)

    async def _list(
        self,
        request: web.Request,
        jobs: Iterable[JobView],
        *,
        namespace: str | None,
        namespaces: list[str],
        may_create: bool = False,
    ) -> web.Response:
        query = ListQuery.of(request.query)
        found = await in_portions(find(jobs, query, self.known))
        now = self.now()
        values: dict[str, Any] = {
            "title": "All jobs" if namespace is None else f"Jobs of {namespace}",
            "namespace": namespace,
            "namespaces": namespaces,
            "rows": [row(job, now, self.recent_runs.of(job)) for job in found.jobs],
            "found": found,
            "query": query,
            "groups": list(Group),
            "links": Links(request.path, query, found),
            "namespace_url": namespace_url,
            "new_job": new_job_url(namespace) if may_create and namespace is not None else "",
        }
        if request.query.get(PART) == "list":
            return rendering.page("job_rows.html", **values)
        return rendering.page("jobs.html", **values, **self.session(request))

    def session(self, request: web.Request) -> dict[str, Any]:
        """Return what every page of a session shows."""
        return {
            "user": request[CALLER].name,
            "csrf": self.sessions.form_token(request),
            "can_log_out": "Authorization" not in request.headers,
        }


@dataclass(frozen=True, slots=True)
class Links:
    """The addresses that a list leads to: the same list, sorted, filtered, or on another page."""

    path: str
    query: ListQuery
    found: Found

    def sorted(self, sort: str) -> str:
        """Return the list sorted so, or backwards where it is sorted so already."""
        backwards = sort == self.query.sort and not self.query.backwards
        return self._with(sort=f"-{sort}" if backwards else sort, page="")

    def direction(self, sort: str) -> str:
        """Return what `aria-sort` says of a column."""
        if sort != self.query.sort:
            return "none"
        return "descending" if self.query.backwards else "ascending"

    def state(self, group: Group | None) -> str:
        """Return the list of the jobs in a state."""
        return self._with(state="" if group is None else group.value, page="")

    def page(self, number: int) -> str:
        """Return a page of the list."""
        return self._with(page=str(number))

    @property
    def part(self) -> str:
        """Return the part of this page that is kept up to date."""
        return self._with(part="list")

    def _with(self, **changed: str) -> str:
        q = self.query
        given = {
            "q": q.text,
            "state": q.group.value if q.group is not None else "",
            "sort": f"{'-' if q.backwards else ''}{q.sort}" if (q.sort, q.backwards) != ("name", False) else "",
            "page": str(self.found.page) if self.found.page > 1 else "",
        }
        kept = {name: value for name, value in (given | changed).items() if value}
        return f"{self.path}?{urlencode(kept)}" if kept else self.path


def _inside(address: str) -> str:
    """Return the address of a page of ours to go on to; anything else becomes the first page."""
    fine = address.startswith(PATH) and address.isascii() and address.isprintable() and "\\" not in address
    return address if fine else HOME
