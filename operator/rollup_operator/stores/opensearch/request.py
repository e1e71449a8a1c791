"""One HTTP request to one host: sent once, its answer read within bounds, its failure named."""

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from yarl import URL

from rollup_operator.stores.errors import StoreError, StoreUnavailable
from rollup_operator.stores.opensearch.errors import Cut, Overloaded, Unanswered, Untrusted, classify
from rollup_operator.stores.opensearch.hosts import HostNotAllowed
from rollup_operator.stores.opensearch.wire import Wire

CONNECT_SECONDS = 5.0


class NotSent(Exception):
    """No connection came about, so that another host may be asked. `error` is what to tell if there is none."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Request:
    """What to send to whichever host."""

    method: str
    target: str
    """Path and query, quoted."""
    headers: Mapping[str, str]
    data: bytes | None
    doing: str
    timeout: float
    longest_answer: int
    parse: Callable[[bytes], Any] = orjson.loads

    async def send(self, session: aiohttp.ClientSession, host: str, wire: Wire) -> Any:
        """Return the answer's JSON. Raises NotSent, Unanswered, or what `classify` makes of the answer.

        Cancelled, it ends when the other end has read that; `wire` knows whether it has.
        """
        try:
            return await wire.carry(self._exchange(session, host))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as e:
            raise NotSent(self._not_sent(e, host)) from e
        except TimeoutError as e:
            raise Unanswered(f"{self.doing}: no answer within {self.timeout:g} s", sent=True) from e
        except (aiohttp.ClientError, OSError) as e:
            if _refuses_certificate(e):
                text = f"{self.doing}: {host} refuses the connection for want of a client certificate that it trusts"
                raise NotSent(Untrusted(text)) from e
            raise Cut(f"{self.doing}: {str(e) or type(e).__name__}") from e

    async def _exchange(self, session: aiohttp.ClientSession, host: str) -> Any:
        async with session.request(
            self.method,
            URL(host + self.target, encoded=True),
            data=self.data,
            headers=self.headers,
            timeout=aiohttp.ClientTimeout(total=self.timeout, sock_connect=CONNECT_SECONDS),
            allow_redirects=False,
        ) as answer:
            return self._understand(answer, await self._read(answer))

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        if (answer.content_length or 0) > self.longest_answer:
            raise self._too_long()
        parts, size = [], 0
        async for part in answer.content.iter_any():
            size += len(part)
            if size > self.longest_answer:
                raise self._too_long()
            parts.append(part)
        return b"".join(parts)

    def _too_long(self) -> Overloaded:
        text = f"{self.doing}: the answer is longer than {self.longest_answer} bytes"
        return Overloaded(text, status=413, kind="answer_too_long")

    def _understand(self, answer: aiohttp.ClientResponse, raw: bytes) -> Any:
        if 300 <= answer.status < 400:
            where = str(answer.headers.get("Location", "nowhere"))[:200]
            raise StoreUnavailable(f"{self.doing}: redirected to {where}; name the host itself in spec")
        try:
            parse = self.parse if answer.status < 400 else orjson.loads
            data = parse(raw) if raw else None
        except orjson.JSONDecodeError as e:
            if answer.status < 400:
                raise StoreUnavailable(f"{self.doing}: the answer is no JSON; does the host lead to a cluster?") from e
            data = None
        if answer.status >= 400:
            raise classify(answer.status, data, self.doing)
        return data

    def _not_sent(self, error: Exception, host: str) -> StoreError:
        for e in _chain(error):
            if isinstance(e, aiohttp.ClientError):
                continue  # some are errors of ssl too, without their fields
            if isinstance(e, HostNotAllowed):
                return Unanswered(f"{self.doing}: {e}", sent=False)
            if isinstance(e, ssl.SSLCertVerificationError):
                return Untrusted(
                    f"{self.doing}: the certificate of {host} is not trusted: {e.verify_message}; name the Secret with "
                    "its authority in caSecretRef, or the host as in its certificate"
                )
            if isinstance(e, ssl.SSLError):
                return Untrusted(f"{self.doing}: no TLS with {host}: {_words(e)}")
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            tls = "; does it speak TLS?" if host.startswith("https") else ""
            text = f"{self.doing}: {host} cannot be connected to within {CONNECT_SECONDS:g} s{tls}"
            return Unanswered(text, sent=False)
        return Unanswered(f"{self.doing}: {host} cannot be connected to: {_cause(error)}", sent=False)


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
