"""An operator's endpoint, and calls to it."""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """What the endpoint said."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def reason(self) -> str:
        return str(self.body["error"]["reason"])


class Endpoint:
    """Where to call an operator, and with which token where a call names no other.

    `authority` is the certificate by which to know it where it speaks TLS.
    """

    def __init__(self, url: str, token: str, authority: Path | None = None) -> None:
        self.url, self.token, self.authority = url, token, authority

    def get(self, path: str, *, token: str | None = None, timeout: float = 30.0) -> Answer:
        return self.request("GET", path, token=token, timeout=timeout)

    def post(self, path: str, *, token: str | None = None, timeout: float = 30.0) -> Answer:
        return self.request("POST", path, token=token, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        """Send one request, with a body as JSON if one is given, and return the answer whatever its status.

        `headers` replace that of the token. A body of bytes is sent as it is.
        """
        if headers is None:
            headers = {"Authorization": f"Bearer {token or self.token}"}
        connection = self.connect(timeout)
        try:
            if body is None:
                connection.request(method, path, headers=headers)
            else:
                data = body if isinstance(body, bytes) else json.dumps(body)
                connection.request(method, path, data, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), json.loads(answer.read()))
        finally:
            connection.close()

    def connect(self, timeout: float = 30.0) -> http.client.HTTPConnection:
        """A connection to the endpoint, for more than one request."""
        scheme, netloc = urlsplit(self.url)[:2]
        if scheme == "http":
            return http.client.HTTPConnection(netloc, timeout=timeout)
        trust = ssl.create_default_context(cafile=self.authority)
        return http.client.HTTPSConnection(netloc, timeout=timeout, context=trust)
