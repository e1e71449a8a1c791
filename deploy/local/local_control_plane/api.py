"""One HTTPS request to an API server: enough for readiness and for tests, with nothing to install."""

import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit


def request(
    server: str,
    authority: ssl.SSLContext,
    token: str,
    method: str,
    path: str,
    *,
    body: object = None,
    content_type: str = "application/json",
    timeout: float = 10.0,
) -> tuple[int, Any]:
    """Send one request and return its status and its answer: parsed if it is JSON, text if not.

    `body` is sent as JSON. Raises OSError or http.client.HTTPException when no answer comes within `timeout` seconds.
    """
    # http.client, not urllib: it follows no proxy settings, which have no say on loopback.
    connection = http.client.HTTPSConnection(urlsplit(server).netloc, context=authority, timeout=timeout)
    try:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(text) if is_json else text
    finally:
        connection.close()
