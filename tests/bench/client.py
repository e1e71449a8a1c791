"""A quick client: one session to the API server, and one group's RollupJobs with a watch that notes when what came.

Its own time is in every figure, so it does little: compact JSON, no polling.
"""

import asyncio
import json
import re
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from local_control_plane import ControlPlane

_CREATE = {"Content-Type": "application/json"}
_MERGE = {"Content-Type": "application/merge-patch+json"}
_WRITES = {"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}
_LABEL = re.compile(r'(\w+)="([^"]*)"')

now = time.perf_counter


@dataclass(frozen=True)
class Writes:
    """How often something was written: to the group's resources, and events beside."""

    own: int = 0
    events: int = 0

    def __add__(self, other: "Writes") -> "Writes":
        return Writes(self.own + other.own, self.events + other.events)

    def __sub__(self, other: "Writes") -> "Writes":
        return Writes(self.own - other.own, self.events - other.events)


class Server:
    """The API server, as its admin."""

    def __init__(self, plane: ControlPlane) -> None:
        self._session = aiohttp.ClientSession(
            plane.server,
            headers={"Authorization": f"Bearer {plane.token()}"},
            connector=aiohttp.TCPConnector(
                ssl=ssl.create_default_context(cafile=plane.ca), limit=0, keepalive_timeout=80
            ),
            timeout=aiohttp.ClientTimeout(total=60),
        )

    async def close(self) -> None:
        await self._session.close()

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Return the answer's text. Raises RuntimeError for a status of 300 and above."""
        data = None if body is None else orjson.dumps(body)
        async with self._session.request(method, path, data=data, headers=headers) as answer:
            text = await answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
            return text

    async def create(self, path: str, body: object) -> bytes:
        return await self.call("POST", path, body, _CREATE)

    def stream(self, path: str, params: Mapping[str, str]) -> Any:
        """Open an answer that does not end."""
        return self._session.get(path, params=params, timeout=aiohttp.ClientTimeout(total=None))

    async def requests(self, group: str) -> Counter[tuple[bool, str]]:
        """Count the requests so far by (whether it is for events, else for the group's resources) and verb.

        Refused ones are included.
        """
        count: Counter[tuple[bool, str]] = Counter()
        for line in (await self.call("GET", "/metrics")).decode().splitlines():
            if line.startswith("apiserver_request_total{"):
                labels = dict(_LABEL.findall(line))
                of_events = labels["resource"] == "events"
                if labels["group"] == group or of_events:
                    count[of_events, labels["verb"]] += int(float(line.rsplit(" ", 1)[1]))
        return count

    async def writes(self, group: str) -> "Writes":
        """Count those of them that write."""
        count = Writes()
        for (of_events, verb), number in (await self.requests(group)).items():
            if verb in _WRITES:
                count += Writes(0, number) if of_events else Writes(number, 0)
        return count

    async def await_events(self, group: str, seconds: float = 2.0, limit: float = 150.0) -> None:
        """Return once no event has been posted for a while: they come at a pace, long after what they tell of."""
        end = now() + limit
        before = await self.writes(group)
        while now() < end:
            await asyncio.sleep(seconds)
            if (after := await self.writes(group)).events == before.events:
                return
            before = after

    async def await_applies(self, group: str, seconds: float = 2.0, limit: float = 60.0) -> None:
        """Return once nothing has been applied for a while. Raises TimeoutError."""
        applied, before = (False, "APPLY"), -1
        async with asyncio.timeout(limit):
            while (after := (await self.requests(group))[applied]) != before:
                before = after
                await asyncio.sleep(seconds)


class Jobs:
    """The RollupJobs of one group in the namespace `default`, seen through one watch."""

    def __init__(self, server: Server, group: str, spec: Callable[[str], Mapping[str, Any]]) -> None:
        self.server, self.group = server, group
        self.path = f"/apis/{group}/v1alpha1/namespaces/default/rollupjobs"
        self._spec = spec
        self.state: dict[str, tuple[str, bool]] = {}
        """By name: what is asked for, and whether it is so."""
        self.echoed: dict[tuple[str, int], float] = {}
        """When the watch first showed this generation of a job."""
        self.done: dict[tuple[str, int], float] = {}
        """When the watch first showed that the status had reached this generation of a job."""
        self.own_writes = 0
        self.dropped_watches = 0
        self.last_event = now()
        self._waiting: dict[tuple[str, int], asyncio.Future[float]] = {}
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to watch."""
        listed = orjson.loads(await self.server.call("GET", f"{self.path}?limit=1"))
        opened = asyncio.Event()
        self._watch = asyncio.create_task(self._keep_watching(listed["metadata"]["resourceVersion"], opened))
        waiting = asyncio.create_task(opened.wait())
        await asyncio.wait((self._watch, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not opened.is_set():
            waiting.cancel()
            await self._watch  # it failed before it began to watch

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    # Writes

    async def create(self, name: str) -> None:
        body = {
            "apiVersion": f"{self.group}/v1alpha1",
            "kind": "RollupJob",
            "metadata": {"name": name},
            "spec": {"desiredState": "started", **self._spec(name)},
        }
        await self.server.create(self.path, body)
        self.own_writes += 1

    async def ask(self, name: str, state: str) -> tuple[float, float, int]:
        """Ask for a state; return when that was sent, when it was answered, and the generation it made."""
        sent = now()
        text = await self.server.call("PATCH", f"{self.path}/{name}", {"spec": {"desiredState": state}}, _MERGE)
        answered = now()
        self.own_writes += 1
        return sent, answered, orjson.loads(text)["metadata"]["generation"]

    # Waiting

    async def until_done(self, name: str, generation: int, timeout: float = 60.0) -> float:
        """Return when the watch showed that the status had reached that generation. Raises TimeoutError."""
        if (seen := self.done.get((name, generation))) is not None:
            return seen
        future = self._waiting[name, generation] = asyncio.get_running_loop().create_future()
        return await asyncio.wait_for(future, timeout)

    async def all_started(self, names: Iterable[str], timeout: float = 600.0) -> None:
        """Start those jobs that are not."""
        asked: list[tuple[str, int]] = []

        async def start(name: str) -> None:
            asked.append((name, (await self.ask(name, "started"))[2]))

        await at_once([name for name in names if self.state.get(name) != ("started", True)], start, 50)
        await asyncio.gather(*(self.until_done(name, generation, timeout) for name, generation in asked))
        await self.quiet()

    async def quiet(self, seconds: float = 0.5, limit: float = 60.0) -> None:
        """Return once nothing has come for a while."""
        end = now() + limit
        while (left := min(end, self.last_event + seconds) - now()) > 0:  # noqa: ASYNC110  # an Event would cost more
            await asyncio.sleep(left)

    # The watch

    async def _keep_watching(self, version: str, opened: asyncio.Event) -> None:
        while True:  # the API server closes a watch whose reader is too slow for it
            params = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "3600"}
            async with self.server.stream(self.path, params) as answer:
                if answer.status == 429:  # the API server still prepares to store a resource that is new to it
                    await asyncio.sleep(0.2)
                    continue
                answer.raise_for_status()
                opened.set()
                rest = b""
                async for chunk in answer.content.iter_any():
                    self.last_event = at = now()
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        version = self._take(orjson.loads(line), at)
            self.dropped_watches += 1

    def _take(self, event: dict[str, Any], at: float) -> str:
        body = event["object"]
        if event["type"] == "ERROR":
            raise RuntimeError(f"the watch failed: {json.dumps(body)}")
        meta, status = body["metadata"], body.get("status") or {}
        name, generation, asked = meta["name"], meta["generation"], body["spec"]["desiredState"]
        done = status.get("state") == asked and status.get("observedGeneration", -1) >= generation
        if event["type"] == "DELETED":
            self.state.pop(name, None)
        else:
            self.state[name] = asked, done
            self.echoed.setdefault((name, generation), at)
        if done:
            self.done.setdefault((name, generation), at)
            if (future := self._waiting.pop((name, generation), None)) is not None and not future.done():
                future.set_result(at)
        version: str = meta["resourceVersion"]
        return version


async def at_once(names: Iterable[str], work: Callable[[str], Awaitable[None]], width: int) -> None:
    """Do the work for each name, `width` at a time."""
    left = iter(names)

    async def lane() -> None:
        for name in left:
            await work(name)

    await asyncio.gather(*(lane() for _ in range(width)))


class WriteCount:
    """What the operator wrote between two moments: all that the API server counted, less what the bench itself did."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._mark = Writes()

    async def begin(self) -> None:
        self._mark = await self._others()

    async def end(self) -> Writes:
        """Return what came since `begin`."""
        return await self._others() - self._mark

    async def _others(self) -> Writes:
        return await self._jobs.server.writes(self._jobs.group) - Writes(own=self._jobs.own_writes)
