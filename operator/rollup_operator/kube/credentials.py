"""Middlewares of a client session that add the credentials to each request."""

import asyncio
import base64
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import aiohttp


class NoConnection(ValueError):
    """The API server cannot be reached with this configuration; the text says what is missing."""


class CredentialError(aiohttp.ClientError):
    """Logging in failed, so the request was not sent. It may succeed later."""


class FixedHeaders:
    """Sends the same headers with each request."""

    def __init__(self, headers: Sequence[tuple[str, str]]) -> None:
        self._headers = headers

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Add the headers, then go on."""
        request.headers.extend(self._headers)
        return await handler(request)


@dataclass(frozen=True)
class Credential:
    """The result of a login."""

    authorization: str | None
    """The header; None: the login gave a client certificate, which the session's TLS context has."""
    until: float = math.inf
    """When to log in again, by the monotonic clock."""


class RenewedLogin:
    """Logs in before the first request, again when the credential has had its time, and once more after a 401."""

    def __init__(self, log_in: Callable[[], Credential]) -> None:
        """`log_in` may block: it runs in a thread. It raises CredentialError."""
        self._log_in = log_in
        self._known: Credential | None = None
        self._turn = asyncio.Lock()

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Log in if need be, then go on. Raises CredentialError."""
        used = await self._current()
        _add(used, request)
        answer = await handler(request)
        if answer.status != 401:
            return answer
        renewed = await self._current(instead_of=used)
        if renewed.authorization is not None and renewed.authorization == used.authorization:
            return answer
        answer.release()
        _add(renewed, request)
        return await handler(request)

    async def _current(self, instead_of: Credential | None = None) -> Credential:
        """Return a credential that is still valid and not the refused one."""
        async with self._turn:
            known = self._known
            if known is None or known is instead_of or time.monotonic() >= known.until:
                known = self._known = await _in_daemon(self._log_in)
            return known


def _add(credential: Credential, request: aiohttp.ClientRequest) -> None:
    if credential.authorization is not None:
        request.headers["Authorization"] = credential.authorization


async def _in_daemon(log_in: Callable[[], Credential]) -> Credential:
    """Run the login in a thread for which neither an abandoned request nor the end of the process waits."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Credential] = loop.create_future()

    def settle(set_: Callable[[Any], None], value: object) -> None:
        if not answer.done():
            set_(value)

    def run() -> None:
        try:
            outcome = partial(settle, answer.set_result, log_in())
        except Exception as e:
            outcome = partial(settle, answer.set_exception, e)
        with suppress(RuntimeError):  # the event loop has ended meanwhile
            loop.call_soon_threadsafe(outcome)

    threading.Thread(target=run, daemon=True, name="login").start()
    return await answer


class ServerName:
    """Expects another name in the server's certificate than the one in its URL."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Set the name, then go on."""
        request.server_hostname = self._name
        return await handler(request)


def bearer(token: str) -> FixedHeaders:
    """Log in with a token."""
    return FixedHeaders([("Authorization", f"Bearer {token}")])


def basic(user: str, password: str) -> FixedHeaders:
    """Log in with a name and a password."""
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return FixedHeaders([("Authorization", f"Basic {pair}")])


def impersonation(user: Mapping[str, Any]) -> FixedHeaders | None:
    """Impersonate, as the `as…` fields of a kubeconfig's user say; None if they say nothing."""
    if not user.get("as"):
        return None
    headers = [("Impersonate-User", str(user["as"]))]
    if user.get("as-uid"):
        headers.append(("Impersonate-Uid", str(user["as-uid"])))
    headers += [("Impersonate-Group", str(group)) for group in user.get("as-groups") or ()]
    for key, values in (user.get("as-user-extra") or {}).items():
        headers += [(f"Impersonate-Extra-{quote(key, safe='')}", str(value)) for value in values]
    return FixedHeaders(headers)
