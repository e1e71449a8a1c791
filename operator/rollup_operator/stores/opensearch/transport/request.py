"""One HTTP request to one host: sent once, its answer read within limits, its failure classified."""

import asyncio
import io
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from yarl import URL

from rollup_operator.sharing.shares import Account, Held, unbounded
from rollup_operator.stores.errors import StoreError, StoreUnavailable
from rollup_operator.stores.host_rules import HostNotAllowed
from rollup_operator.stores.opensearch.transport import answers
from rollup_operator.stores.opensearch.transport.errors import (
    TOO_LONG,
    Cut,
    Odd,
    Overloaded,
    Unanswered,
    Untrusted,
    classify,
)
from rollup_operator.stores.opensearch.transport.wire import Wire

CONNECT_SECONDS = 5.0

ROOM_SECONDS = 10.0
"""How long an answer that has begun waits for room to be read."""

_AT_ONCE = 2**18
"""Bytes of an answer that are taken before it is asked whether more of them fit: what is compressed may grow a
thousandfold as it is read."""

_SENT_AT_ONCE = 2**20
"""The longest body that is sent in one piece: a larger one would hold the event loop."""


class NotSent(Exception):
    """No connection was made, so another host may be tried. `error` is what to raise if there is none."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Request:
    """The request to send, to any host."""

    method: str
    target: str
    """Path and query, quoted."""
    headers: Mapping[str, str]
    data: bytes | None
    doing: str
    timeout: float
    longest: int = answers.SMALL
    """Bytes that the answer may have after decompression."""
    parse: Callable[[bytes], Any] = answers.whole
    page: Held | None = None
    """What the answer's bytes are part of; None: they are taken from `room` while it is read."""
    room: Account = field(default_factory=unbounded)
    redact: Callable[[str], str] = str
    """For each text that may come from the other side."""

    async def send(self, session: aiohttp.ClientSession, host: str, wire: Wire) -> Any:
        """Return the answer's JSON. Raises NotSent, Unanswered, or what `classify` makes of the answer.

        If cancelled, it ends when the other end has read that; `wire` knows whether it has.
        """
        try:
            return await wire.carry(self._exchange(session, host))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as e:
            raise NotSent(self._not_sent(e, host)) from e
        except TimeoutError as e:
            raise Unanswered(f"{self.doing}: no answer within {self.timeout:g} s", sent=True) from e
        except (aiohttp.ClientError, OSError) as e:
            if _refuses_certificate(e):
                text = f"{self.doing}: {host} refuses the connection without a client certificate that it trusts"
                raise NotSent(Untrusted(text)) from e
            raise Cut(f"{self.doing}: {self.redact(str(e)) or type(e).__name__}") from e
        except RuntimeError as e:
            if not session.closed:
                raise
            raise Unanswered(f"{self.doing}: the store was closed", sent=False) from e

    async def _exchange(self, session: aiohttp.ClientSession, host: str) -> Any:
        async with (
            session.request(
                self.method,
                URL(host + self.target, encoded=True),
                data=self._body(),
                headers=self.headers,
                timeout=aiohttp.ClientTimeout(total=self.timeout, sock_connect=CONNECT_SECONDS),
                allow_redirects=False,
            ) as answer,
            self._place(answer) as fits,
        ):
            return self._understand(answer, await self._read(answer, fits))

    def _body(self) -> bytes | io.BytesIO | None:
        if self.data is None or len(self.data) <= _SENT_AT_ONCE:
            return self.data
        return io.BytesIO(self.data)  # which is sent in parts

    @asynccontextmanager
    async def _place(self, answer: aiohttp.ClientResponse) -> AsyncIterator[Callable[[int], bool]]:
        """Hold room for the answer; yields a function that says whether that is enough for so many bytes."""
        failed = answer.status >= 400
        longest = answers.ERROR if failed else self.longest
        if (page := self.page) is not None and not failed:
            # Its parts are copied once while they are put together; later the documents take up that much.
            yield lambda size: size <= longest and (2 * size <= page.amount or page.resize(2 * size))
            return
        # An answer that is compressed without a request for it is longer than it says.
        declared = None if "Content-Encoding" in answer.headers else answer.content_length
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                held = await self.room.take(longest if declared is None else min(declared, longest))
        except TimeoutError as e:
            text = f"{self.doing}: other answers of this namespace's clusters take all the memory for answers"
            raise Unanswered(text, sent=True) from e
        try:
            yield lambda size: size <= longest
        finally:
            held.end()

    async def _read(self, answer: aiohttp.ClientResponse, fits: Callable[[int], bool]) -> bytes | None:
        """Return the body, or None if there is no room for it."""
        parts, size = [], 0
        if not fits(answer.content_length or 0):
            return None
        async for part in answer.content.iter_chunked(_AT_ONCE):
            size += len(part)
            if not fits(size):
                return None
            parts.append(part)
            await asyncio.sleep(0)  # what has come already is inflated without a wait
        return b"".join(parts)

    def _understand(self, answer: aiohttp.ClientResponse, raw: bytes | None) -> Any:
        if 300 <= answer.status < 400:
            where = self.redact(str(answer.headers.get("Location", "nowhere")))[:200]
            raise StoreUnavailable(f"{self.doing}: redirected to {where}; name the host itself in spec")
        if answer.status >= 400:
            raise classify(answer.status, _error(raw), self.doing, self.redact)
        if raw is None:
            raise self._too_much(f"the answer is longer than {self.longest} bytes, or than the memory left for answers")
        try:
            return self.parse(raw)
        except orjson.JSONDecodeError as e:
            raise Odd(f"{self.doing}: the answer is no JSON; does the host lead to a cluster?") from e
        except answers.TooRich as e:
            raise self._too_much(f"the answer {e}") from e

    def _too_much(self, what: str) -> Overloaded:
        return Overloaded(f"{self.doing}: {what}", status=413, kind=TOO_LONG)

    def _not_sent(self, error: Exception, host: str) -> StoreError:
        for e in _chain(error):
            if isinstance(e, aiohttp.ClientError):
                continue  # some are errors of ssl too, without their fields
            if isinstance(e, HostNotAllowed):
                return Unanswered(f"{self.doing}: {e}", sent=False)
            if isinstance(e, ssl.SSLCertVerificationError):
                return Untrusted(
                    f"{self.doing}: the certificate of {host} is not trusted: {e.verify_message}; name the Secret with "
                    "its authority in caSecretRef, or use the host name of the certificate"
                )
            if isinstance(e, ssl.SSLError):
                return Untrusted(f"{self.doing}: no TLS with {host}: {_words(e)}")
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            tls = "; does it speak TLS?" if host.startswith("https") else ""
            text = f"{self.doing}: {host} cannot be connected to within {CONNECT_SECONDS:g} s{tls}"
            return Unanswered(text, sent=False)
        return Unanswered(f"{self.doing}: {host} cannot be connected to: {_cause(error)}", sent=False)


