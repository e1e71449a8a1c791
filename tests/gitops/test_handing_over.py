"""Who decides about desiredState, Git or the API, and how the one hands it to the other: the steps of docs/gitops.md.

The API server's merge of fields is what GitOps controllers rely on; they are played by applies under their names.
"""

from typing import Any

import pytest

from support.api import Api, ApiError, Body
from support.data import trips_job
from support.operator import Answer, Operator
from support.waiting import NEVER, status


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
