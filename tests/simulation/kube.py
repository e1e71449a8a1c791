"""What one replica has of the API server: a client like `kube.client.KubeClient`, and watches as kopf runs them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rollup_operator.kube.client import Body, KubeError, Unreachable
from simulation.api_server import LEASES, ApiServer, Change
from simulation.clock import Clock, ProcessLoop
from simulation.endpoint import CALLER, Asked
from simulation.network import Fate, Way

PAGE = 1
"""Objects in one page of a list: few, so that a list takes several requests."""

PATIENCE = 15.0
"""Seconds after which the client gives a request up."""

WATCH_SECONDS = 60.0


@dataclass(slots=True)
class Look:
    """A GET of one object."""

    sent: float
    name: str
    answered: float | None = None


class Link:
    """The connections of one replica to the API server."""

    def __init__(self, server: ApiServer, clock: Clock, loop: ProcessLoop, way: Way, name: str) -> None:
        self.server, self.clock, self.loop, self.way, self.name = server, clock, loop, way, name
        self.cut = False
        """The replica reaches nothing, and nothing reaches it."""
        self.watches: list[Watch] = []
        self.looks: list[Look] = []
        self.sent: dict[asyncio.Future[Any], float] = {}
        """The requests that somebody waits for, and when they were sent."""

    def set_cut(self, cut: bool) -> None:
        """Break all connections, or let them come back."""
        self.cut = cut
        for watch in self.watches:
            watch.broken() if cut else watch.resume()


class KubeDouble:
    """A client. Its requests may be lost, held up, or carried out though nobody waits for the answer any more."""

    def __init__(
        self, link: Link, about_to_write: Callable[[str, str], None], applied: Callable[[Asked, Body], None]
    ) -> None:
        """`about_to_write` is called with method and path when a write of this replica is sent.

        `applied` is called when a client's write is carried out, with what the job was before.
        """
        self._link, self._about_to_write, self._applied = link, about_to_write, applied

    async def get(self, path: str, **params: str) -> Body:
        plural, name, _ = parts(path)
        link, look = self._link, Look(self._link.clock.now, name)
        link.looks.append(look)
        body: Body = await self._call(lambda server: server.get(plural, name))
        look.answered = link.clock.now
        return body

    async def pages(self, path: str, *, metadata_only: bool = False) -> AsyncIterator[Body]:
        """All pages show the moment of the first."""
        plural, _, _ = parts(path)
        revision, items = await self._call(lambda server: (server.revision, server.all(plural)))
        if metadata_only:
            items = [{"metadata": body["metadata"]} for body in items]
        for begin in range(0, max(1, len(items)), PAGE):
            if begin:
                await self._call(lambda server: None)
            yield {"items": items[begin : begin + PAGE], "metadata": {"resourceVersion": str(revision)}}

    async def post(self, path: str, body: Mapping[str, Any], *, manager: str = "") -> Body:
        plural, _, _ = parts(path)
        return await self._write("POST", path, lambda server, by: server.create(plural, body, by))

    async def put(self, path: str, body: Mapping[str, Any]) -> Body:
        plural, name, sub = parts(path)
        if sub == "status":
            return await self._write("PUT", path, lambda server, by: server.replace_status(plural, name, body, by))
        return await self._write("PUT", path, lambda server, by: server.replace(plural, name, body, by))

    async def patch(self, path: str, body: Mapping[str, Any], *, manager: str = "") -> Body:
        plural, name, _ = parts(path)
        return await self._write("PATCH", path, lambda server, by: server.merge_status(plural, name, body, by))

    async def json_patch(self, path: str, operations: list[dict[str, Any]]) -> Body:
        plural, name, _ = parts(path)
        return await self._write("PATCH", path, lambda server, by: server.json_patch(plural, name, operations, by))

    async def apply(self, path: str, body: Mapping[str, Any], *, manager: str, force: bool = True) -> Body:
        plural, name, _ = parts(path)
        caller = CALLER.get()

        def carry_out(server: ApiServer) -> Body:
            before = server.find(plural, name)
            answer = server.apply(plural, name, body, manager)
            if caller is not None:
                caller.carried_out = True
                if before is not None:
                    self._applied(caller, before)
            return answer

        return await self._call(carry_out)

    async def watch(self, path: str, *, since: str, **params: str) -> AsyncGenerator[tuple[str, Body], None]:
        """A watch of the leases: what is there, then each change."""
        link, events = self._link, asyncio.Queue[tuple[str, Body]]()
        if link.cut:
            raise Unreachable("the watch broke off", sent=False)

        def changed(change: Change) -> None:
            if change.plural == LEASES and not link.cut:
                link.clock.after(link.way.latency(), events.put_nowait, (change.type, change.body))

        await self._call(lambda server: server.watchers.setdefault(changed))
        try:
            for body in link.server.all(LEASES):
                yield "ADDED", body
            try:
                async with asyncio.timeout(WATCH_SECONDS):
                    while True:
                        yield await events.get()
            except TimeoutError:
                return
        finally:
            link.server.watchers.pop(changed, None)

    # Inside

    async def _write(self, method: str, path: str, carry_out: Callable[[ApiServer, str], Body]) -> Body:
        self._about_to_write(method, path)
        name = self._link.name
        return await self._call(lambda server: carry_out(server, name))

    async def _call(self, carry_out: Callable[[ApiServer], Any]) -> Any:
        link = self._link
        clock, way, fate = link.clock, link.way, link.way.fate()
        future: asyncio.Future[Any] = link.loop.create_future()
        began = clock.now
        if link.loop.dead or fate is Fate.REFUSED or (link.cut and way.happens(0.5)):
            error = Unreachable("cannot connect", sent=False)
            clock.after(way.latency(), _settle, future, None, error)
        elif fate is Fate.FAILED:
            clock.after(2 * way.latency(), _settle, future, None, KubeError(500, "InternalError", "etcd has no leader"))
        elif fate is Fate.LOST or link.cut:
            clock.after(way.random.choice((0.01, PATIENCE)), _settle, future, None, Unreachable("cut off", sent=True))
        else:
            delay = way.lateness() if fate in (Fate.LATE, Fate.STRAY) else way.latency()
            if fate is Fate.STRAY:
                clock.after(way.latency(), _settle, future, None, Unreachable("the connection broke off", sent=True))
            clock.after(delay, self._arrive, future, carry_out, fate)
            if delay + 1 > PATIENCE:
                clock.at(began + PATIENCE, _settle, future, None, Unreachable("no answer in time", sent=True))
        link.sent[future] = began
        try:
            return await future
        finally:
            del link.sent[future]

    def _arrive(self, future: asyncio.Future[Any], carry_out: Callable[[ApiServer], Any], fate: Fate) -> None:
        link = self._link
        answer: Any = None
        error: Exception | None = None
        try:
            answer = carry_out(link.server)
        except KubeError as e:
            error = e
        if fate is Fate.UNANSWERED or link.cut:
            delay = link.way.random.choice((0.01, PATIENCE))
            link.clock.after(delay, _settle, future, None, Unreachable("the answer was lost", sent=True))
        else:
            link.clock.after(link.way.latency(), _settle, future, answer, error)


class Watch:
    """A watch of one resource, as kopf runs it: first a list, then each change, in order for each uid only.

    Where it breaks off it goes on from the last version that it brought. Where that is too long ago (410), it lists
    again: then nobody hears of what was deleted meanwhile.
    """

    def __init__(self, link: Link, plural: str, deliver: Callable[[str, Body], None]) -> None:
        """`deliver` takes the event's type (empty: listed) and the body, within the process."""
        self._link, self.plural, self._deliver = link, plural, deliver
        self._open = False
        self.misses = 0
        """Of how many changes to come it says nothing."""
        self._seen = 0
        self._due: dict[str, float] = {}
        link.watches.append(self)

    def begin(self) -> None:
        """List, then watch."""
        server = self._link.server
        self._open = True
        self._seen = server.revision
        server.watchers[self._changed] = None
        for body in server.all(self.plural):
            self._send("", body)

    def end(self) -> None:
        """The process is no more."""
        self.broken()

    def broken(self) -> None:
        """The connection ends; changes from now on are not heard of."""
        self._open = False
        self._link.server.watchers.pop(self._changed, None)

    def resume(self, *, expired: bool = False) -> None:
        """Begin again where it broke off, or with a list."""
        if self._open or self._link.loop.dead:
            return
        missed = [c for c in self._link.server.log if c.revision > self._seen]
        if expired or self._seen > self._link.server.revision:
            self.begin()
            return
        self._open = True
        self._link.server.watchers[self._changed] = None
        for change in missed:
            self._changed(change)

    def _changed(self, change: Change) -> None:
        self._seen = change.revision
        if change.plural == self.plural:
            if self.misses:
                self.misses -= 1
                return
            if self._link.way.happens(self._link.way.weather.drops):
                return
            self._send(change.type, change.body)
            if self._link.way.happens(self._link.way.weather.repeats):
                self._send(change.type, change.body)

    def _send(self, type_: str, body: Body) -> None:
        link, uid = self._link, body["metadata"]["uid"]
        lag = link.way.random.choice(link.way.weather.watch_lags)
        due = self._due[uid] = max(self._due.get(uid, 0.0), link.clock.now + lag)
        link.clock.at(due, self._arrive, type_, body)

    def _arrive(self, type_: str, body: Body) -> None:
        if not self._link.loop.dead:
            self._link.loop.call_soon(self._deliver, type_, body)


@lru_cache(maxsize=256)
def parts(path: str) -> tuple[str, str, str]:
    """Return plural, name and subresource of a path; empty where it has none."""
    _, _, rest = path.partition("/namespaces/")
    pieces = rest.split("/")[1:] if rest else path.strip("/").split("/")[3:]
    return pieces[0], pieces[1] if len(pieces) > 1 else "", pieces[2] if len(pieces) > 2 else ""


def _settle(future: "asyncio.Future[Any]", answer: Any, error: Exception | None) -> None:
    if future.done() or future.get_loop().dead:  # type: ignore[attr-defined]
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answer)
