"""Jobs on a real node behind a door that lets in only what is signed as Amazon OpenSearch Service wants it."""

import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from rollup_operator.indexer.run import Run
from rollup_operator.model.conditions import Reason
from rollup_operator.model.store import OpenSearchStore as Spec
from rollup_operator.rollup.due import due
from rollup_operator.stores.errors import SecretInvalid, StoreUnsuitable
from rollup_operator.stores.opensearch import Connections, HostRules, Identities
from rollup_operator.stores.opensearch.transport import aws_identity, signing
from rollup_operator.stores.opensearch.transport.aws_identity import AwsIdentity, Lent, NoIdentity
from rollup_operator.stores.opensearch.transport.errors import Unauthorized
from rollup_operator.stores.opensearch.transport.signing import Keys
from rollup_operator.stores.secrets import SecretContent
from support.aws import Domain, Key
from support.clustered import Clustered
from support.embedded import Row, agree, truth
from support.rounding import HOUR, hour, ms
from support.store_http import StoreHttp
from support.store_proxy import StoreProxy

REGION = "eu-central-1"
START = ms("2024-03-01T00:00")
ROWS: list[Row] = [(START + i * HOUR // 10, float(i), "ab"[i % 2], i % 30) for i in range(600)]


@dataclass
class Amazon:
    """A domain, the Secret of a store there, and the way to it."""

    domain: Domain = field(default_factory=lambda: Domain(REGION, {"AKIDFIRST": Key("first/secret")}))
    secret: dict[str, bytes] = field(
        default_factory=lambda: {"accessKeyId": b"AKIDFIRST\n", "secretAccessKey": b"first/secret\n"}
    )

    async def read(self, name: str) -> SecretContent:
        if not self.secret:
            raise SecretInvalid("there is none")
        return SecretContent(self.secret)

    def session(self, name: str, secret: str, token: str) -> None:
        """Put the keys of a session into the Secret, which the domain is to know."""
        self.domain.keys[name] = Key(secret, token)
        keys = {"accessKeyId": name, "secretAccessKey": secret, "sessionToken": token}
        self.secret = {key: value.encode() for key, value in keys.items()}

    def connections(
        self, url: str, *, identity: Callable[[str], AwsIdentity] | None = None, **spec: Any
    ) -> Connections:
        aws = {"aws": {"region": REGION}, **spec}
        if identity is None:
            aws = {"credentialsSecretRef": {"name": "keys"}, **aws}
        read = Spec.model_validate({"hosts": [url], **aws})
        rules = HostRules.read(["127.0.0.1"])
        return Connections("opensearch", read, read_secret=self.read, rules=rules, identity=identity)

    @asynccontextmanager
    async def store(self, node: StoreHttp, **more: Any) -> AsyncIterator[tuple[StoreProxy, Clustered]]:
        """A store that reaches the node through the domain's door, and that door."""
        async with StoreProxy(node.url, guard=self.domain.judge) as proxy:
            cluster = self.connections(proxy.url, **more).cluster()
            moments = itertools.count(1000, 10)  # so that each refusal is a reason to read the Secret
            cluster.clock = lambda: next(moments)
            try:
                yield proxy, Clustered(node, cluster)
            finally:
                await cluster.close()


async def test_a_job_from_its_first_check_to_its_deletion(opensearch3: StoreHttp) -> None:
    amazon = Amazon()
    async with amazon.store(opensearch3) as (proxy, at):
        at.write(ROWS)
        assert (await at.store.check()).version == opensearch3.node.kind.release
        await at.store.clock()
        assert (await at.store.preview(at.job(), due(at.job().spec, at.now).fresh, 10)).documents
        job = at.job(pageSize=20)
        halted = await at.run(job, halt_when=lambda run: run.progress.pages >= 2)
        assert halted.outcome == "Halted"
        assert at.node.tasks("rollup/") == []
        await at.completed(job)
        agree(at.documents(), truth(ROWS, hour))
        settled = await at.store.settle(at.job(), "me", delete_documents=True)
        assert settled.claim is not None
        assert at.documents() == []
        assert [str(request) for request in proxy.requests if request.status == 403] == []
        assert len(amazon.domain.seen) == len(proxy.requests) > 30


async def test_a_session_that_ends_in_the_middle_of_a_run_and_is_replaced_disturbs_nothing(
    opensearch3: StoreHttp,
) -> None:
    amazon = Amazon()
    amazon.session("ASIAONE", "one", "token/one+==")
    async with amazon.store(opensearch3) as (proxy, at):
        at.write(ROWS)

        def rotate(run: Run) -> bool:
            if run.progress.pages and amazon.secret["accessKeyId"] == b"ASIAONE":
                amazon.domain.keys["ASIAONE"].expired = True
                amazon.session("ASIATWO", "two", "token/two+==")
            return False

        await at.completed(at.job(pageSize=20), halt_when=rotate)
        agree(at.documents(), truth(ROWS, hour))
        refused = [request for request in proxy.requests if request.status == 403]
        assert 0 < len(refused) <= 4  # what was under way with the old one; each came through afterwards
        assert {"ASIAONE", "ASIATWO"} == set(amazon.domain.seen)


REFUSALS: Mapping[str, tuple[Callable[[Amazon], None], str]] = {
    "another secret": (
        lambda a: a.domain.keys.update(AKIDFIRST=Key("another")),
        "the signature is wrong: either secretAccessKey is not the one of accessKeyId",
    ),
    "a key that is gone": (lambda a: a.domain.keys.clear(), "AWS does not know this accessKeyId"),
    "an expired session": (
        lambda a: setattr(a.domain.keys["AKIDFIRST"], "expired", True),
        "the session has expired: put a new accessKeyId",
    ),
    "a clock that is behind": (
        lambda a: setattr(a.domain, "now", lambda: time.time() + 400),
        "the clock of the operator's machine is more than five minutes off",
    ),
    "a clock that is ahead": (
        lambda a: setattr(a.domain, "now", lambda: time.time() - 400),
        "the clock of the operator's machine is more than five minutes off",
    ),
    "another Region": (lambda a: setattr(a.domain, "region", "eu-west-1"), r"set spec\.opensearch\.aws\.region"),
    "a right that is missing": (
        lambda a: a.domain.forbid("ESHttpPut", "_create"),
        r"recording the claim of job: User: arn:\S+ is not authorized to perform: es:ESHttpPut",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
async def test_a_refusal_says_what_helps_and_the_job_goes_on_once_it_has_helped(
    opensearch3: StoreHttp, what: str
) -> None:
    amazon = Amazon()
    change, words = REFUSALS[what]
    async with amazon.store(opensearch3) as (_, at):
        at.write(ROWS[:50])
        change(amazon)
        result = await at.run()
        assert result.outcome == "Failed"
        assert isinstance(result.error, Unauthorized)
        assert result.error.reason == Reason.STORE_UNAUTHORIZED
        with pytest.raises(Unauthorized, match=words):
            raise result.error
        assert "first/secret" not in str(result)
        amazon.domain.keys, amazon.domain.region, amazon.domain.now = Amazon().domain.keys, REGION, time.time
        amazon.domain.allow_all()
        await at.completed()


async def test_keys_that_a_door_repeats_are_hidden(opensearch3: StoreHttp) -> None:
    amazon = Amazon()
    amazon.session("ASIAONE", "one/secret", "token/one+==")
    async with StoreProxy(
        opensearch3.url, guard=lambda r: (400, {"message": f"what is {r.head.raw.decode()}?"})
    ) as proxy:
        cluster = amazon.connections(proxy.url).cluster()
        with pytest.raises(Exception, match=r"X-Amz-Security-Token: \*\*\*.*Signature=\*\*\*") as caught:
            await cluster.call("GET", "/", doing="asking")
        await cluster.close()
    assert "token/one" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"accessKeyId": b""}, "accessKeyId is empty"),
        ({"accessKeyId": b"AK ID"}, "accessKeyId has characters that no header can carry"),
        ({"secretAccessKey": b""}, "secretAccessKey is empty"),
        ({"sessionToken": b""}, "sessionToken is empty"),
        ({"username": b"u", "password": b"p"}, "there is username, password: with spec.opensearch.aws give"),
        ({"apiKey": b"k"}, "there is apiKey: with spec.opensearch.aws give"),
        ({"secretAccessKey": b"x" * 2**14}, "the login has"),
    ],
)
async def test_a_secret_that_cannot_sign(more: dict[str, bytes], words: str) -> None:
    amazon = Amazon()
    amazon.secret.update(more)
    with pytest.raises(SecretInvalid, match=rf"^Secret 'keys' \(spec.opensearch.credentialsSecretRef\): {words}"):
        await amazon.connections("https://127.0.0.1:1").open()


