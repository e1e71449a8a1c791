"""The HTTP client of one cluster: one request, one answer or one classified error.

Every request carries `X-Opaque-Id`, by which the cluster's task list names whose it is. A cancelled call closes its
connection, which makes the cluster cancel a search, but not a bulk.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from rollup_operator.stores.base import StoreUnavailable
from rollup_operator.stores.opensearch.errors import Unanswered, classify

JSON = "application/json"
NDJSON = "application/x-ndjson"

CONNECT_SECONDS = 10.0


@dataclass(slots=True)
class Call:
    """A request under way."""

    doing: str
    opaque_id: str | None
    began: float


@dataclass
class Cluster:
    """A cluster behind some hosts. `session` makes the HTTP session when it is first needed, or needed anew."""

    hosts: tuple[str, ...]
    """Base URLs without a slash at the end. A host that cannot be reached is passed over for the next."""
    make_session: Callable[[], Awaitable[aiohttp.ClientSession]]
    timeout: float = 60.0
    """Seconds that an answer may take where the call does not say."""
    _under_way: dict[int, Call] = field(default_factory=dict, repr=False)
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)
    _host: int = 0
    _count: int = 0

    async def call(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        params: Mapping[str, str] | None = None,
        body: bytes | Mapping[str, Any] | None = None,
        opaque_id: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Return the answer's JSON.

        `path` begins with a slash, its parts quoted by `name`. `body`: bytes are sent as lines of JSON (NDJSON).
        `doing` says in a few words what it is for. `timeout` in seconds.

        Raises Unanswered, or what `errors.classify` makes of the answer.
        """
        self._count += 1
        number = self._count
        self._under_way[number] = Call(doing, opaque_id, time.monotonic())
        try:
            return await self._call(method, path, doing, params, body, opaque_id, timeout or self.timeout)
        finally:
            del self._under_way[number]

    def in_flight(self, opaque_id: str) -> str | None:
        """Say what is under way with this id, for instance `searching events-* for 3.2 s`; None: nothing."""
        now = time.monotonic()
        parts = [f"{c.doing} for {now - c.began:.1f} s" for c in self._under_way.values() if c.opaque_id == opaque_id]
        return ", ".join(parts) or None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _call(
        self,
        method: str,
        path: str,
        doing: str,
        params: Mapping[str, str] | None,
        body: bytes | Mapping[str, Any] | None,
        opaque_id: str | None,
        timeout: float,
    ) -> Any:
        if self._session is None:
            self._session = await self.make_session()
        headers = {"X-Opaque-Id": opaque_id} if opaque_id is not None else {}
        data: bytes | None = None
        if body is not None:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            headers["Content-Type"] = NDJSON if isinstance(body, bytes) else JSON
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS)
        last: Exception | None = None
        for turn in range(len(self.hosts)):
            host = self.hosts[(self._host + turn) % len(self.hosts)]
            try:
                async with self._session.request(
                    method, host + path, params=params, data=data, headers=headers, timeout=limits
                ) as answer:
                    self._host = (self._host + turn) % len(self.hosts)
                    return _read(answer.status, await answer.read(), doing)
            except aiohttp.ClientConnectorError as e:
                last = e  # nothing was sent: another host may answer
            except TimeoutError as e:
                raise Unanswered(f"{doing}: no answer within {timeout:g} s", sent=True) from e
            except (aiohttp.ClientError, OSError) as e:
                raise Unanswered(f"{doing}: {str(e) or type(e).__name__}", sent=True) from e
        raise Unanswered(f"{doing}: {last}", sent=False) from last


def name(text: str) -> str:
    """Quote one part of a path: an index, an expression of indices, an id."""
    return quote(text, safe="*,-_.")


def _read(status: int, raw: bytes, doing: str) -> Any:
    try:
        data = orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError as e:
        if status < 400:
            raise StoreUnavailable(f"{doing}: the answer is no JSON; does the host lead to a cluster?") from e
        data = None
    if status >= 400:
        raise classify(status, data, doing)
    return data
