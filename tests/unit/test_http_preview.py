"""The preview call, over the doubles: what it takes, what it answers, who may have it, and that it changes nothing."""

import asyncio
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.api import preview
from rollup_operator.kube.client import KubeError, Unreachable
from rollup_operator.stores.base import CsvFound, Preview
from rollup_operator.stores.errors import StoreUnavailable
from support import bodies
from support.access_double import Anybody
from support.bodies import sensor
from support.http_calls import Client, call, error, served
from support.http_double import Cluster, Shelf
from support.rounding import ms

PATH = "/_rollup/job/_preview"
DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text())
KNOWN = Draft202012Validator({"$ref": "#/components/schemas/Preview", "components": DOCUMENT["components"]})
"""What the API's document says of an answer."""
ARGUMENT = "illegal_argument_exception"


def manifest(name: str = "sensor", **spec: Any) -> dict[str, Any]:
    groups = {"dateHistogram": {"field": "timestamp", "fixedInterval": "1h"}}
    whole = {"indexPattern": "sensor-*", "rollupIndex": "sensor_rollup", "groups": groups, "metrics": None} | spec
    return bodies.job(name, **whole)


@pytest.mark.parametrize("base", ["/_rollup", "/_xpack/rollup"])
@pytest.mark.parametrize("space", ["", "/namespaces/other"])
@pytest.mark.parametrize("end", ["", "/"])
async def test_a_configuration_is_previewed(client: Client, cluster: Cluster, base: str, space: str, end: str) -> None:
    cluster.shelves["other", "default"] = cluster.shelf
    date = "timestamp.date_histogram"
    stored = {"_rollup.id": "preview", f"{date}.timestamp": 1_388_530_800_000, f"{date}._count": 2}
    document = {"_id": "preview$1", "_source": stored}
    status, answered = await call(client, "POST", f"{space}{base}/job/_preview{end}", sensor())
    assert status == 200
    assert answered["preview"] == [document, document]
    assert answered["estimate"] == {"source_documents": 5000, "buckets": 40, "pages": 3, "time_in_ms": 250}
    assert answered["range"]["gte"] is None
    [(config, span)] = cluster.shelf.previewed
    assert (config.job_id, config.spec.index_pattern, span.start_ms) == ("preview", "sensor-*", 0)
    assert cluster.posted == []
    assert cluster.applied == []


async def test_how_the_source_is_read_is_reported(client: Client, cluster: Cluster) -> None:
    _, answered = await call(client, "POST", PATH, sensor())
    KNOWN.validate(answered)
    assert answered["source"] == {"columns": {}, "csv": []}
    assert answered["notes"] == []
    csv = CsvFound(",", header=True, columns={"a": "VARCHAR"}, time_format="%d/%m/%Y")
    cluster.shelf.preview_found = replace(cluster.shelf.preview_found, columns={"a": "VARCHAR"}, csv=[csv], notes=["n"])
    _, answered = await call(client, "POST", PATH, sensor())
    assert answered["source"] == {
        "columns": {"a": "VARCHAR"},
        "csv": [{"delimiter": ",", "header": True, "columns": {"a": "VARCHAR"}, "time_format": "%d/%m/%Y"}],
    }
    assert answered["notes"] == ["n"]
    KNOWN.validate(answered)


@pytest.mark.parametrize(
    "wrong", [{"notes": [""]}, {"notes": "n"}, {"notes": [None]}, {"notes": None}, {"hints": []}, {"source": {}}]
)
async def test_the_document_takes_no_other_answer(client: Client, wrong: dict[str, Any]) -> None:
    _, answered = await call(client, "POST", PATH, sensor())
    assert not KNOWN.is_valid(answered | wrong)
    assert not KNOWN.is_valid({part: answered[part] for part in answered if part != "notes"})


async def test_the_id_of_the_body_counts(client: Client, cluster: Cluster) -> None:
    await call(client, "POST", PATH, sensor(id="Sensor Data"))
    assert cluster.shelf.previewed[0][0].job_id == "Sensor Data"


async def test_a_manifest_may_name_store_start_and_end(client: Client, cluster: Cluster) -> None:
    cluster.shelves["default", "second"] = second = Shelf()
    bounds = {"start": "2024-01-01T00:00:00Z", "end": "2024-02-01T00:00:00Z"}
    status, answered = await call(client, "POST", PATH, manifest(storeRef={"name": "second"}, **bounds))
    assert status == 200, answered
    assert answered["range"] == {"gte": bounds["start"], "lt": bounds["end"]}
    [(config, span)] = second.previewed
    assert (config.job_id, span.start_ms, span.end_ms) == ("sensor", ms("2024-01-01T00:00"), ms("2024-02-01T00:00"))
    await call(client, "POST", PATH, manifest(jobId="Its Id"))
    assert cluster.shelf.previewed[0][0].job_id == "Its Id"


