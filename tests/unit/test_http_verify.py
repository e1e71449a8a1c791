"""The verify call, over the doubles: what it takes, what it answers, who may have it, and what ends it."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from rollup_operator.http import verify_calls
from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.api import verify
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.indexer.verify import VerifyProgress
from rollup_operator.model.conditions import Reason
from rollup_operator.rollup.bounds import HOUR, Span
from rollup_operator.rollup.comparison import Finding, Kind
from rollup_operator.rollup.documents import Layout, document_id, scheme_2_id
from rollup_operator.stores.errors import IdentityConflict, SourceNotFound, StoreElsewhere
from support.access_double import AUTHORIZATION, Anybody
from support.http_calls import Client, call
from support.http_double import Cluster, Comparison

PATH = "/_rollup/job/sensor/_verify"
DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text())
KNOWN = Draft202012Validator({"$ref": "#/components/schemas/Verification", "components": DOCUMENT["components"]})
"""What the API's document says of an answer."""
EXAMPLE = DOCUMENT["components"]["schemas"]["Verification"]["properties"]["examples"]["items"]


@pytest.fixture
def store(cluster: Cluster) -> Comparison:
    """The store of a started job."""
    cluster.create("sensor", desiredState="started", metrics=[{"field": "load", "metrics": ["max"]}])
    return cluster.shelf.comparison


@pytest.mark.parametrize("base", ["/_rollup", "/_xpack/rollup"])
@pytest.mark.parametrize("space", ["", "/namespaces/default"])
async def test_a_job_that_is_well_is_verified(client: Client, store: Comparison, base: str, space: str) -> None:
    status, answered = await call(client, "POST", f"{space}{base}/job/sensor/_verify")
    assert status == 200
    KNOWN.validate(answered)
    assert answered.pop("took") >= 0
    assert answered == {
        "job": "sensor",
        "verified": True,
        "range": {"gte": "1970-01-01T00:00:00Z", "lt": "1970-01-03T00:00:00Z"},
        "rolled_up_to": "1970-01-03T00:00:00Z",
        "full": True,
        "source_documents": 48,
        "days": {"total": 2, "compared": 2, "with_findings": 0},
        "buckets": {"compared": 48, "differs": 0, "missing": 0, "extra": 0, "duplicate": 0},
        "by_day": [],
        "examples": [],
        "notes": ["a note"],
    }
    assert (len(store.opened), store.left) == (1, 1)


async def test_what_is_wrong_is_listed_by_day_with_examples(client: Client, store: Comparison) -> None:
    store.missing = {30, 31}
    _, answered = await call(client, "POST", PATH)
    KNOWN.validate(answered)
    assert answered["verified"] is False
    assert answered["buckets"] == {"compared": 48, "differs": 0, "missing": 2, "extra": 0, "duplicate": 0}
    assert answered["by_day"] == [
        {
            "gte": "1970-01-02T00:00:00Z",
            "lt": "1970-01-03T00:00:00Z",
            "source_documents": 24,
            "rolled_up_documents": 22,
            "differs": 0,
            "missing": 2,
            "extra": 0,
            "duplicate": 0,
        }
    ]
    first, _ = answered["examples"]
    assert first["kind"] == "missing"
    assert first["key"] == {"timestamp.date_histogram": "1970-01-02T06:00:00Z"}
    assert first["fields"] == [{"field": "timestamp.date_histogram._count", "stored": None, "recomputed": 1}]
    assert first["_id"].startswith("sensor$")
    assert len(store.opened) == 2  # what was found is read once more


async def test_a_thousand_findings_make_a_small_answer(client: Client, store: Comparison) -> None:
    store.missing = {*range(48)}
    _, answered = await call(client, "POST", PATH)
    assert answered["buckets"]["missing"] == 48
    assert len(json.dumps(answered)) < 40_000


async def test_the_stretch_the_fields_and_the_depth_are_the_caller_s(client: Client, store: Comparison) -> None:
    body = {"from": "1970-01-01T12:30", "to": "1970-01-02", "fields": ["load"], "full": False}
    status, answered = await call(client, "POST", PATH, body)
    assert status == 200
    assert store.asked == [Span(13 * HOUR, 24 * HOUR)]
    assert store.opened[0][1] == ["load"]
    assert (answered["full"], answered["days"]) == (False, {"total": 1, "compared": 0, "with_findings": 0})


