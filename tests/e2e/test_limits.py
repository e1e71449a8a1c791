"""The limits of a running operator, on the event loop that it runs on."""

import http.client
import socket
from urllib.parse import urlsplit

import pytest

from support.operator import Operator

SETTINGS = {"settings": {"http_connections": 3, "http_head_seconds": 1, "http_body_bytes": 1000}}
GENEROUS = 10.0


@pytest.fixture
def address(operator: Operator) -> tuple[str, int]:
    host, _, port = urlsplit(operator.url).netloc.rpartition(":")
    return host, int(port)


def test_one_connection_too_many_is_reported_and_the_probes_go_on(operator: Operator) -> None:
    kept = [operator.connect() for _ in range(2)]  # of three, the last of which is for other callers
    for connection in kept:
        assert _get(connection, "/", operator.token) == 200
    assert operator.get("/").status == 429
    assert operator.request("GET", "/readyz", headers={}).status == 200
    for connection in kept:
        assert _get(connection, "/", operator.token) == 200
        connection.close()
    while operator.get("/").status != 200:  # it hears of their end a little later
        pass


@pytest.mark.parametrize("said", [b"", b"POST /_rollup/job/trips/_stop HTTP/1.1\r\nHost: here\r\n"])
def test_who_does_not_come_to_the_point_is_not_waited_for(address: tuple[str, int], said: bytes) -> None:
    with socket.create_connection(address, timeout=GENEROUS) as slow:
        slow.sendall(said)
        assert slow.recv(1) == b""


def test_a_body_that_is_too_large_is_refused_before_it_is_read(operator: Operator) -> None:
    headers = {"Authorization": f"Bearer {operator.token}", "Content-Length": "1000000000"}
    answer = operator.request("PUT", "/_rollup/job/trips", headers=headers)
    assert (answer.status, answer.body["error"]["type"]) == (413, "content_too_long_exception")


def _get(connection: http.client.HTTPConnection, path: str, token: str) -> int:
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.read()
    return answer.status
