"""Whatever a host answers to whichever request, it is an error in words, soon, and nothing else stands still."""

import copy
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rollup_operator.http.api.search_errors import asking
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.model.store import ClusterStoreSpec as Spec
from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.errors import SourceInvalid, SourceNotFound, StoreError
from rollup_operator.stores.opensearch import ClusterStore, Connections, HostRules
from rollup_operator.stores.opensearch.records import ALIAS
from rollup_operator.stores.opensearch.target.lock import locked
from rollup_operator.stores.opensearch.transport.answers import LISTING
from rollup_operator.stores.search import EVERYTHING, ByPredicate, ByTerms, ByWidth, Exists, Fetch, Level, Number, Rows
from rollup_operator.stores.secrets import SecretContent
from support.hostile_cluster import HONEST, HOUR, INDEX, JOB, honest, kind_of, renamed, spoiled
from support.hostile_host import Answer, Asked, HostileHost, Said, bomb, hostile_host, said
from support.portions import watched

SPAN = Span(0, 6 * HOUR)

Do = Callable[[ClusterStore], Awaitable[object]]


async def run(store: ClusterStore) -> None:
    """A run of the job, which also reads once more what is rolled up."""
    session = store.session(JOB, "me")
    try:
        claim = await session.claim()
        await session.describe(claim, SPAN)
        again = await session.read_again(claim, Span(0, 5 * HOUR), None)
        await session.rewrite(claim, again)
        while True:
            page = await session.read(claim, SPAN)
            if not page.buckets:
                break
            claim = await session.write(claim, page)
        claim = await session.commit_watermark(claim, 6 * HOUR, claim.stats)
        await session.publish(claim)
        await session.release(claim)
    finally:
        await session.close()


async def settle(store: ClusterStore) -> None:
    await store.settle(JOB, "me", delete_documents=False)


async def forget(store: ClusterStore) -> None:
    await store.settle(JOB, "me", delete_documents=True)


async def lock(store: ClusterStore) -> None:
    async with locked(store._cluster, ALIAS, "out", opaque_id="x", abandoned=0.0):
        pass


async def fields(store: ClusterStore) -> None:
    await store.fields("rows", "out")


async def target(store: ClusterStore) -> None:
    await store.rollup_index("out")


async def preview(store: ClusterStore) -> None:
    await store.preview(JOB, SPAN, 10)


VALUES = Number("sum", "value"), Number("min", "value")
BY_SIZE = Level("size", ByWidth("size", 10.0))
SEARCHED = Fetch(
    Rows("rows", JOB.spec),
    EVERYTHING,
    None,
    VALUES,
    (Level("t", ByTerms("term", "keyword", 10), VALUES, (BY_SIZE,)), Level("p", ByPredicate((Exists("value"),)))),
)


async def tiers(store: ClusterStore) -> None:
    """What is rolled up, as a search asks for it, and an index of another cluster's history."""
    store._tiers._first.clear()
    await store.tiers(["out"])


async def search(store: ClusterStore) -> None:
    await store.search([SEARCHED], seconds=5.0)