async def test_keys_of_aws_without_the_field_that_signs() -> None:
    with pytest.raises(SecretInvalid, match=r"it has keys of AWS, which sign requests: set spec\.opensearch\.aws"):
        await Amazon().connections("https://127.0.0.1:1", aws=None).open()


def test_what_cannot_be_signed_is_refused_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    amazon = Amazon()
    rules = HostRules.read(["search.example.org", "127.0.0.1", "*.amazonaws.com"])

    def refused(host: str, words: str, **spec: Any) -> None:
        read = Spec.model_validate({"hosts": [host], "aws": {"region": REGION}, **spec})
        with pytest.raises(StoreUnsuitable, match=words):
            Connections("opensearch", read, read_secret=amazon.read, rules=rules)

    ref: dict[str, Any] = {"credentialsSecretRef": {"name": "keys"}}
    refused(
        "http://search.example.org", r"hosts\[0\]: without TLS anybody on the network path can read the login of", **ref
    )
    refused(
        "https://x1.eu-central-1.aoss.amazonaws.com", r"hosts\[0\]: it is a collection of OpenSearch Serverless", **ref
    )
    refused("https://search.example.org", r"^spec\.opensearch\.aws: name the Secret .* store_aws_namespaces names")
    monkeypatch.setattr(signing, "is_installed", lambda: False)
    refused("https://search.example.org", r"^spec\.opensearch\.aws: .* install rollup-operator\[aws\]$", **ref)


