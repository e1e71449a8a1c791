"""Requests are signed as AWS documents it: the judge of these tests by AWS's published vectors, ours by that judge."""

import logging
import time
from collections.abc import Mapping

import aiohttp
import pytest
from aiohttp import web

from rollup_operator.stores.opensearch.transport import signing
from rollup_operator.stores.opensearch.transport.aws_errors import explained
from rollup_operator.stores.opensearch.transport.client import name
from rollup_operator.stores.opensearch.transport.errors import Unauthorized, classify
from rollup_operator.stores.opensearch.transport.signing import Keys, Signer, signed
from support.aws import Domain, Key, canonical_request, signature
from support.store_proxy import Request
from support.store_wire import Head

REGION = "eu-central-1"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
AT = "20150830T123600Z"
HOST = {"host": "example.amazonaws.com", "x-amz-date": AT}
TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthA"
    "x7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9"
    "q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
FORM = {"content-type": "application/x-www-form-urlencoded"}
ORDERED = "Param2=value2&Param1=value1"
SESSION = {"x-amz-security-token": TOKEN}
HEADERS = {"my-header1": " value1", "my-header2": ' "a   b   c"'}

PUBLISHED = [
    ("GET", "/", {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    (
        "GET",
        "/?Param2=value2&Param1=value1",
        {},
        b"",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    ("GET", "/ሴ", {}, b"", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    ("GET", "/", HEADERS, b"", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
    ("POST", "/", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("POST", "/", FORM, b"Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    (
        "POST",
        "/",
        {"x-amz-security-token": TOKEN},
        b"",
        "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
    ),
]
"""Of the Signature Version 4 test suite that AWS published."""


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    signing.load()


@pytest.mark.parametrize(("method", "target", "more", "body", "expected"), PUBLISHED)
def test_the_judge_comes_to_what_aws_has_published(
    method: str, target: str, more: Mapping[str, str], body: bytes, expected: str
) -> None:
    headers = {**HOST, **more}
    canonical = canonical_request(method, target, headers, sorted(headers), body)
    assert signature(canonical, AT, SECRET, region="us-east-1", service="service") == expected


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("host", ["search.eu-central-1.es.amazonaws.com", "127.0.0.1:9200", "[::1]:9200"])
@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/", b""),
        (f"/{name('rows-*,-rows-ä b%')}/_search?filter_path=a.b%2C%2A&typed_keys=true", b'{"size":0}'),
        (f"/{name('<x-{now/d}>')}/_doc/{name('job/ä$ +?#')}?b=%2F&a=%20&a=+%2B&c", b""),
        ("/_bulk?require_alias=true", b"\n" * (signing.INLINE + 1)),
    ],
)
async def test_what_is_sent_is_what_was_signed(target: str, host: str, body: bytes, token: str | None) -> None:
    keys = Keys("AKIDEXAMPLE", SECRET, token)
    domain = Domain(REGION, {"AKIDEXAMPLE": Key(SECRET, token or "")})
    headers = signed(keys, REGION, "POST", f"https://{host}{target}", host, body)
    lines = [f"POST {target} HTTP/1.1", f"Host: {host}", *(f"{k}: {v}" for k, v in headers.items())]
    head = Head.parse("\r\n".join(lines).encode())
    assert domain.judge(Request(0, head, body, time.monotonic())) is None
    other = domain.judge(Request(0, head, body + b" ", time.monotonic()))
    assert other is not None
    assert "does not match" in other[1]["message"]


async def test_a_session_signs_each_of_its_requests_anew() -> None:
    domain, refusals = Domain(REGION, {"first": Key("one"), "second": Key("two", "its+token/")}), []

    async def answer(request: web.Request) -> web.Response:
        raw = [f"{request.method} {request.raw_path} HTTP/1.1"]
        raw += [f"{k}: {v}" for k, v in request.headers.items()]
        refusals.append(domain.judge(Request(0, Head.parse("\r\n".join(raw).encode()), await request.read(), 0.0)))
        return web.json_response({})

    app = web.Application(client_max_size=2**22)
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    given = [Keys("first", "one"), Keys("second", "two", "its+token/")]

    async def keys() -> Keys:
        return given[len(refusals) % 2]

    try:
        async with aiohttp.ClientSession(middlewares=(Signer(REGION, keys),)) as session:
            for body in (None, b"{}", b"x" * 2**20, b""):
                async with session.put(f"http://127.0.0.1:{port}/a*b/_doc/c%2Fd?x=%2A", data=body) as answered:
                    assert answered.status == 200
        assert refusals == [None] * 4
        assert domain.seen == ["first", "second"] * 2
    finally:
        await runner.cleanup()


def test_what_is_signed_gets_into_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        signed(Keys("AKIDEXAMPLE", SECRET, TOKEN), REGION, "GET", "https://x.example/", "x.example", b"")
    assert caplog.text == ""


WORDS = [
    (
        "Signature expired: 20240522T115159Z is now earlier than 20240522T120519Z (20240522T121019Z - 5 min.)",
        r"signed at 20240522T115159Z, AWS has 20240522T121019Z\): the clock of the operator's machine",
    ),
    (
        "Signature not yet current: 20240522T125159Z is still later than 20240522T121519Z (20240522T121019Z + 5 min.)",
        r"signed at 20240522T125159Z, AWS has 20240522T121019Z\): the clock of the operator's machine",
    ),
    ("The security token included in the request is expired", "the session has expired: put a new accessKeyId"),
    ("The security token included in the request is invalid.", "AWS does not know this accessKeyId"),
    ("Credential should be scoped to a valid region, not 'us-east-1'. ", r"set spec\.opensearch\.aws\.region"),
    ("Missing Authentication Token", "the domain takes signed requests only"),
    (
        f"The request signature we calculated does not match the signature you provided. x-amz-security-token:{TOKEN}",
        "secretAccessKey is not the one of accessKeyId",
    ),
    ("User: arn:aws:iam::1:user/x is not authorized to perform: es:ESHttpPost", "User: arn.* es:ESHttpPost$"),
]


@pytest.mark.parametrize(("message", "words"), WORDS)
@pytest.mark.parametrize("key", ["message", "Message"])
def test_refusals_of_aws_say_what_helps(message: str, words: str, key: str) -> None:
    error = classify(403, {key: message}, "asking", str)
    assert isinstance(error, Unauthorized)
    with pytest.raises(Unauthorized, match=f"^asking: .*{words}"):
        raise error
    assert TOKEN not in str(error)


def test_a_message_that_is_not_known_is_shown_as_it_is() -> None:
    assert explained("Rate exceeded") is None
    assert str(classify(429, {"message": "Rate  exceeded"}, "asking", str)) == "asking: Rate exceeded"


def test_what_looks_like_a_signature_is_hidden() -> None:
    headers = signed(Keys("AKIDEXAMPLE", SECRET), REGION, "GET", "https://x.example/", "x.example", b"")
    shown = signing.without_signature(headers["Authorization"])
    assert shown.endswith("Signature=***")
