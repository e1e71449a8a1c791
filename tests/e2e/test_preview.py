"""A preview refuses what the API server refuses of a manifest, in the same words, and tells of its source likewise."""

from pathlib import Path
from typing import Any

import pytest

from support.api import Api, ApiError, Body
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.operator import Operator
from support.waiting import NEVER, request_run, run_completed

OTHER = {"dateHistogram": {"field": "picked_up", "fixedInterval": "2h"}}


def manifest(**spec: Any) -> Body:
    return trips_job(**({"groups": small_groups(), "cron": NEVER, "metrics": None} | spec))


def previewed(operator: Operator, api: Api, body: Body) -> tuple[int, str]:
    """Status and reason of the answer."""
    answer = operator.request("POST", f"/namespaces/{api.namespace}/_rollup/job/_preview", body)
    return answer.status, "" if answer.status == 200 else str(answer.body["error"]["reason"])


def refused(api: Api, body: Body) -> str:
    """What the API server says, asked as `kubectl apply` asks it."""
    with pytest.raises(ApiError) as refusal:
        api.request("POST", f"{api.path('RollupJob')}?fieldValidation=Strict", body)
    return refusal.value.message


def test_what_the_api_server_refuses_is_refused_in_its_words(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.wait_condition("default", reason="Available", kind="RollupStore")
    assert previewed(operator, api, manifest()) == (200, "")

    body = manifest(schedule="* * * * * ?", page_size=5)
    status, reason = previewed(operator, api, body)
    assert (status, reason.startswith(message := refused(api, body))) == (400, True), (reason, message)
    assert 'unknown field "spec.schedule"' in message
    assert reason.endswith('; did you mean "pageSize" instead of "spec.page_size"?')

    nested = manifest(groups={"dateHistogram": {"field": "picked_up", "fixedInterval": "1h", "interval": "1h"}})
    labelled = manifest()
    labelled["metadata"]["labels"] = {"a b": "c"}
    named = manifest() | {"metadata": {"name": "No Name"}}
    unknown = manifest() | {"specs": {}}
    for body in (nested, labelled, named, unknown):
        status, reason = previewed(operator, api, body)
        assert (status, reason.partition("; did you mean")[0]) == (400, refused(api, body))

    for wrong in ({"rollupIndex": "Upper"}, {"cron": "*/5 * * * *"}, {"pageSize": 0}, {"desiredState": "running"}):
        assert refused(api, manifest(**wrong))
        status, reason = previewed(operator, api, manifest(**wrong))
        assert (status, f"spec.{next(iter(wrong))}: " in reason) == (400, True), reason


def test_a_change_of_a_job_is_refused_as_apply_refuses_it(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(manifest(desiredState="started"))
    assert previewed(operator, api, manifest(groups=OTHER)) == (200, "")
    request_run(api, "trips", "now")
    api.wait("trips", run_completed, 20)
    assert previewed(operator, api, manifest()) == (200, "")
    status, reason = previewed(operator, api, manifest(groups=OTHER))
    assert (status, "cannot change once anything is rolled up" in reason) == (400, True), reason
    before = api.get("trips")["metadata"]["resourceVersion"]
    assert previewed(operator, api, manifest(cron="0 0 0 2 2 ? 2099")) == (200, "")
    assert api.get("trips")["metadata"]["resourceVersion"] == before


def test_what_is_wrong_with_the_source_is_told_as_the_condition_tells_it(
    operator: Operator, api: Api, folder: Path
) -> None:
    api.create(store())
    api.create(manifest(desiredState="started"))
    missing = api.wait_condition("trips", status="False", reason="SourceNotFound")
    status, reason = previewed(operator, api, manifest())
    assert (status, reason) == (400, missing["status"]["conditions"][0]["message"])
    write_trips(folder)
    status, reason = previewed(operator, api, manifest(metrics=[{"field": "colour", "metrics": ["max"]}]))
    assert status == 400
    assert reason.startswith("spec.metrics: the source has no field 'colour': there are 'gate', ")