async def test_counts_choose_the_days_of_many_rows(client: Client, store: Comparison) -> None:
    store.rows, store.missing = 10_000_001, {30}
    _, answered = await call(client, "POST", PATH)
    assert answered["full"] is False
    assert answered["days"] == {"total": 2, "compared": 1, "with_findings": 1}
    assert (await call(client, "POST", PATH, {"full": True}))[1]["days"]["compared"] == 2


async def test_nothing_is_compared_before_it_is_over(client: Client, store: Comparison) -> None:
    await call(client, "POST", PATH, {"from": "now-1h", "to": "now+10y"})
    (asked,) = store.asked
    assert asked.end_ms - asked.start_ms <= HOUR


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"form": "2024"}, "unknown field [form]: use one of fields, from, full, to"),
        ({"from": True}, "[from] must be a date"),
        ({"from": "2024-02-01", "to": "2024-01-01"}, "[from] [2024-02-01] is not before [to] [2024-01-01]"),
        ({"to": "yesterday"}, "[to] must be a date, as in 2024-01-31 or now-7d/d, and not [yesterday]"),
        ({"fields": "load"}, "[fields] must be a list"),
        ({"fields": ["speed"]}, "the job has no metrics of [speed]; it has those of [load]"),
        ({"full": "yes"}, "[full] must be true or false"),
        ([], "the body must be a JSON object"),
    ],
)
async def test_what_cannot_be_meant_is_refused(client: Client, store: Comparison, body: Any, said: str) -> None:
    status, answered = await call(client, "POST", PATH, body)
    assert status == 400
    assert said in answered["error"]["reason"]
    assert store.opened == []


async def test_a_job_that_is_gone_by_the_time_that_it_is_verified_is_not_read(
    store: Comparison, cluster: Cluster
) -> None:
    """Nobody says so any more to who listens only then."""
    verifications = verify.Verifications(cluster, cluster, cluster, "here", lambda: datetime.now(UTC))
    job = cluster.find("default", "sensor")
    assert job is not None
    prepared = verifications.prepare(job, verify.VerifyRequest())
    cluster.remove("sensor")
    with pytest.raises(ApiError, match="was deleted while it was verified"):
        await verifications.verify(prepared, VerifyProgress())
    assert store.opened == []


async def test_it_takes_a_right_of_its_own(client: Client, store: Comparison, access: Anybody) -> None:
    access.denied.add((EndpointAction.VERIFY, "sensor"))
    assert (await call(client, "POST", PATH))[0] == 403
    assert store.opened == []
    assert access.asked == [(EndpointAction.VERIFY, "default", "sensor")]


async def test_a_job_that_is_not_there_is_not_found(client: Client, store: Comparison) -> None:
    status, answered = await call(client, "POST", "/_rollup/job/other/_verify")
    assert (status, answered["error"]["reason"]) == (404, "Task for Rollup Job [other] not found")


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (StoreElsewhere("another leads"), 503, "another leads"),
        (SourceNotFound("flights is gone"), 400, "Rollup job [sensor] cannot be verified: flights is gone"),
        (IdentityConflict(Reason.JOB_ID_TAKEN, "another's documents"), 400, "another's documents"),
    ],
)
async def test_what_a_store_says_is_for_who_may_read_it(
    client: Client, store: Comparison, cluster: Cluster, access: Anybody, raised: Exception, status: int, said: str
) -> None:
    cluster.shelf.fail = raised
    answered = await call(client, "POST", PATH)
    assert answered[0] == status
    assert said in json.dumps(answered[1])
    access.reads_stores = False
    _, answered = await call(client, "POST", PATH)
    assert (said in json.dumps(answered)) == isinstance(raised, SourceNotFound)


async def test_a_stop_ends_it(client: Client, store: Comparison, cluster: Cluster) -> None:
    store.gate = asyncio.Event()
    calling = asyncio.ensure_future(call(client, "POST", PATH))
    await store.compared.wait()
    cluster.status("sensor", state="indexing")
    cluster.edit("sensor", cron="0 5 * * * ?")
    await asyncio.sleep(0)
    assert not calling.done()
    cluster.ask("sensor", "stopped")
    status, answered = await calling
    assert (status, answered["error"]["reason"]) == (
        409,
        "Rollup job [sensor] was stopped while it was verified; verify it again",
    )
    assert store.ended == store.left + 1 == 1


