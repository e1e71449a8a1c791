"""kubectl delete returns when the job is quiet; what becomes of its documents is the job's to say."""

from pathlib import Path

from support.api import Api
from support.backfill import HOURS, PAGE_SECONDS, assert_complete, begin, begun
from support.bodies import store
from support.data import (
    end_of,
    epoch_ms,
    export_of,
    exported,
    results_of,
    rolled_up_small,
    small_groups,
    trips_job,
    write_trips,
)
from support.database import claim, closed, fingerprint
from support.operator import Operator
from support.waiting import NEVER, finished

SETTINGS = {"page_seconds": PAGE_SECONDS}


def test_a_deletion_in_a_run_waits_until_the_job_is_quiet(operator: Operator, api: Api, folder: Path) -> None:
    begun(api, folder)
    api.delete("trips")
    api.wait_gone("trips")
    record = claim(folder)
    assert record is not None
    assert record["holder"] is None
    assert record["position"]["picked_up.date_histogram"] < epoch_ms(end_of(HOURS - 1))
    files = fingerprint(folder)
    begin(api, folder, "bystander", rollupIndex="other")
    api.wait("bystander", finished(end_of(HOURS - 1)), 60)
    assert claim(folder) == record
    assert [entry for entry in fingerprint(folder) if "/hourly/" in entry[0]] == [
        entry for entry in files if "/hourly/" in entry[0]
    ]


def test_a_recreated_job_goes_on_where_the_retained_one_was(operator: Operator, api: Api, folder: Path) -> None:
    begun(api, folder)
    api.delete("trips")
    api.wait_gone("trips")
    record = claim(folder)
    assert record is not None
    begin(api, folder)
    assert_complete(api, folder)
    after = claim(folder)
    assert after is not None
    assert after["epoch"] > record["epoch"]


def test_delete_takes_the_documents_along_and_epochs_only_grow(operator: Operator, api: Api, folder: Path) -> None:
    begun(api, folder, deletionPolicy="Delete")
    api.delete("trips")
    api.wait_gone("trips")
    assert not (results_of(folder) / "hourly").exists()
    record = claim(folder)
    assert record is not None
    assert (record["holder"], record["position"]) == (None, None)
    begin(api, folder)
    assert_complete(api, folder)
    after = claim(folder)
    assert after is not None
    assert after["epoch"] > record["epoch"]


def test_delete_of_a_stopped_job_takes_its_documents_along(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job("kept", groups=small_groups()))
    api.create(trips_job("gone", groups=small_groups(), deletionPolicy="Delete"))
    for name in ("kept", "gone"):
        api.wait(name, finished(end_of(47)), 20)
        api.stop(name)
        api.wait_state(name, "stopped")
        api.delete(name)
        api.wait_gone(name)
    assert not export_of(folder, "gone").exists()
    assert exported(folder, "kept") == rolled_up_small(folder)


def test_a_job_that_was_refused_leaves_the_documents_of_the_job_that_made_them(
    operator: Operator, api: Api, folder: Path
) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(groups=small_groups(), deletionPolicy="Retain"))
    api.wait("trips", finished(end_of(47)), 20)
    api.delete("trips")
    api.wait_gone("trips")
    record = claim(folder)
    other = [{"field": "size", "metrics": ["max"]}]
    uid = api.create(trips_job(groups=small_groups(), metrics=other, deletionPolicy="Delete"))["metadata"]["uid"]
    api.wait_condition("trips", status="False", reason="ConfigChanged")
    api.delete("trips")
    api.wait_gone("trips")
    event = api.wait_event("trips", "DocumentsKept")
    assert event["type"] == "Warning"
    assert "an earlier job of the same name" in event["message"]
    assert event["involvedObject"]["uid"] == uid
    assert exported(folder) == rolled_up_small(folder)
    after = claim(folder)
    assert after is not None
    assert after["epoch"] >= record["epoch"]  # settling may raise it
    assert {**after, "epoch": 0} == {**record, "epoch": 0}


def test_the_policy_may_change_until_the_deletion(operator: Operator, api: Api, folder: Path) -> None:
    begun(api, folder, deletionPolicy="Delete")
    api.patch_job("trips", {"deletionPolicy": "Retain"})
    api.delete("trips")
    api.wait_gone("trips")
    record = claim(folder)
    assert record is not None
    assert record["position"] is not None


def test_a_job_that_never_ran_is_gone_at_once(operator: Operator, api: Api, folder: Path) -> None:
    api.create(store())
    api.create(trips_job(cron=NEVER))
    api.wait_state("trips", "started")
    api.delete("trips")
    assert api.find("trips") is None


def test_a_stop_that_has_begun_does_not_hold_a_deletion(operator: Operator, api: Api, folder: Path) -> None:
    begun(api, folder, deletionPolicy="Delete")
    api.stop("trips")
    api.delete("trips")
    api.wait_gone("trips")
    closed(folder)
    assert not (results_of(folder) / "hourly").exists()


def test_a_deleted_job_whose_store_is_gone_is_let_go_with_a_warning(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(groups=small_groups(), cron=NEVER, deletionPolicy="Delete"))
    api.patch("trips", {"metadata": {"annotations": {"rollup-operator.dev/run-requested-at": "1"}}})
    api.wait("trips", finished(end_of(47)))
    api.delete("default", kind="RollupStore")
    api.wait_condition("trips", status="False", reason="StoreNotFound")
    api.delete("trips")
    api.wait_gone("trips")
    event = api.wait_event("trips", "DrainSkipped")
    assert event["type"] == "Warning"
    assert "RollupStore 'default' is gone: its documents and its record" in event["message"]
    assert "goes on" not in event["message"]
    assert exported(folder) == rolled_up_small(folder)


def test_another_finalizer_holds_the_object_but_not_the_drain(operator: Operator, api: Api, folder: Path) -> None:
    begun(api, folder)
    api.patch("trips", [{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/held"}])
    api.delete("trips")
    body = api.wait("trips", lambda body: body["metadata"]["finalizers"] == ["example.com/held"])
    record = claim(folder)
    assert record is not None
    assert record["holder"] is None
    assert "deletionTimestamp" in body["metadata"]
    api.patch("trips", {"metadata": {"finalizers": None}})
    api.wait_gone("trips")