KINDS: dict[str, Do] = {
    "about": ClusterStore.check,
    "idle": ClusterStore.check,
    "health": ClusterStore.check,
    "time": ClusterStore.clock,
    "tasks": settle,
    "claim": run,
    "lock": lock,
    "recorded": run,
    "settings": run,
    "uuid": run,
    "look": target,
    "aliases": run,
    "changed": run,
    "fields": fields,
    "counted": preview,
    "edge": run,
    "summed": run,
    "ends": preview,
    "page": preview,
    "bulk": run,
    "failed bulk": run,
    "refreshed": ClusterStore.known_jobs,
    "listed": ClusterStore.known_jobs,
    "documents": run,
    "deleted": forget,
    "rolled": tiers,
    "recalled": tiers,
    "edges": tiers,
    "searched": search,
}
"""What brings each kind of request about."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollup_operator.stores.opensearch.transport.retry.SECONDS", 0.0)


def honest_but(kind: str, odd: Said) -> Answer:
    """What an honest cluster answers, but for requests of one kind."""
    return lambda asked: odd if kind_of(asked) == kind.removeprefix("failed ") else honest(asked)


@asynccontextmanager
async def store_at(host: HostileHost, login: dict[str, bytes] | None = None) -> AsyncIterator[ClusterStore]:
    rules = HostRules.read(["127.0.0.1"])
    ref = {"credentialsSecretRef": {"name": "login"}} if login else {}
    spec = Spec.model_validate({"hosts": [host.url], "requestTimeoutSeconds": 10, **ref})

    async def secret(_: str) -> SecretContent:
        assert login is not None
        return SecretContent(login)

    store = ClusterStore(
        "opensearch", Connections("opensearch", spec, read_secret=secret, rules=rules).cluster(), is_alive=bool
    )
    try:
        yield store
    finally:
        await store.close()


async def outcome(do: Do, store: ClusterStore) -> StoreError | None:
    try:
        await do(store)
    except StoreError as e:
        return e
    return None


@pytest.mark.parametrize("do", sorted(set(KINDS.values()), key=lambda do: do.__qualname__))
async def test_the_honest_answers_are_good_ones(do: Do) -> None:
    with hostile_host(honest) as host:
        async with store_at(host) as store:
            assert await outcome(do, store) is None
    asked = {kind_of(request) for request in host.asked}
    assert {kind for kind, by in KINDS.items() if by is do and kind != "failed bulk"} <= asked


def examples_of(kind: str) -> Sequence[object]:
    """Spoiled answers. Of many it is only some, of each value and with each spoil; ODD_ANSWERS=all: all of them."""
    odd = list(spoiled(HONEST[kind]))
    if os.environ.get("ODD_ANSWERS") == "all":
        return odd
    few, many = (50, 1000) if KINDS[kind] is run else (500, 5000)  # a run takes long
    return odd[:: 1 if len(odd) < few else 3 if len(odd) < many else 13]  # prime to the number of spoils


@pytest.mark.parametrize("kind", KINDS)
async def test_a_value_that_is_not_what_it_should_be_is_said_in_words(kind: str) -> None:
    worst, examples = 0.0, 0
    with hostile_host(honest) as host:
        async with store_at(host) as store:
            for odd in examples_of(kind):
                examples += 1
                host.answer = honest_but(kind, said(odd))
                began = time.monotonic()
                error = await outcome(KINDS[kind], store)
                worst = max(worst, time.monotonic() - began)
                assert error is None or 0 < len(str(error)) < 3000
                assert error is None or str(error).isprintable()
    assert examples > 15
    assert worst < 5


LOGINS = ("hunter2-pass", "YWxpY2U6aHVudGVyMi1wYXNz")
"""A password, and the header with it and a name."""


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind != "claim"]
)  # records name jobs, as operators wrote them
async def test_a_login_is_in_nothing_that_is_said_of_an_answer(kind: str) -> None:
    odd = [*spoiled(HONEST[kind], LOGINS), *(made for login in LOGINS for made in renamed(HONEST[kind], login))]
    with hostile_host(honest) as host:
        async with store_at(host, {"username": b"alice", "password": LOGINS[0].encode()}) as store:
            await outcome(ClusterStore.check, store)
            for each in odd:
                host.answer = honest_but(kind, said(each))
                shown = str(await outcome(KINDS[kind], store))
                assert not [login for login in LOGINS if login in shown], each
            if kind == "about":
                host.answer = honest_but(
                    kind, said({"version": {"number": f"2.19.1-{LOGINS[0]}", "distribution": "opensearch"}})
                )
                assert (await store.check()).version == "2.19.1-***"


REASONS = {
    "blanks": " " * 60_000 + "z",
    "many blanks": " " * 10_000_000 + "z",
    "queues": "rejected execution of " * 20_000,
    "names": "rejected execution of x on y[name = " + "[name = " * 20_000,
    "sources": "\n at [Source" * 20_000,
}

BODIES: dict[str, Said] = {
    "nothing": Said(b""),
    "null": Said(b"null"),
    "a list": Said(b"[]"),
    "a number": Said(b"7"),
    "a text": Said(b'"text"'),
    "html": Said(b"<html><body>Welcome</body></html>", headers=(("Content-Type", "text/html"),)),
    "cut off": Said(b'{"version": {"num'),
    "nan": Said(b'{"errors": NaN, "count": Infinity}'),
    "too large a number": Said(b'{"count": 1e999, "total": ' + b"9" * 5_000 + b"}"),
    "no utf-8": Said(b'{"status": "\xff\xfe", "acknowledged": true}'),
    "utf-16": Said('{"status": "green"}'.encode("utf-16")),
    "half a character": Said(b'{"status": "\\ud800"}'),
    "deep lists": Said(b"[" * 100_000),
    "deep objects": Said(b'{"a":' * 1_000 + b"1" + b"}" * 1_000),
    "less than promised": Said(b'{"acknowledged":', more=100),
    "a redirect": Said(b"", 302, (("Location", "http://127.0.0.1:1/" + "x" * 9_000),)),
    "no content": Said(b"", 204),
    "many lists": Said(b"[" + b"[]," * 300_000 + b"[]]"),
    "an endless list": Said(b"[]," * 20_000, times=1_000),
    "endless buckets": Said(b'{"aggregations":{"rollup":{"buckets":[' + b"[]," * 10_000_000 + b"[]]}}}"),
    "a bomb": bomb(200_000_000),
    "no gzip": Said(b"{}", headers=(("Content-Encoding", "gzip"),)),
    "an unknown encoding": Said(b"{}", headers=(("Content-Encoding", "rot13"),)),
    "an error that is a list": said([1, 2], 400),
    "an error of odd types": said({"error": {"type": {"a": 1}, "reason": ["x"], "root_cause": [{"type": 7}]}}, 400),
    "an error without end": said(
        {"error": {"failed_shards": [{"reason": {"type": "x"}}] * 5_000, "root_cause": 1}}, 500
    ),
    "causes of causes": Said(b'{"error":' + b'{"type":"a","caused_by":' * 300 + b"1" + b"}" * 301, 400),
    "failures": said({"failures": [{"cause": 7, "status": "x"}], "total": -1}, 409),
    "an error in html": Said(b"<h1>502</h1>" * 1_000, 502, (("Content-Type", "text/html"),)),
    "an endless error": Said(b"x" * 65_536, 503, times=2_000),
    **{f"an error of {name}": said({"error": {"type": "x", "reason": text}}, 400) for name, text in REASONS.items()},
}


@pytest.mark.parametrize("body", BODIES)
async def test_what_is_no_answer_at_all_is_said_in_words_and_holds_up_nobody(body: str) -> None:
    worst = 0.0
    with hostile_host(honest) as host:
        async with store_at(host) as store, watched() as loop:
            for kind, do in KINDS.items():
                host.answer = honest_but(kind, BODIES[body])
                began = time.monotonic()
                error = await outcome(do, store)
                worst = max(worst, time.monotonic() - began)
                assert error is None or 0 < len(str(error)) < 3000
    assert worst < 10
    assert loop.longest < 0.25


def searched(*buckets: object, levels: int = 0) -> Said:
    """An answer of a search with these buckets."""
    found: dict[str, Any] = copy.deepcopy(HONEST["searched"])
    found["responses"][0]["aggregations"]["l0"]["buckets"] = [{"key": b, "doc_count": 1, "l0": {"buckets": [
        {"key": float(n), "doc_count": 1} for n in range(levels)]}} for b in buckets]  # fmt: skip
    return said(found)


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (searched("x" * 26_000_000), "longer than 25165824 bytes"),
        (searched(*"abcd", levels=101_000), "more than 400000 lists and objects"),
    ],
    ids=["long", "rich"],
)
async def test_who_searches_reads_why_an_answer_is_too_much(odd: Said, why: str) -> None:
    with hostile_host(honest_but("searched", odd)) as host:
        async with store_at(host) as store:
            with pytest.raises(ApiError) as refused:
                async with asking("metrics"):
                    await search(store)
    assert (refused.value.status, refused.value.type) == (400, "illegal_argument_exception")
    assert why in refused.value.reason
    assert "a smaller size, fewer metrics, or group by shorter texts" in refused.value.reason


# Index metadata that somebody else wrote

JOBS = 4_000
CONFIGURATION = {
    "index_pattern": "rows",
    "groups": {"date_histogram": {"field": "ts", "fixed_interval": "1h"}, "terms": {"fields": ["a", "b", "c"]}},
    "metrics": [{"field": "value", "metrics": ["min", "max", "sum"]}],
}


def planted(asked: Asked) -> Said:
    """What a cluster answers in whose index `out` somebody has written the metadata of so many jobs."""
    match kind_of(asked):
        case "rolled":
            jobs = {f"job-{n}": CONFIGURATION for n in range(JOBS)}
            return said({"out": {**INDEX, "mappings": {"_meta": {"_rollup": jobs}}}})
        case "recalled":
            return said({"docs": [{"_id": each, "found": False} for each in asked.body["ids"]]})
        case "edges":
            ends = {"first": {"value": 0.0}, "last": {"value": 3_600_000.0}}
            return said({"responses": [{"hits": {"hits": []}, "aggregations": ends}] * (len(asked.body) // 2)})
    return honest(asked)


async def test_many_jobs_in_one_index_hold_up_nobody() -> None:
    with hostile_host(planted) as host:
        async with store_at(host) as store, watched() as loop:
            found = await store.tiers(["out"])
    assert len(found) == JOBS
    assert len(planted(Asked("GET", "/out?filter_path=mappings", None, None)).body) < LISTING
    assert loop.longest < 0.05


# As many names as an answer may have

FIELDS, INDICES = 19_900, 39_000


def listing(asked: Asked) -> Said:
    """What a cluster answers that has so many fields and indices, and none of the one that is called nothing."""
    if "_resolve" in asked.target:
        return said({"indices": [{"name": f"logs-{n:06d}x{n % 977}"} for n in range(INDICES)]})
    if kind_of(asked) != "fields":
        return honest(asked)
    if "nothing" in asked.target:
        return said({"indices": [], "fields": {}})
    return said({"indices": ["rows"], "fields": {f"f{n}": {"double": {"aggregatable": True}} for n in range(FIELDS)}})


async def test_a_long_list_of_names_holds_up_nobody() -> None:
    with hostile_host(listing) as host:
        async with store_at(host) as store, watched() as loop:
            assert len(await store.fields("rows", "out")) == FIELDS
            assert isinstance(await outcome(lambda store: store.fields("nothing", "out"), store), SourceNotFound)
            assert isinstance(await outcome(preview, store), SourceInvalid)
    assert loop.longest < 0.05
