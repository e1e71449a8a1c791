"""Events tell a person what became of a job: one for each transition, none for a scheduled run or a restart."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from rollup_operator.explaining.explain import Seen, explain
from support.api import Api, Body
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.operator_fixtures import StartOperator
from support.waiting import NEVER, WRONG_CRON, request_run, run_completed, runs, status


def started(api: Api) -> Body:
    api.create(store())
    api.create(trips_job(cron=NEVER, groups=small_groups(), desiredState="started"))
    return api.wait_state("trips", "started")


def reasons(api: Api, name: str = "trips") -> list[str]:
    return [event["reason"] for event in api.events(name)]


def wait_for_last_event(api: Api, name: str = "canary") -> None:
    """Wait until all events recorded until now are there: a warning that comes after them would overtake those."""
    api.create(trips_job(name, cron=NEVER, rollupIndex=name, desiredState="started"))
    api.wait_event(name, "Started")


def test_a_start_and_a_stop_get_one_event_each_and_the_runs_between_get_none(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    write_trips(folder)
    start_operator()
    uid = started(api)["metadata"]["uid"]
    for number in (1, 2):
        request_run(api, "trips", str(number))
        api.wait("trips", lambda body, number=number: runs(body) == number and status(body)["state"] == "started", 20)
    api.stop("trips")
    stopped = api.wait_state("trips", "stopped")
    event = api.wait_event("trips", "Stopped")
    wait_for_last_event(api)
    assert reasons(api) == ["Started", "Stopped"]
    first, last = api.events("trips")
    assert {e["involvedObject"]["uid"] for e in (first, last)} == {uid}
    assert {e["involvedObject"]["kind"] for e in (first, last)} == {"RollupJob"}
    assert {e["type"] for e in (first, last)} == {"Normal"}
    assert "2099-01-01T00:00:00Z" in first["message"]
    assert status(stopped)["watermark"] in event["message"]
    assert first["eventTime"] < last["eventTime"]


def test_a_problem_is_reported_when_it_comes_and_when_it_is_over(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    start_operator()
    started(api)
    request_run(api, "trips", "too-early")
    api.wait_event("trips", "SourceNotFound")
    write_trips(folder)
    api.wait("trips", run_completed, 20)
    assert "SourceNotFound is over" in api.wait_event("trips", "Recovered")["message"]
    assert Counter(reasons(api)) == {"Started": 1, "SourceNotFound": 1, "Recovered": 1}


def test_a_job_that_flaps_does_not_flood_the_cluster(start_operator: StartOperator, api: Api, folder: Path) -> None:
    write_trips(folder)
    start_operator()
    started(api)
    for _ in range(20):
        api.stop("trips")
        api.wait_state("trips", "stopped")
        api.start("trips")
        api.wait_state("trips", "started")
    wait_for_last_event(api)
    counts = Counter(reasons(api))
    assert set(counts) == {"Started", "Stopped"}
    # The first of each at once; what follows within ten seconds of it is one more, with a series.
    assert max(counts.values()) <= 3


def test_a_stop_that_git_undoes_is_an_event_a_line_of_the_log_and_a_sentence(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    operator = start_operator(default_namespace=api.namespace)
    manifest = trips_job(cron=NEVER, groups=small_groups(), desiredState="started")
    manifest["metadata"]["namespace"] = api.namespace
    api.create(store())
    api.apply(manifest, manager="argocd-controller")
    api.wait_state("trips", "started")
    assert operator.request("POST", "/_rollup/job/trips/_stop?wait_for_completion=true").status == 200
    api.apply(manifest, manager="argocd-controller", force=True)

    event = api.wait_event("trips", "DesiredStateReverted")
    assert event["type"] == "Warning"
    assert event["message"].startswith("rollup-api asked for stopped, and ")
    assert "argocd-controller set spec.desiredState back to started: change desiredState in Git" in event["message"]
    api.wait_state("trips", "started")
    (line,) = operator.records("desired state set back")
    assert (line["level"], line["job"], line["message"]) == ("warning", "trips", event["message"])
    said = [s.text for s in explain(Seen(api.get("trips"), events=api.events("trips")), datetime.now(UTC))]
    assert any(event["message"] in text for text in said)


def test_a_restart_over_unchanged_jobs_tells_nothing(start_operator: StartOperator, api: Api, folder: Path) -> None:
    write_trips(folder)
    operator = start_operator()
    started(api)
    api.create(trips_job("stopped", cron=NEVER, rollupIndex="other", desiredState="started"))
    api.wait_state("stopped", "started")
    api.stop("stopped")
    api.wait_event("trips", "Started")
    api.wait_event("stopped", "Stopped")
    operator.stop()
    before = api.list(kind="Event")
    operator.start()
    wait_for_last_event(api)
    assert [e for e in api.list(kind="Event") if e["involvedObject"]["name"] != "canary"] == before


def test_where_warnings_alone_are_wanted_a_start_and_a_stop_tell_nothing(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    write_trips(folder)
    start_operator(settings={"events": "warnings"})
    started(api)
    api.stop("trips")
    api.wait_state("trips", "stopped")
    api.create(trips_job("wrong", cron=WRONG_CRON, rollupIndex="wrong", desiredState="started"))
    api.wait_event("wrong", "InvalidSpec")
    assert reasons(api) == []
