"""The HTTP client of one cluster: one request, one answer or one classified error.

Every request carries `X-Opaque-Id`, with which the cluster's task list shows who owns the request. A cancelled call
closes its connection, which makes the cluster cancel a search, but not a bulk; a call of a run, a search or a
verification ends once the cluster has read that. No request is sent twice unless the cluster certainly did not carry it
out: after a failed connection the next host is tried, and after refused credentials they are read again.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import orjson

from rollup_operator.sharing.shares import Account, Held, unbounded
from rollup_operator.stores.errors import StoreError, StoreUnavailable
from rollup_operator.stores.opensearch.transport.answers import SMALL, Value, whole
from rollup_operator.stores.opensearch.transport.errors import Cut, Unauthorized, Untrusted
from rollup_operator.stores.opensearch.transport.request import NotSent, Request
from rollup_operator.stores.opensearch.transport.wire import Wire

JSON = "application/json"
NDJSON = "application/x-ndjson"

OPAQUE_ID = "rollup-operator"
"""Names requests that belong to no run."""

OF_RUN = "rollup/"
"""Begins the names of requests that belong to a run."""

LARGEST_REQUEST = 8 * 2**20
"""The bytes of a bulk, until something on the way turns out to accept fewer."""

SHUN_SECONDS = 5.0
"""How long a host is skipped after a failed connection; twice as long after each further failure."""

SHUN_SECONDS_MOST = 300.0

REMEMBERED = 10_000
"""The number of latest runs for which it is known whether a request may lie unread."""

RENEW_SECONDS = 1.0
"""Seconds between two checks whether the credentials have changed."""


@dataclass(slots=True)
class CallUnderWay:
    """A current request."""

    doing: str
    opaque_id: str
    began: float


@dataclass(slots=True)
class Host:
    """A base URL, and whether it could be connected to."""

    url: str
    failures: int = 0
    shunned_until: float = 0.0

    def shun(self, now: float) -> None:
        """Skip it for a while, longer after each failure."""
        self.shunned_until = now + min(SHUN_SECONDS * 2**self.failures, SHUN_SECONDS_MOST)
        self.failures = min(self.failures + 1, 32)

    def welcome(self) -> None:
        """It has answered."""
        self.failures, self.shunned_until = 0, 0.0


@dataclass(eq=False, slots=True)
class UsedSession:
    """A session and how many calls use it."""

    session: aiohttp.ClientSession
    calls: int = 0


@dataclass
class Cluster:
    """A cluster behind some hosts; requests use the first host that can be connected to."""

    hosts: tuple[str, ...]
    """Base URLs without a slash at the end."""
    make_session: Callable[[], Awaitable[aiohttp.ClientSession]]
    """Makes the HTTP session when it is first needed, or needed again."""
    is_stale: Callable[[], Awaitable[bool]] | None = None
    """Called after a refusal: whether a new session would differ; None: it never does."""
    may_run: Callable[[], bool] = lambda: True
    """Called before each request of a run is sent, by any part of the run: False means that none may."""
    timeout: float = 60.0
    """Seconds that an answer may take if the call does not say."""
    answers: Account = field(default_factory=unbounded)
    """Bytes that current answers may take, except pages and searches."""
    redact: Callable[[str], str] = str
    """Removes credentials from a text that may come from a host."""
    whose_login: Callable[[], str] = str
    """Says which login the cluster has refused, and what to do; empty: its own words say that."""
    pages: Account = field(default_factory=unbounded)
    """Bytes that pages may take, and the documents made of them."""
    searches: Account = field(default_factory=unbounded)
    """Bytes that answers for users' searches may take: those of a slow cluster must not be in the way of runs."""
    largest_request: int = LARGEST_REQUEST
    """How many bytes a bulk should have at most."""
    clock: Callable[[], float] = time.monotonic
    send: Callable[[Request, aiohttp.ClientSession, str, Wire], Awaitable[Any]] = Request.send
    """Sends a request to the host with this base URL, and reports its outcome to the Wire."""
    _under_way: dict[int, CallUnderWay] = field(default_factory=dict, repr=False)
    _unread: dict[str, None] = field(default_factory=dict, repr=False)
    _count: int = 0
    _lines: set[UsedSession] = field(default_factory=set, repr=False)
    _line: UsedSession | None = field(default=None, repr=False)
    """The newest. Others go with the last call that uses them."""
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _renewed_at: float = float("-inf")
    _runs: int = 0
    _retired: bool = False
    _closed: bool = False

    def __post_init__(self) -> None:
        self._hosts = [Host(url) for url in self.hosts]

    async def call(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        params: Mapping[str, str] | None = None,
        body: bytes | Mapping[str, Any] | None = None,
        opaque_id: str = OPAQUE_ID,
        timeout: float | None = None,
        longest: int = SMALL,
        parse: Callable[[bytes], Any] = whole,
        page: Held | None = None,
        room: Account | None = None,
    ) -> Value:
        """Return the answer's JSON; `parse` reads answers that are no errors.

        `path` begins with a slash, its parts quoted by `name`: it is sent as it is. `body`: bytes are sent as lines of
        JSON (NDJSON). `doing` says in a few words what it is for. `timeout` in seconds. `longest`: bytes that the
        answer may have. `page`: what those bytes are part of; else they are taken from `room`, or from `answers`.

        Raises Unanswered, SecretInvalid, Overloaded for an answer that is too long, or what `errors.classify` makes of
        the answer.
        """
        query = f"?{urlencode(params, quote_via=quote)}" if params else ""
        headers = {"X-Opaque-Id": opaque_id}
        data: bytes | None = None
        if body is not None:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            headers["Content-Type"] = NDJSON if isinstance(body, bytes) else JSON
        patience = timeout or self.timeout
        request = Request(
            method,
            path + query,
            headers,
            data,
            doing,
            patience,
            longest,
            parse,
            page=page,
            room=room or self.answers,
            redact=self.redact,
        )
        self._count += 1
        number = self._count
        self._under_way[number] = CallUnderWay(doing, opaque_id, self.clock())
        try:
            return Value(await self._renewing(request), doing)
        except Unauthorized as e:
            if e.status == 401 and (cure := self.whose_login()):
                raise Unauthorized(f"{e}: {cure}", status=e.status, kind=e.kind) from e
            raise
        finally:
            del self._under_way[number]

    def in_flight(self, opaque_id: str) -> str | None:
        """Say what is in progress with this id, for example `searching events-* for 3.2 s`; None: nothing."""
        now = self.clock()
        parts = [f"{c.doing} for {now - c.began:.1f} s" for c in self._under_way.values() if c.opaque_id == opaque_id]
        return ", ".join(parts) or None

    def is_unread(self, opaque_id: str) -> bool:
        """Whether a request with this id may lie in the socket of a node that has not read it, and begin later."""
        return opaque_id in self._unread

    @property
    def is_closed(self) -> bool:
        """Whether all connections are closed for good."""
        return self._closed

    def shrink_requests(self, size: int) -> None:
        """Take note that a larger request was refused for its size."""
        self.largest_request = max(1, min(self.largest_request, size))

    def begin_run(self) -> None:
        """Keep the session for a run, retired or not: the Secrets may be gone by the time that the run ends."""
        self._runs += 1

    async def end_run(self) -> None:
        """The run is over. As often as `begin_run`."""
        self._runs -= 1
        if self._retired and self._line is not None:
            await self._tidy(self._line)

    async def retire(self) -> None:
        """Close connections that no call or run needs. Calls are still possible."""
        self._retired = True
        if self._line is not None:
            await self._tidy(self._line)

    async def close(self) -> None:
        """Close all connections. Current calls end with Unanswered."""
        self._closed = True
        for line in tuple(self._lines):
            await line.session.close()

    async def _renewing(self, request: Request) -> Any:
        """Send it, and again if the cluster refuses the credentials and they have changed meanwhile."""
        line = await self._current()
        try:
            return await self._over(line, request)
        except (Unauthorized, Untrusted):
            if not await self._renew(line):
                raise
        except Cut:
            # Some servers close a connection without a message if they do not trust its certificate.
            with contextlib.suppress(StoreError):  # that the request may have been carried out is what counts
                await self._renew(line)
            raise
        return await self._over(await self._current(), request)

    async def _over(self, line: UsedSession, request: Request) -> Any:
        line.calls += 1
        try:
            return await self._ask_hosts(line.session, request)
        finally:
            line.calls -= 1
            await self._tidy(line)

    async def _current(self) -> UsedSession:
        async with self._lock:
            if self._closed:
                raise StoreUnavailable("the store was closed")
            if self._line is None:
                self._line = UsedSession(await self.make_session())
                self._lines.add(self._line)
            return self._line

    async def _renew(self, line: UsedSession) -> bool:
        """Return whether calls go over another session than `line` now. Raises SecretInvalid."""
        async with self._lock:
            if self._line is not line:
                return True
            if self.is_stale is None or self.clock() - self._renewed_at < RENEW_SECONDS:
                return False
            self._renewed_at = self.clock()
            if not await self.is_stale():
                return False
            self._line = None
        await self._tidy(line)
        return True

    async def _tidy(self, line: UsedSession) -> None:
        """Close a session that no call uses or will."""
        if line.calls:
            return
        if self._retired and not self._runs and self._line is line:
            self._line = None
        if self._line is not line:
            self._lines.discard(line)
            await line.session.close()

    async def _ask_hosts(self, session: aiohttp.ClientSession, request: Request) -> Any:
        failures: list[StoreError] = []
        for host in self._in_turn():
            owner = request.headers["X-Opaque-Id"]
            if (of_run := owner.startswith(OF_RUN)) and not self.may_run():
                raise StoreUnavailable("this process no longer leads: nothing more of its runs is sent")
            wire = Wire(waits=owner != OPAQUE_ID)
            try:
                answer = await self.send(request, session, host.url, wire)
            except NotSent as e:
                host.shun(self.clock())
                failures.append(e.error)
            else:
                host.welcome()
                return answer
            finally:
                if of_run and wire.unread:
                    self._note_unread(owner)
        raise next((e for e in failures if isinstance(e, Untrusted)), failures[-1])

    def _note_unread(self, opaque_id: str) -> None:
        self._unread[opaque_id] = None
        if len(self._unread) > REMEMBERED:
            del self._unread[next(iter(self._unread))]

    def _in_turn(self) -> list[Host]:
        """Return the hosts in the order in which to try them; skipped ones come last, as they may be back."""
        now = self.clock()
        ready = [host for host in self._hosts if host.shunned_until <= now]
        if ready and ready[0].failures:
            ready[0].shunned_until = now + SHUN_SECONDS  # one call finds out, and the others need not wait for it
        return ready + sorted((h for h in self._hosts if h not in ready), key=lambda h: h.shunned_until)


def name(text: str) -> str:
    """Quote one part of a path: an index, an expression of indices, an id."""
    return quote(text, safe="*,-_.")