async def test_the_operators_own_identity_signs_where_it_may(
    opensearch3: StoreHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws_identity, "PAUSE_SECONDS", 0.0)
    amazon = Amazon()
    amazon.domain.keys = {"ASIAPOD1": Key("pod 1", "t1"), "ASIAPOD2": Key("pod 2", "t2")}
    given, old = itertools.count(1), False

    def fetch(region: str) -> Lent | None:
        assert region == REGION
        number = next(given)
        return Lent(Keys(f"ASIAPOD{number}", f"pod {number}", f"t{number}"), lambda _: old and number == 1)

    async with amazon.store(opensearch3, identity=Identities(fetch).of) as (_, at):
        at.write(ROWS)

        def age(run: Run) -> bool:
            nonlocal old
            old = run.progress.pages > 0
            return False

        await at.completed(at.job(pageSize=20), halt_when=age)
        agree(at.documents(), truth(ROWS, hour))
        assert set(amazon.domain.seen) == {"ASIAPOD1", "ASIAPOD2"}


async def test_an_operator_without_an_identity_sends_nothing(opensearch3: StoreHttp) -> None:
    async with Amazon().store(opensearch3, identity=Identities(lambda _: None).of) as (proxy, at):
        with pytest.raises(NoIdentity, match="the operator has no AWS credentials of its own") as caught:
            await at.store.check()
        assert caught.value.reason == Reason.STORE_UNAUTHORIZED
        assert proxy.requests == []