async def test_a_job_that_is_there_can_be_previewed(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    cluster.shelf.remember("sensor", {}, index="sensor_rollup")
    assert (await call(client, "POST", PATH, manifest()))[0] == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"kind": "CronJob"}, "kind and apiVersion must be [RollupJob]"),
        ({"kind": "RollupJob", "apiVersion": "v1"}, "kind and apiVersion must be [RollupJob]"),
        ({"kind": "RollupJob", "spec": None}, "spec: must be an object"),
        ({"kind": "RollupJob", "metadata": 5}, "metadata.name must be a non-empty string"),
        (manifest(cron="*/5 * * * *"), "spec.cron: expression: '*/5 * * * *' has 5 fields"),
        (manifest(start="2024-01-02T00:00:00Z", end="2024-01-01T00:00:00Z"), "spec.end: '2024-01-01T00:00:00Z'"),
    ],
)
async def test_a_manifest_that_cannot_be_used_is_refused_with_the_reason(client: Client, body: Any, said: str) -> None:
    status, answered = await call(client, "POST", PATH, body)
    assert (status, answered["error"]["type"]) == (400, ARGUMENT)
    assert said in answered["error"]["reason"]


async def test_a_manifest_that_lacks_a_field_is_told_of_unknown_fields_too(client: Client) -> None:
    body = manifest(schedule="0 0 * * * ?", metric=[], page_size=5)
    del body["spec"]["cron"]
    status, answered = await call(client, "POST", PATH, body)
    assert (status, answered["error"]["reason"]) == (
        400,
        'spec.cron: is required; unknown field "spec.schedule", unknown field "spec.metric", unknown field '
        '"spec.page_size"; did you mean "metrics" instead of "spec.metric", "pageSize" instead of "spec.page_size"?',
    )


async def test_a_configuration_is_checked_as_when_it_is_created(client: Client, cluster: Cluster) -> None:
    wrong = [
        sensor(cron="*/5 * * * *"),
        sensor(groups=None),
        sensor(index_pattern="*"),
        sensor(index_pattern="weather"),
        sensor(metrics=[{"field": "speed", "metrics": ["max"]}]),
        sensor() | {"colour": "red"},
    ]
    for body in wrong:
        answer = await call(client, "POST", PATH, body)
        assert answer[0] >= 400
        assert answer == await call(client, "PUT", "/_rollup/job/sensor", body)
    assert (await call(client, "POST", PATH))[1]["error"]["reason"] == "request body is required"
    assert cluster.shelf.previewed == []


async def test_it_takes_the_right_to_create_jobs(client: Client, cluster: Cluster, access: Anybody) -> None:
    access.denied.add((EndpointAction.CREATE, ""))
    assert (await call(client, "POST", PATH, manifest()))[0] == 403
    assert cluster.shelf.previewed == []
    access.denied = {(EndpointAction.CREATE, "sensor")}
    assert (await call(client, "POST", PATH, manifest()))[0] == 200
    assert access.asked == [(EndpointAction.CREATE, "default", "")] * 2


async def test_a_namespace_that_is_not_watched_has_no_previews(cluster: Cluster) -> None:
    async with served(cluster, namespaces=("default",)) as client:
        status, _ = await call(client, "POST", f"/namespaces/other{PATH}", sensor())
    assert status == 404


async def test_a_missing_store_is_named(client: Client) -> None:
    assert await call(client, "POST", PATH, manifest(storeRef={"name": "none"})) == error(
        400, ARGUMENT, "No RollupStore named [none] exists in namespace [default]: create it, then the job"
    )


async def test_a_store_that_is_down(client: Client, cluster: Cluster) -> None:
    cluster.shelf.fail = StoreUnavailable("locked by process 7")
    status, answered = await call(client, "POST", PATH, sensor())
    assert (status, answered["error"]["reason"]) == (
        503,
        "RollupStore [default]: locked by process 7; nothing was changed",
    )