async def test_a_stop_waits_for_its_end(client: Client, store: Comparison, cluster: Cluster) -> None:
    sensor = cluster.find("default", "sensor")
    assert sensor is not None
    store.gate = asyncio.Event()
    calling = asyncio.ensure_future(call(client, "POST", PATH))
    await store.compared.wait()
    assert cluster.read[sensor.uid] == 1
    cluster.ask("sensor", "stopped")
    await calling
    assert (cluster.read[sensor.uid], store.ended) == (0, 1)


async def test_a_stop_waits_for_one_of_a_job_that_was_started_meanwhile(
    client: Client, store: Comparison, cluster: Cluster
) -> None:
    cluster.ask("sensor", "stopped")
    sensor = cluster.find("default", "sensor")
    assert sensor is not None
    store.gate = asyncio.Event()
    calling = asyncio.ensure_future(call(client, "POST", PATH))
    await store.compared.wait()
    assert cluster.read[sensor.uid] == 0
    cluster.ask("sensor", "started")
    assert cluster.read[sensor.uid] == 1
    cluster.ask("sensor", "stopped")
    assert (await calling)[0] == 409
    assert cluster.read[sensor.uid] == 0


async def test_a_caller_who_is_cut_off_again_and_again_leaves_nothing_that_a_stop_waits_for(
    store: Comparison, cluster: Cluster
) -> None:
    verifications = verify.Verifications(cluster, cluster, cluster, "c", lambda: datetime.now(UTC))
    sensor = cluster.find("default", "sensor")
    assert sensor is not None
    store.gate = asyncio.Event()
    prepared = verifications.prepare(sensor, verify.VerifyRequest())
    verifying = asyncio.ensure_future(verifications.verify(prepared, VerifyProgress()))
    await store.compared.wait()
    while not verifying.done():
        verifying.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await verifying
    assert (cluster.read[sensor.uid], store.ended) == (0, 1)


async def test_a_stop_before_it_begins_ends_it(store: Comparison, cluster: Cluster) -> None:
    verifications = verify.Verifications(cluster, cluster, cluster, "c", lambda: datetime.now(UTC))
    sensor = cluster.find("default", "sensor")
    assert sensor is not None
    prepared = verifications.prepare(sensor, verify.VerifyRequest())
    cluster.ask("sensor", "stopped")
    with pytest.raises(ApiError, match="was stopped while it was verified"):
        await verifications.verify(prepared, VerifyProgress())
    assert store.opened == []


