"""Signs requests to Amazon OpenSearch Service with AWS Signature Version 4, by botocore.

A signature covers method, host, path, query, body and time, so each attempt gets its own, just before it is sent. It
does not cover X-Opaque-Id. The path is signed as it is sent, quoted once more; of the query AWS signs the meaning, in
the order of its names, however it is quoted on the way.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from urllib.parse import unquote

import aiohttp

from rollup_operator.stores.redaction import HIDDEN

SERVICE = "es"
"""Name by which AWS knows domains. OpenSearch Serverless (`aoss`) has no task list, so nothing there could be quiet."""

INLINE = 2**16
"""Bytes. Larger bodies are hashed in another thread."""

_SIGNATURE = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials of AWS."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what must never be shown."""
        return (self.secret_access_key, self.session_token) if self.session_token else (self.secret_access_key,)


def is_installed() -> bool:
    """Whether requests can be signed in this installation."""
    return find_spec("botocore") is not None


def load() -> None:
    """Import what signs. It takes a tenth of a second: call it in a thread."""
    import botocore.auth  # noqa: PLC0415  # optional
    import botocore.awsrequest  # noqa: F401, PLC0415  # optional

    # It logs each request that it signs at the level debug, session token included.
    logging.getLogger("botocore").setLevel(logging.WARNING)


def signed(keys: Keys, region: str, method: str, url: str, host: str, body: bytes) -> Mapping[str, str]:
    """Return the headers that sign a request, as of now. `host` is what its header Host says. After `load`."""
    from botocore.auth import SigV4Auth  # noqa: PLC0415  # optional
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415  # optional
    from botocore.credentials import ReadOnlyCredentials  # noqa: PLC0415  # optional

    path, _, query = url.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    meant = [(unquote(key), unquote(value)) for key, _, value in pairs]
    request = AWSRequest(method=method, url=path, params=meant, data=body, headers={"Host": host})
    credentials = ReadOnlyCredentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
    SigV4Auth(credentials, SERVICE, region).add_auth(request)
    return {name: value for name, value in request.headers.items() if name != "Host"}


@dataclass(frozen=True)
class Signer:
    """Signs what a session sends: a middleware of aiohttp."""

    region: str
    keys: Callable[[], Awaitable[Keys]]
    """Returns those that are good now. Raises StoreError."""

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Sign and send."""
        keys = await self.keys()
        body = await request.body.as_bytes() if request.body else b""
        what = (keys, self.region, request.method, str(request.url), request.headers["Host"], body)
        headers = signed(*what) if len(body) <= INLINE else await asyncio.to_thread(signed, *what)
        request.headers.update(headers)
        return await handler(request)


def without_signature(text: str) -> str:
    """Take signatures out of a text, and whatever else looks like one."""
    return _SIGNATURE.sub(HIDDEN, text)