async def test_only_a_few_run_at_once(client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, most = 0, 0
    free = asyncio.Event()

    async def slow(*_: Any) -> Preview:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == preview.AT_ONCE // 2:
            free.set()
        await free.wait()
        under_way -= 1
        return Preview((), 0, 0, 0, 0.0)

    monkeypatch.setattr(cluster.shelf, "preview", slow)
    answers = await asyncio.gather(*(call(client, "POST", PATH, sensor()) for _ in range(10)))
    assert {status for status, _ in answers} == {200}
    assert most == preview.AT_ONCE // 2  # of one namespace


async def test_previews_of_one_namespace_hold_up_no_other(
    client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.shelves["other", "default"] = Shelf()
    go = asyncio.Event()

    async def slow(*_: Any) -> Preview:
        await go.wait()
        return Preview((), 0, 0, 0, 0.0)

    monkeypatch.setattr(cluster.shelf, "preview", slow)
    many = [asyncio.create_task(call(client, "POST", PATH, sensor())) for _ in range(60)]
    async with asyncio.timeout(10):
        for ended in islice(asyncio.as_completed(many), 60 - preview.AT_ONCE // 2 - preview.WAITING):
            status, answered = await ended
            assert (status, answered["error"]["type"]) == (429, "es_rejected_execution_exception")
            assert "nothing was changed" in answered["error"]["reason"]
        for _ in range(5):
            assert (await call(client, "POST", f"/namespaces/other{PATH}", sensor()))[0] == 200
    go.set()
    assert {status for status, _ in await asyncio.gather(*many)} == {200, 429}


async def test_whoever_waits_for_a_turn_reads_what_it_waits_for(
    client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "TURN_SECONDS", 0.05)
    go = asyncio.Event()

    async def slow(*_: Any) -> Preview:
        await go.wait()
        return Preview((), 0, 0, 0, 0.0)

    monkeypatch.setattr(cluster.shelf, "preview", slow)
    async with served(cluster) as client:
        many = [asyncio.create_task(call(client, "POST", PATH, sensor())) for _ in range(5)]
        done, _ = await asyncio.wait(many, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        status, answered = done.pop().result()
        assert status == 429
        assert "RollupStore" not in answered["error"]["reason"]
        go.set()
        await asyncio.gather(*many)


async def test_a_job_may_be_named_preview(client: Client, cluster: Cluster) -> None:
    assert (await call(client, "PUT", PATH, sensor()))[0] == 200
    assert (await call(client, "GET", PATH))[1]["jobs"][0]["config"]["id"] == "_preview"
    assert await call(client, "POST", f"{PATH}/_start") == (200, {"started": True})


async def test_a_manifest_is_checked_by_the_api_server_before_its_source(client: Client, cluster: Cluster) -> None:
    unknown = 'strict decoding error: unknown field "spec.index_pattern", unknown field "spec.colour"'
    cluster.fail_check = KubeError(400, "BadRequest", unknown)
    body = manifest("sensor", index_pattern="x", colour="red")
    body["metadata"] |= {"labels": {"a": "b"}, "finalizers": ["x"], "uid": "y"}
    status, answered = await call(client, "POST", PATH, body)
    assert (status, answered["error"]["type"]) == (400, ARGUMENT)
    assert answered["error"]["reason"] == f'{unknown}; did you mean "indexPattern" instead of "spec.index_pattern"?'
    [(_, checked)] = cluster.checked
    assert checked["metadata"] == {"name": "sensor", "labels": {"a": "b"}}
    assert cluster.shelf.previewed == []
    cluster.fail_check = Unreachable("away", sent=False)
    assert (await call(client, "POST", PATH, manifest()))[0] == 503
    assert (await call(client, "POST", PATH, sensor()))[0] == 200


async def test_what_is_wrong_with_a_source_is_told_in_the_words_of_the_body(client: Client, cluster: Cluster) -> None:
    metrics = [{"field": "loud", "metrics": ["max"]}]
    _, answered = await call(client, "POST", PATH, manifest(metrics=metrics))
    assert answered["error"]["reason"] == (
        "spec.metrics: the source has no field 'loud': did you mean 'load'? There are 'load', 'node', 'temperature', "
        "'timestamp'"
    )
    _, answered = await call(client, "POST", PATH, sensor(metrics=metrics))
    assert "Could not find a [numeric] or [date,date_nanos] field with name [loud]" in str(answered)
    _, answered = await call(client, "POST", PATH, manifest(indexPattern="weather"))
    assert answered["error"]["reason"] == "spec.indexPattern 'weather' matches nothing"