async def test_a_stop_ends_one_that_waits_for_its_turn(store: Comparison, cluster: Cluster) -> None:
    verifications = verify.Verifications(cluster, cluster, cluster, "c", lambda: datetime.now(UTC))

    def begun(name: str) -> asyncio.Task[dict[str, Any]]:
        job = cluster.find("default", name)
        assert job is not None
        prepared = verifications.prepare(job, verify.VerifyRequest())
        return asyncio.ensure_future(verifications.verify(prepared, VerifyProgress()))

    cluster.create("other", desiredState="started")
    store.gate = asyncio.Event()
    others = [begun("other") for _ in range(verify.AT_ONCE // 2)]
    await store.compared.wait()
    waiting = begun("sensor")
    await asyncio.sleep(0.01)
    cluster.ask("sensor", "stopped")
    with pytest.raises(ApiError, match="was stopped while it was verified"):
        await asyncio.wait_for(waiting, verify.TURN_SECONDS / 2)
    assert not any(other.done() for other in others)
    store.gate.set()
    await asyncio.gather(*others)


async def test_a_job_that_is_stopped_can_be_verified(client: Client, store: Comparison, cluster: Cluster) -> None:
    cluster.ask("sensor", "stopped")
    store.gate = asyncio.Event()
    calling = asyncio.ensure_future(call(client, "POST", PATH))
    await store.compared.wait()
    cluster.status("sensor", state="stopped")
    store.gate.set()
    assert (await calling)[0] == 200


async def test_a_deletion_ends_it(client: Client, store: Comparison, cluster: Cluster) -> None:
    store.gate = asyncio.Event()
    calling = asyncio.ensure_future(call(client, "POST", PATH))
    await store.compared.wait()
    cluster.remove("sensor")
    assert (await calling)[0] == 409


async def test_a_caller_who_hangs_up_ends_it(client: Client, store: Comparison) -> None:
    store.gate = asyncio.Event()
    calling = asyncio.ensure_future(call(client, "POST", f"{PATH}?progress"))
    await store.compared.wait()
    calling.cancel()
    async with asyncio.timeout(5):
        while not store.ended:  # noqa: ASYNC110 - the double announces nothing
            await asyncio.sleep(0.01)


async def lines(client: Client, **more: Any) -> tuple[int, str, list[Any]]:
    async with client.post(f"{PATH}?progress=true", headers=AUTHORIZATION, **more) as answer:
        text = await answer.text()
        return answer.status, answer.content_type, [json.loads(line) for line in text.splitlines()]


async def test_a_long_one_answers_in_lines(client: Client, store: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_calls, "LINE_SECONDS", 0.01)
    store.gate = asyncio.Event()
    calling = asyncio.ensure_future(lines(client))
    await store.compared.wait()
    await asyncio.sleep(0.1)
    store.gate.set()
    status, kind, (first, *_, last) = await calling
    assert (status, kind) == (200, "application/x-ndjson")
    assert first == {"progress": {"doing": "comparing buckets", "percent": 51, "days": 2, "buckets": 1, "findings": 0}}
    KNOWN.validate(last["result"])


async def test_the_last_line_may_be_an_error(
    client: Client, store: Comparison, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_calls, "LINE_SECONDS", 0.01)
    store.gate = asyncio.Event()
    calling = asyncio.ensure_future(lines(client))
    await store.compared.wait()
    await asyncio.sleep(0.1)
    cluster.ask("sensor", "stopped")
    _, _, (*_, last) = await calling
    assert last["status"] == 409


async def test_an_error_before_the_first_line_is_an_error_like_any_other(
    client: Client, store: Comparison, cluster: Cluster
) -> None:
    cluster.shelf.fail = StoreElsewhere("another leads")
    status, kind, (answered,) = await lines(client)
    assert (status, kind, answered["status"]) == (503, "application/json", 503)


async def test_a_short_one_in_lines_has_the_result_alone(client: Client, store: Comparison) -> None:
    status, _, (only,) = await lines(client)
    assert (status, only["result"]["verified"]) == (200, True)


async def test_one_without_lines_has_a_limit(
    client: Client, store: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_calls, "WHOLE_SECONDS", 0.05)
    store.gate = asyncio.Event()
    status, answered = await call(client, "POST", PATH)
    assert status == 504
    assert "[progress=true]" in answered["error"]["reason"]
    assert store.ended == 1


async def test_few_go_on_at_a_time(client: Client, store: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "WAITING", 0)
    store.gate = asyncio.Event()
    calls = [asyncio.ensure_future(call(client, "POST", PATH)) for _ in range(verify.AT_ONCE + verify.WAITING)]
    await store.compared.wait()
    store.gate.set()
    assert {status for status, _ in await asyncio.gather(*calls)} == {200}


def test_of_a_doubled_document_both_ids_that_may_be_right_are_named_where_two_may() -> None:
    """Who deletes all but the newer one would lose a document that an earlier version wrote."""
    layout = Layout("job", "at", "1h", "UTC", (), None, ("k",), ())
    for kind, term, named in (
        (Kind.DUPLICATE, "a$b", True), (Kind.DUPLICATE, "ab", False), (Kind.MISSING, "a$b", False),
    ):  # fmt: skip
        example = verify._example(layout, Finding(kind, (HOUR, term)))
        assert ("older_id" in example) is named
        if named:
            keys = [("at.date_histogram", HOUR), ("k.terms", term)]
            assert (example["_id"], example["older_id"]) == (document_id("job", keys), scheme_2_id("job", keys))
        KNOWN.evolve(schema={**EXAMPLE, "components": DOCUMENT["components"]}).validate(example)
