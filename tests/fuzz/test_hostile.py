"""Bodies, headers and paths that no client library would send. Each gets its answer in the envelope, and no more."""

import gzip
import http.client
import json
import re
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from support.api import Api, ApiError
from support.bodies import store
from support.data import trips_job, write_trips
from support.operator import Answer, Operator
from support.operator_fixtures import tidy_jobs
from support.rules import check_rules
from support.waiting import NEVER

JSON = {"Content-Type": "application/json"}
GOOD = {
    "index_pattern": "trips/*.parquet",
    "rollup_index": "hourly",
    "cron": "0 0 0 1 1 ? 2099",
    "page_size": 1000,
    "groups": {"date_histogram": {"field": "picked_up", "fixed_interval": "1h"}},
}


def with_(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def send(operator: Operator, method: str, path: str, body: bytes | None, headers: Mapping[str, str | bytes]) -> Answer:
    """Send exactly these bytes."""
    connection = http.client.HTTPConnection(urlsplit(operator.url).netloc, timeout=30)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True, skip_host="Host" in headers)
        for name, value in {"Authorization": f"Bearer {operator.token}", **headers}.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.headers), json.loads(answer.read()))
    finally:
        connection.close()


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b" \n\t ",
    "half": with_()[:-1],
    "two": with_() * 2,
    "a list": b"[]",
    "null": b"null",
    "a text": b'"x"',
    "a number": b"1",
    "a comment": b"/* */" + with_(),
    "single quotes": b"{'cron': 1}",
    "UTF-16": json.dumps(GOOD).encode("utf-16"),
    "no UTF-8": b'{"cron": "\xff\xfe"}',
    "half a surrogate": with_(id="\ud800"),
    "a long id": with_(id="x" * 5000),
    "a long pattern": with_(index_pattern="x/" * 50000),
    "NaN": with_().replace(b"1000", b"NaN"),
    "infinity": with_().replace(b"1000", b"1e999"),
    "a number of 10,000 digits": with_().replace(b"1000", b"9" * 10_000),
    "a deep list": b"[" * 100_000 + b"]" * 100_000,
    "a deep object": b'{"groups":' * 20_000 + b"1" + b"}" * 20_000,
    "a field twice": with_().replace(b'"cron"', b'"page_size": 1, "cron"', 1),
    "a field that is no field": with_(__proto__={}, constructor={}),
    "many fields": with_(metrics=[{"field": f"f{i}", "metrics": ["min"]} for i in range(5000)]),
    "many groups": with_(groups=GOOD["groups"] | {"terms": {"fields": [f"f{i}" for i in range(5000)]}}),
    "a way out": with_(index_pattern="../../../../etc/passwd"),
    "a way out in the target": with_(rollup_index="../out"),
    "another file system": with_(index_pattern="https://example.org/a.parquet"),
    "SQL": with_(index_pattern="trips/a.parquet'); DROP SCHEMA main CASCADE; --"),
    "SQL in a field": with_(groups={"date_histogram": {"field": 'x"; DROP SCHEMA main; --', "fixed_interval": "1h"}}),
    "a zone that is a path": with_(
        groups={"date_histogram": GOOD["groups"]["date_histogram"] | {"time_zone": "../UTC"}}
    ),
    "an endless interval": with_(groups={"date_histogram": {"field": "picked_up", "fixed_interval": "9" * 400 + "d"}}),
}


@pytest.fixture(scope="module")
def api(_shared: Operator, _session_api: Api) -> Iterator[Api]:
    """A namespace that all share, since hardly any leaves something in it."""
    _session_api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hostile"}})
    with Api(_session_api.plane, "hostile") as api:
        yield api


@pytest.fixture(scope="module")
def jobs(_shared: Operator, api: Api) -> str:
    """The path of its jobs; it has a store, known to the operator, and a source."""
    folder = _shared.data_root / api.namespace
    folder.mkdir(parents=True)
    write_trips(folder)
    api.create(store())
    path = f"/namespaces/{api.namespace}/_rollup/job"
    deadline = time.monotonic() + 10
    while send(_shared, "PUT", f"{path}/nothing", with_(index_pattern="nothing/*"), JSON).status == 503:
        assert time.monotonic() < deadline, "the store does not become known"
    return path


@pytest.fixture
def operator(_shared: Operator, api: Api) -> Iterator[Operator]:
    yield _shared
    check_rules(api)
    tidy_jobs(api)
    assert not (found := _shared.surprises()), "\n".join(found)


def assert_refused(answer: Answer, api: Api) -> None:
    assert 400 <= answer.status < 500, answer.body
    assert answer.headers["X-Elastic-Product"] == "Elasticsearch"
    assert answer.body["status"] == answer.status
    assert answer.body["error"]["root_cause"][0].keys() >= {"type", "reason"}
    assert api.list() == []


def test_the_good_one_is_good(operator: Operator, api: Api, jobs: str) -> None:
    for number, (data, headers) in enumerate([(with_(), {}), (gzip.compress(with_()), {"Content-Encoding": "gzip"})]):
        answer = send(operator, "PUT", f"{jobs}/good-{number}", data, JSON | headers)
        assert (answer.status, answer.body) == (200, {"acknowledged": True})
    assert len(api.list()) == 2


@pytest.mark.parametrize("body", BODIES.values(), ids=list(BODIES))
def test_a_body(operator: Operator, api: Api, jobs: str, body: bytes) -> None:
    assert_refused(send(operator, "PUT", f"{jobs}/trips", body, JSON), api)


