"""Reads the body of a call once the caller has the right to make it, within limits, and parses it as JSON.

All bodies in transit share a budget, divided among callers. Parsed JSON takes up to sixty times its bytes; it counts
apart, and only until the call has made of it what it needs.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import orjson
from aiohttp import web

from rollup_operator.http.access.permits import CALLER
from rollup_operator.http.listener.connections import ask_for_body
from rollup_operator.http.protocol import errors
from rollup_operator.http.protocol.dialects import Dialect
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.protocol.media_types import check_body, check_encoding
from rollup_operator.http.protocol.positioned_json import Node, NotJson, read_json
from rollup_operator.http.protocol.turns import Turn, Turns
from rollup_operator.sharing.shares import Shares

T = TypeVar("T")

LARGE = 8 * 1024
"""Bodies of this many bytes or more are parsed in the thread: other calls must not wait for them."""

LARGE_JOB = 2 * 1024
"""The same where each value's position is noted, which takes thirty times as long."""

REST = 3.0
"""How many times as long as it took for a body the thread rests after it: while a thread computes, the event loop waits
for it at each of its reads and writes."""

PARSED = 64
"""Bytes of memory that one byte of JSON may take once it is parsed."""


def json_object(data: bytes) -> Mapping[str, Any]:
    """Parse a body that may be empty, and then is an object without members. Raises ApiError 400."""
    if not data.strip():
        return {}
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        raise ApiError(400, "x_content_parse_exception", f"[{e.lineno}:{e.colno}] {e.msg}") from e
    if not isinstance(found, dict):
        raise ApiError(400, "parsing_exception", "Unknown key for a VALUE: the body must be a JSON object")
    return found


class Bodies:
    """Reads bodies of at most `most` bytes after decompression that arrive within `seconds`."""

    def __init__(self, *, most: int, seconds: float, memory: int) -> None:
        """`memory`: bytes that all bodies may take; what is parsed of them may take as much again."""
        self._most, self._seconds = most, seconds
        what = "Request bodies of this user take all the memory of their share"
        self._reading = Turns(what, Shares(memory), seconds=seconds)
        self._parsing = Turns(what, Shares(memory), seconds=seconds)
        # More than one thread is not faster in Python, and each takes turns from the event loop.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bodies")
        self._turns = Turns("Request bodies of this user take all the time of their share", Shares(1), seconds=seconds)

    async def make(self, request: web.Request, dialect: Dialect, make: Callable[[Node], T]) -> T:
        """Read the JSON of a request, which must have some, and return what `make` makes of it.

        Raises ApiError as `read` does, and 400 for a body that is not JSON.
        """

        def made(data: bytes) -> T:
            try:
                root = read_json(data)
            except NotJson as e:
                raise ApiError(400, dialect.malformed_json_error, f"[{e.at}] {e}") from e
            return make(root)

        return await self.read(request, made, large=LARGE_JOB)

    async def read(
        self,
        request: web.Request,
        make: Callable[[bytes], T],
        *,
        lines: bool = False,
        needed: bool = True,
        large: int = LARGE,
    ) -> T:
        """Read a body, and return what `make` makes of it. `lines`: it may be of one JSON text a line.

        `large`: the bytes from which on the thread makes it.

        Raises ApiError: 415 for an unknown compression, 413 for too many bytes, 408 for a body that is too slow, 429
        for more than the caller's share, 400 where there is none although one is `needed`; and what `make` raises.
        """
        if not (needed or request.body_exists):
            return make(b"")
        caller = request[CALLER].name
        declared = None if "Content-Encoding" in request.headers else request.content_length
        check_encoding(request)
        if (declared or 0) > self._most:
            raise errors.too_large(self._most)
        async with self._reading.turn(caller, self._most if declared is None else declared):
            data = await read_within(request, self._most, self._seconds)
            if data.strip():
                check_body(request, lines=lines)
            elif needed:
                raise ApiError(400, "parse_exception", "request body is required")
            async with self._parsing.turn(caller, PARSED * len(data)):
                if len(data) < large:
                    return make(data)
                async with self._turns.turn(caller) as turn:
                    return await self._in_thread(make, data, turn)

    async def _in_thread(self, make: Callable[[bytes], T], data: bytes, turn: Turn) -> T:
        took = 0.0

        def timed() -> T:
            nonlocal took
            began = time.monotonic()
            try:
                return make(data)
            finally:
                took = time.monotonic() - began

        work = asyncio.get_running_loop().run_in_executor(self._thread, timed)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            with suppress(Exception):  # it ends soon, and until then it has the turn
                await work
            raise
        finally:
            turn.rest(REST * took)

    async def refuse(self, request: web.Request) -> None:
        """Return if the body is missing or empty. Raises ApiError 400 at its first byte, and 408."""
        if not request.body_exists:
            return
        try:
            async with asyncio.timeout(self._seconds):
                if (request.content_length or 0) > 0 or await request.content.read(1):
                    raise errors.needless_body(request.method, request.path)
        except TimeoutError:
            raise errors.too_slow(self._seconds) from None


async def read_within(request: web.Request, most: int, seconds: float) -> bytes:
    """Return a body of at most `most` bytes that arrives within so many seconds.

    The request object would keep it until the end of the request. Raises ApiError: 413 for more bytes, 408 for a body
    that is too slow.
    """
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            await ask_for_body(request)
            async for part in request.content.iter_any():
                if (size := size + len(part)) > most:
                    raise errors.too_large(most)
                parts.append(part)
    except TimeoutError:
        raise errors.too_slow(seconds) from None
    return b"".join(parts)
