"""How a client says who it is: middlewares of its session that add headers to each request."""

import base64
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

TOKEN_LIFE = 60.0
"""Seconds until a token file is read again: projected tokens rotate."""


class NoConnection(ValueError):
    """The API server cannot be talked to with this configuration; the text says what is missing."""


class CredentialError(aiohttp.ClientError):
    """Logging in failed, so the request was not sent. It may succeed later."""


class BearerToken:
    """Sends a token, read again from its file now and then."""

    def __init__(self, token: str | None = None, file: Path | None = None) -> None:
        self._token, self._file, self._read_at = token, file, float("-inf")

    def current(self) -> str:
        """Return the token to send now. Raises CredentialError when its file cannot be read."""
        if self._file is not None and time.monotonic() - self._read_at > TOKEN_LIFE:
            try:
                self._token, self._read_at = self._file.read_text().strip(), time.monotonic()
            except (OSError, ValueError) as e:
                raise CredentialError(f"the token cannot be read: {e}") from e
        return self._token or ""

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Add the header, then go on."""
        request.headers["Authorization"] = f"Bearer {self.current()}"
        return await handler(request)


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


def basic(user: str, password: str) -> FixedHeaders:
    """Log in with a name and a password."""
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return FixedHeaders([("Authorization", f"Basic {pair}")])


def impersonation(user: Mapping[str, Any]) -> FixedHeaders | None:
    """Act as somebody else, as the `as…` fields of a kubeconfig's user say; None where they say nothing."""
    if not user.get("as"):
        return None
    headers = [("Impersonate-User", str(user["as"]))]
    if user.get("as-uid"):
        headers.append(("Impersonate-Uid", str(user["as-uid"])))
    headers += [("Impersonate-Group", str(group)) for group in user.get("as-groups") or ()]
    for key, values in (user.get("as-user-extra") or {}).items():
        headers += [(f"Impersonate-Extra-{quote(key, safe='')}", str(value)) for value in values]
    return FixedHeaders(headers)