@pytest.mark.parametrize(
    "job_id", ["a\x00b", "a\r\nSet-Cookie: b", "\u202e\u0000\u0085", "..", "../../x", "%2e%2e", "a" * 250, "*a*"]
)
def test_an_id_is_refused_or_works(operator: Operator, api: Api, jobs: str, job_id: str) -> None:
    answer = send(operator, "PUT", f"{jobs}/x", with_(id=job_id), JSON)
    if answer.status != 200:
        assert_refused(answer, api)
        return
    path = f"{jobs}/{quote(job_id, safe='')}"
    for method, call in (("POST", "/_start"), ("POST", "/_stop?wait_for_completion=true"), ("GET", ""), ("DELETE", "")):
        answer = send(operator, method, path + call, None, {})
        assert answer.status == 200, answer.body
        if method == "GET":
            assert [job["config"]["id"] for job in answer.body["jobs"]] == [job_id]
    assert api.list() == []


@pytest.mark.parametrize("job_id", ["a\r\nSet-Cookie: b", "\x00", "\x1b[31m", "\x9b"])
def test_an_id_has_no_control_characters(api: Api, job_id: str) -> None:
    with pytest.raises(ApiError) as error:
        api.create(trips_job("x", jobId=job_id))
    assert (error.value.code, [place for place, _ in error.value.causes]) == (422, ["spec.jobId"])


@pytest.mark.parametrize("job_id", ['a", 299 - "b', "ä\u2028", "a%0d%0aSet-Cookie: b", "\u202e"])
def test_an_id_does_not_break_out_of_a_header(operator: Operator, api: Api, jobs: str, job_id: str) -> None:
    api.apply(trips_job("x", jobId=job_id, cron=NEVER), manager="argocd-controller")
    api.wait_state("x", "started")
    answer = send(operator, "POST", f"{jobs}/{quote(job_id, safe='')}/_stop?wait_for_completion=true", None, {})
    assert (answer.status, answer.body) == (200, {"stopped": True})
    assert "argocd-controller" in answer.headers["Warning"]
    assert len(re.findall(r'(?<!\\)"', answer.headers["Warning"])) == 2
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"no gzip"),
        ("gzip", gzip.compress(with_())[:-40]),
        ("gzip", b""),
        ("gzip", gzip.compress(b" " * 50_000_000)),
        ("deflate", b"no deflate"),
        ("deflate", zlib.compress(b" " * 50_000_000)),
        ("br", with_()),
        ("gzip, gzip", gzip.compress(gzip.compress(with_()))),
        ("rot13", with_()),
        (b"\xff", with_()),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)}",
)
def test_a_compressed_body(operator: Operator, api: Api, jobs: str, encoding: str | bytes, body: bytes) -> None:
    assert_refused(send(operator, "PUT", f"{jobs}/trips", body, {**JSON, "Content-Encoding": encoding}), api)


@pytest.mark.parametrize(
    "kind", ["", "text/plain", b"application/\xff", "x", "application/json;compatible-with=5", ";"]
)
def test_a_body_of_another_kind(operator: Operator, api: Api, jobs: str, kind: str | bytes) -> None:
    headers: dict[str, str | bytes] = {"Content-Type": kind} if kind else {}
    answer = send(operator, "PUT", f"{jobs}/trips", with_(), headers)
    if answer.status != 200:
        assert_refused(answer, api)


HEADERS: dict[str, Mapping[str, str | bytes]] = {
    "an id that is no UTF-8": {"X-Opaque-Id": b"\xff\xfe"},
    "an id in UTF-8": {"X-Opaque-Id": "ä".encode()},
    "a long id": {"X-Opaque-Id": "x" * 4000},
    "a type that is no UTF-8": {"Accept": b"application/\xff"},
    "a version that is no UTF-8": {"Accept": b"\xff,application/vnd.elasticsearch+json;compatible-with=99"},
    "many types": {"Accept": ",".join(["application/json"] * 300)},
    "another type": {"Accept": "image/png"},
    "another version": {"Accept": "application/vnd.elasticsearch+json;compatible-with=99"},
    "no host": {"Host": ""},
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=list(HEADERS))
def test_a_header(operator: Operator, jobs: str, headers: Mapping[str, str | bytes]) -> None:
    answer = send(operator, "GET", jobs, None, headers)
    assert answer.status in (200, 400, 406), answer.body
    assert answer.headers["X-Elastic-Product"] == "Elasticsearch"


@pytest.mark.parametrize(
    "token",
    [b"\xff\xfe", b"x" * 4000, b"a b", b"a,b", b"", b"null", b"..", b"eyJhbGciOiJub25lIn0.e30."],
    ids=repr,
)
def test_a_token(operator: Operator, jobs: str, token: bytes) -> None:
    answer = send(operator, "GET", jobs, None, {"Authorization": b"Bearer " + token})
    assert answer.status == 401, answer.body
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.body["error"]["type"] == "security_exception"


@pytest.mark.parametrize(
    "path",
    [
        "/%00",
        "/%ff",
        "/%",
        "/%2",
        "/..%2f..%2f",
        "//",
        "/a//_stop",
        "/%2e%2e",
        "/%0d%0aX:%20y",
        "/a?%ff=%fe",
        "/a?&&=&",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "PATCH"])
def test_a_path(operator: Operator, api: Api, jobs: str, method: str, path: str) -> None:
    body = with_(index_pattern="nothing/*") if method == "PUT" else None
    answer = send(operator, method, jobs + path, body, JSON if body else {})
    assert answer.status < 500, answer.body
    assert answer.headers["X-Elastic-Product"] == "Elasticsearch"
    assert api.list() == []
