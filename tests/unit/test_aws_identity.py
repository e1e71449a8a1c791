"""The operator's own AWS identity: where it comes from, and that it is renewed before it ends, off the loop."""

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from rollup_operator.stores.opensearch.transport.aws_identity import AwsIdentity, Identities, Lent, NoIdentity, fetched
from rollup_operator.stores.opensearch.transport.signing import Keys

REGION = "eu-central-1"


class Lender:
    """AWS's Security Token Service, or the endpoint of a container; what it is asked is kept."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        lender = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                lender.asked.append((self.path, "", self.headers.get("Authorization", "")))
                ends = datetime.now(UTC) + timedelta(hours=6)
                said = {"AccessKeyId": "AKIDPOD", "SecretAccessKey": "of the pod", "Token": "its token"}
                self._say(json.dumps({**said, "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}), "application/json")

            def do_PUT(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                lender.asked.append((self.path, body, ""))
                ends = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
                number = len(lender.asked)
                self._say(
                    '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
                    f"<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AKIDROLE{number}</AccessKeyId>"
                    f"<SecretAccessKey>of the role</SecretAccessKey><SessionToken>token {number}</SessionToken>"
                    f"<Expiration>{ends}</Expiration></Credentials><AssumedRoleUser><Arn>arn</Arn>"
                    "<AssumedRoleId>id</AssumedRoleId></AssumedRoleUser></AssumeRoleWithWebIdentityResult>"
                    "<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>"
                    "</AssumeRoleWithWebIdentityResponse>",
                    "text/xml",
                )

            def _say(self, text: str, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Lender":
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def lender() -> Iterator[Lender]:
    with Lender() as lender:
        yield lender


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of the machine that the tests run on, but a file of them, which is not for the operator."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ROLE_ARN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    keys = "[default]\naws_access_key_id = AKIDFILE\naws_secret_access_key = of the file\n"
    (tmp_path / ".aws/credentials").write_text(keys)
    (tmp_path / ".aws/config").write_text("[default]\ncredential_process = /bin/false\n")


async def test_a_pod_without_an_identity_has_neither_that_of_files_nor_that_of_its_node(
    monkeypatch: pytest.MonkeyPatch, lender: Lender
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", lender.url)
    with pytest.raises(NoIdentity, match=r"^the operator has no AWS credentials of its own: its pod has neither"):
        await Identities().of(REGION).keys()
    assert lender.asked == []


async def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the environment")
    identity = Identities().of(REGION)
    assert await identity.keys() == Keys("AKIDENV", "of the environment")
    assert identity.redact("it is of the environment!") == "it is ***!"


async def test_a_role_for_the_service_account(monkeypatch: pytest.MonkeyPatch, lender: Lender, tmp_path: Path) -> None:
    (token := tmp_path / "token").write_text("first.jwt")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/rollup")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", lender.url)
    lent = await asyncio.to_thread(fetched, REGION)
    assert lent is not None
    assert lent.keys == Keys("AKIDROLE1", "of the role", "token 1")
    assert (lent.ends_within(3000), lent.ends_within(3700)) == (False, True)
    token.write_text("second.jwt")  # the kubelet renews it
    again = await asyncio.to_thread(fetched, REGION)
    assert again is not None
    assert again.keys.session_token == "token 2"
    asked = [parse_qs(body) for _, body, _ in lender.asked]
    assert [each["WebIdentityToken"] for each in asked] == [["first.jwt"], ["second.jwt"]]
    assert asked[0]["RoleArn"] == ["arn:aws:iam::123456789012:role/rollup"]


async def test_an_eks_pod_identity(monkeypatch: pytest.MonkeyPatch, lender: Lender, tmp_path: Path) -> None:
    (token := tmp_path / "token").write_text("its.jwt")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{lender.url}/v1/credentials")
    identity = Identities().of(REGION)
    assert await identity.keys() == Keys("AKIDPOD", "of the pod", "its token")
    assert await identity.keys() == Keys("AKIDPOD", "of the pod", "its token")
    assert lender.asked == [("/v1/credentials", "", "its.jwt")]


class Source:
    """Credentials that end, and what may go wrong with them."""

    def __init__(self) -> None:
        self.left = 3600.0
        self.now = 0.0
        self.fetched = 0
        self.failure: Exception | None = None
        self.held = threading.Event()
        self.held.set()

    def fetch(self, region: str) -> Lent | None:
        self.held.wait(10)
        if self.failure is not None:
            raise self.failure
        self.fetched += 1
        ends = self.now + self.left
        return Lent(Keys(f"key {self.fetched}", "its secret"), lambda seconds: self.now + seconds >= ends)

    def identity(self) -> AwsIdentity:
        return AwsIdentity(REGION, self.fetch, clock=lambda: self.now)


async def test_credentials_are_renewed_before_they_end_while_calls_go_on_with_the_old_ones() -> None:
    source = Source()
    identity = source.identity()
    assert (await identity.keys()).access_key_id == "key 1"
    source.now = 3200
    assert (await identity.keys()).access_key_id == "key 1"
    source.now = 3400
    source.held.clear()
    assert [(await identity.keys()).access_key_id for _ in range(3)] == ["key 1"] * 3
    source.held.set()
    async with asyncio.timeout(5):
        while (await identity.keys()).access_key_id != "key 2":  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0.001)
    assert source.fetched == 2


async def test_one_renewal_serves_all_who_wait_and_outlives_who_goes_away() -> None:
    source = Source()
    identity = source.identity()
    source.held.clear()
    waiting = [asyncio.create_task(identity.keys()) for _ in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    source.held.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [Keys("key 1", "its secret")] * 49
    assert source.fetched == 1


async def test_a_failure_leaves_the_old_ones_in_use_to_their_end_and_is_not_repeated_at_once() -> None:
    source = Source()
    identity = source.identity()
    await identity.keys()
    source.failure = OSError("no way to sts with its secret")
    source.now = 3590
    assert (await identity.keys()).access_key_id == "key 1"
    source.now = 3601
    with pytest.raises(NoIdentity, match=r"of its own: OSError: no way to sts with \*\*\*$"):
        await identity.keys()
    source.failure = None
    with pytest.raises(NoIdentity):
        await identity.keys()
    source.now = 3620
    assert (await identity.keys()).access_key_id == "key 2"


async def test_regions_that_do_not_answer_hold_up_nothing_else_in_the_process() -> None:
    """Whoever may use the identity may name any Region, and a request to one that is none takes minutes."""
    over = threading.Event()

    def never(_: str) -> None:
        over.wait(60)

    identities = Identities(never)
    asking = [(identity := identities.of(f"eu-nowhere-{n}"), asyncio.create_task(identity.keys())) for n in range(60)]
    await asyncio.sleep(0.1)
    try:
        async with asyncio.timeout(20):
            await asyncio.to_thread(int)
    finally:
        over.set()
        await asyncio.gather(*(task for _, task in asking), return_exceptions=True)