def _error(raw: bytes | None) -> Any:
    """Return the JSON of an error; None if it has none."""
    try:
        return answers.whole(raw) if raw else None
    except ValueError:
        return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from, innermost last."""
    now: BaseException | None = error
    for _ in range(10):
        if now is None:
            return
        yield now
        inner = getattr(now, "os_error", None) or getattr(now, "certificate_error", None)
        now = inner if isinstance(inner, BaseException) and inner is not now else now.__cause__


def _refuses_certificate(error: BaseException) -> bool:
    """Whether the other side ended the handshake. In TLS 1.3 that comes after ours, where the answer should."""
    alerts = ("CERTIFICATE", "UNKNOWN_CA")
    return any(
        isinstance(e, ssl.SSLError) and "ALERT" in (e.reason or "") and any(word in (e.reason or "") for word in alerts)
        for e in _chain(error)
    )


def _words(error: ssl.SSLError) -> str:
    if error.reason == "WRONG_VERSION_NUMBER":
        return "it speaks plain HTTP at that port"
    return (error.reason or str(error)).replace("_", " ").lower()


def _cause(error: Exception) -> str:
    for e in _chain(error):
        if isinstance(e, OSError) and e.strerror and not isinstance(e, aiohttp.ClientError):
            return os.strerror(e.errno) if e.errno and e.errno > 0 else e.strerror
    return str(error) or type(error).__name__
