"""Who decides about desiredState, Git or the API, and how the one hands it to the other: the steps of docs/gitops.md.

The API server's merge of fields is what GitOps controllers rely on; they are played by applies under their names.
"""

from pathlib import Path
from typing import Any

import pytest

from support.api import Api, ApiError, Body, condition
from support.bodies import store
from support.data import trips_job, write_trips
from support.operator import Answer, Operator
from support.waiting import NEVER, request_run, run_completed, status


def manifest(**spec: Any) -> Body:
    """What Git holds."""
    return trips_job(**({"cron": NEVER, "desiredState": None} | spec))


def synced(api: Api, body: Body, manager: str = "argocd-controller") -> Body:
    """Apply as Argo CD and Flux do: server-side, and by force."""
    return api.apply(body, manager=manager, force=True)


def start(operator: Operator, api: Api) -> Answer:
    return operator.post(f"/namespaces/{api.namespace}/_rollup/job/trips/_start")


def stop(operator: Operator, api: Api) -> Answer:
    path = f"/namespaces/{api.namespace}/_rollup/job/trips/_stop?wait_for_completion=true&timeout=10s"
    return operator.post(path)


def owners(body: Body) -> set[str]:
    """The managers of spec.desiredState."""
    fields = ((entry["manager"], entry["fieldsV1"].get("f:spec", {})) for entry in body["metadata"]["managedFields"])
    return {manager for manager, spec in fields if "f:desiredState" in spec}


@pytest.mark.parametrize("manager", ["argocd-controller", "kustomize-controller"])
def test_a_state_that_git_owns_comes_back_with_the_next_sync(operator: Operator, api: Api, manager: str) -> None:
    synced(api, manifest(desiredState="started"), manager)
    api.wait_state("trips", "started")
    answer = stop(operator, api)
    assert (answer.status, answer.body) == (200, {"stopped": True})
    assert manager in answer.headers["Warning"]
    assert owners(api.get("trips")) == {"rollup-api"}
    synced(api, manifest(desiredState="started"), manager)
    api.wait_state("trips", "started")


def test_a_state_that_git_leaves_out_is_the_apis(operator: Operator, api: Api) -> None:
    synced(api, manifest())
    api.wait_state("trips", "stopped")
    assert start(operator, api).status == 200
    api.wait_state("trips", "started")
    before = synced(api, manifest())
    assert before["spec"]["desiredState"] == "started"
    answer = stop(operator, api)
    assert answer.status == 200
    assert "Warning" not in answer.headers
    after = synced(api, manifest(pageSize=500))
    assert after["spec"]["desiredState"] == "stopped"
    api.wait_state("trips", "stopped")


def test_a_field_dropped_from_git_hands_the_state_to_the_api(operator: Operator, api: Api) -> None:
    synced(api, manifest(desiredState="started"))
    api.wait_state("trips", "started")
    body = synced(api, manifest())
    assert "desiredState" not in body["spec"]
    assert status(api.wait_state("trips", "started"))["desiredState"] == "started"
    answer = stop(operator, api)
    assert answer.status == 200
    assert "Warning" not in answer.headers
    assert synced(api, manifest())["spec"]["desiredState"] == "stopped"


def test_a_stop_before_the_field_is_dropped_stays(operator: Operator, api: Api) -> None:
    synced(api, manifest(desiredState="started"))
    api.wait_state("trips", "started")
    assert stop(operator, api).status == 200
    assert synced(api, manifest())["spec"]["desiredState"] == "stopped"
    # A client-side apply knows nothing of owners: it removes what its last manifest had. The job remembers.
    body = api.patch_job("trips", {"desiredState": None})
    assert "desiredState" not in body["spec"]
    body = api.wait_state("trips", "stopped")
    assert status(body)["desiredState"] == "stopped"


def test_a_field_dropped_before_it_is_recorded_is_refused_and_the_retry_succeeds(operator: Operator, api: Api) -> None:
    synced(api, manifest(desiredState="started"))
    api.wait_state("trips", "started")
    operator.freeze()
    try:
        synced(api, manifest(desiredState="stopped"))
        with pytest.raises(ApiError) as refusal:
            synced(api, manifest())
        assert refusal.value.code == 422
        assert "can be removed only once status.desiredState has recorded it: try again" in str(refusal.value)
    finally:
        operator.thaw()
    api.wait_state("trips", "stopped")
    assert "desiredState" not in synced(api, manifest())["spec"]
    assert status(api.wait_state("trips", "stopped"))["desiredState"] == "stopped"


def test_an_apply_that_respects_what_the_api_owns_changes_no_state(operator: Operator, api: Api) -> None:
    synced(api, manifest(desiredState="started"))
    api.wait_state("trips", "started")
    assert stop(operator, api).status == 200
    # ignoreDifferences of rollup-api with RespectIgnoreDifferences: Argo CD puts the live value in place of Git's.
    live = api.get("trips")["spec"]["desiredState"]
    body = synced(api, manifest(desiredState=live, pageSize=500))
    assert (body["spec"]["desiredState"], body["spec"]["pageSize"]) == ("stopped", 500)
    assert owners(body) == {"argocd-controller", "rollup-api"}
    assert start(operator, api).status == 200
    assert owners(api.wait_state("trips", "started")) == {"rollup-api"}


def test_git_takes_the_state_back_by_naming_it(operator: Operator, api: Api) -> None:
    synced(api, manifest())
    api.wait_state("trips", "stopped")
    start(operator, api)
    api.wait_state("trips", "started")
    assert owners(synced(api, manifest(desiredState="stopped"))) == {"argocd-controller"}
    api.wait_state("trips", "stopped")


WRONG = {"indexPattern": "tirps/*.parquet", "metrics": [{"field": "colour", "metrics": ["max"]}]}


def test_a_wrong_job_is_corrected_by_the_next_commit(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    every_second = {"cron": "* * * * * ?", "desiredState": "started"}
    synced(api, manifest(**every_second, **WRONG))
    api.wait_condition("trips", status="False", reason="SourceNotFound")
    right = {"metrics": [{"field": "size", "metrics": ["max"]}]}
    synced(api, manifest(**every_second, **right))
    api.wait("trips", run_completed)
    with pytest.raises(ApiError, match="metrics cannot change once anything is rolled up") as error:
        synced(api, manifest(**every_second, metrics=[{"field": "size", "metrics": ["min"]}]))
    assert "create another job with another rollupIndex" in error.value.message
    assert "set deletionPolicy to Delete, delete this job" in error.value.message

    synced(api, manifest(**every_second, **right, deletionPolicy="Delete"))
    api.delete("trips")
    api.wait_gone("trips")
    synced(api, manifest(**every_second, metrics=[{"field": "size", "metrics": ["min"]}]))
    api.wait("trips", run_completed)


def test_a_correction_meets_the_documents_of_a_run_that_no_status_shows(
    operator: Operator, api: Api, folder: Path
) -> None:
    write_trips(folder)
    api.create(store())
    synced(api, manifest(desiredState="started"))
    api.wait_state("trips", "started")
    request_run(api, "trips", "first")
    api.wait("trips", run_completed)
    operator.stop()
    body = api.get("trips")
    lost = {field: value for field, value in body["status"].items() if field not in ("position", "watermark")}
    api.replace(body | {"status": lost}, subresource="status")
    synced(api, manifest(desiredState="started", indexPattern="other/*.parquet"))
    operator.start()
    request_run(api, "trips", "second")
    body = api.wait_condition("trips", "Stalled", reason="ConfigChanged")
    assert "documents of job 'trips' from 'trips/*.parquet'" in (condition(body) or {})["message"]
