"""One plain HTTP request to a node: enough for readiness and for loading, with nothing to install."""

import base64
import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


def basic(login: tuple[str, str] | None) -> Mapping[str, str]:
    """Return the headers with which somebody logs in by user and password; none for nobody."""
    return {"Authorization": f"Basic {base64.b64encode(':'.join(login).encode()).decode()}"} if login else {}


def request(
    url: str,
    method: str,
    path: str,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> tuple[int, Any]:
    """Send one request and return its status and its answer: parsed if it is JSON, text if not.

    `body` is sent as JSON; bytes are sent as they are, as newline-delimited JSON, which bulk requests want. Raises
    OSError or http.client.HTTPException when no answer comes within `timeout` seconds.
    """
    # http.client, not urllib: it follows no proxy settings, which have no say on loopback.
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    try:
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        connection.request(method, path, data, sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        is_json = text and answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(text) if is_json else text
    finally:
        connection.close()
