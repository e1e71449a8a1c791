"""The operator's HTTP API as the demo uses it: one request at a time, as any script would send it."""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What came back, and after how many seconds."""

    status: int
    body: dict[str, Any]
    text: str
    seconds: float


@dataclass(frozen=True)
class Endpoint:
    """An endpoint by its URL, and the bearer token that shows who calls."""

    url: str
    token: str

    def post(self, path: str, body: object = None) -> Answer:
        """Send a POST, with a body as JSON if one is given. Raises OSError when no answer comes."""
        return self._send("POST", path, body)

    def get(self, path: str) -> Answer:
        """Send a GET. Raises OSError when no answer comes."""
        return self._send("GET", path)

    def _send(self, method: str, path: str, body: object = None) -> Answer:
        # No proxy: it has no say on loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310  (the operator's)
        began = time.monotonic()
        try:
            with opener.open(request, timeout=60) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        found = json.loads(text) if text.startswith("{") else {}
        return Answer(status, found, text.strip(), time.monotonic() - began)
