"""The whole life of a job over HTTP: created, started, run, stopped, asked about, deleted, remembered."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.api import Api, Body
from support.bodies import store
from support.data import PATTERN, exported, rolled_up_small, write_trips
from support.operator import Answer, Operator
from support.waiting import NEVER, run_completed

DONE = {"acknowledged": True}
METRICS = [
    {"field": "size", "metrics": ["min", "max", "sum", "avg", "value_count"]},
    {"field": "weight", "metrics": ["min", "value_count"]},
]


@pytest.fixture(autouse=True)
def _something_to_roll_up(api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.wait_condition("default", reason="Available", kind="RollupStore")


def trips(**fields: Any) -> dict[str, Any]:
    """A configuration over the trips, for a job that no tick starts; `fields` replaces whole ones."""
    return {
        "index_pattern": PATTERN,
        "rollup_index": "hourly",
        "cron": NEVER,
        "page_size": 1000,
        "groups": {"date_histogram": {"field": "picked_up", "fixed_interval": "1h"}},
        "metrics": METRICS,
    } | fields


class Rollup:
    """Calls of one namespace."""

    def __init__(self, operator: Operator, namespace: str) -> None:
        self._operator, self._space = operator, f"/namespaces/{namespace}"

    def __call__(self, method: str, path: str, body: Body | None = None) -> Answer:
        return self._operator.request(method, f"{self._space}/{path}", body)

    def ok(self, method: str, path: str, body: Body | None = None) -> Body:
        answer = self(method, path, body)
        assert answer.status == 200, answer
        answered: Body = answer.body
        return answered

    def jobs(self, job_id: str = "_all") -> list[Body]:
        found: list[Body] = self.ok("GET", f"_rollup/job/{job_id}")["jobs"]
        return found


@pytest.fixture
def rollup(operator: Operator, api: Api) -> Rollup:
    return Rollup(operator, api.namespace)


def test_the_life_of_a_job(rollup: Rollup, api: Api, folder: Path) -> None:
    assert rollup.ok("PUT", "_rollup/job/trips", trips(cron="* * * * * ?", timeout="1m")) == DONE
    # It is there at once, for every call, and nothing runs yet.
    [shown] = rollup.jobs()
    assert rollup.jobs("trips") == [shown]
    assert shown["config"] == trips(cron="* * * * * ?", timeout="1m") | {
        "id": "trips",
        "groups": {"date_histogram": {"field": "picked_up", "fixed_interval": "1h", "time_zone": "UTC"}},
    }
    assert shown["status"] == {"job_state": "stopped"}
    assert rollup.ok("GET", "_xpack/usage")["rollup"]["number_of_rollup_jobs"] == 1
    assert api.wait_state("trips", "stopped")["spec"]["desiredState"] == "stopped"

    assert rollup.ok("POST", "_rollup/job/trips/_start") == {"started": True}
    api.wait("trips", run_completed, 20)
    assert exported(folder) == rolled_up_small(folder)

    refused = rollup("DELETE", "_rollup/job/trips")
    state = refused.body["task_failures"][0]["reason"]["reason"]
    assert (refused.status, refused.body["acknowledged"]) == (500, False)
    assert state in {
        f"Could not delete job [trips] because indexer state is [{word}].  Job must be [STOPPED] before deletion."
        for word in ("STARTED", "INDEXING")
    }

    assert rollup.ok("POST", "_rollup/job/trips/_stop?wait_for_completion=true") == {"stopped": True}
    assert rollup.jobs("trips")[0]["stats"]["documents_processed"] == 48 * 40
    answered = rollup.ok("GET", f"_rollup/data/{PATTERN.replace('/', '%2F')}")
    assert answered == rollup.ok("GET", "_rollup/data")
    assert rollup.ok("GET", "hourly/_rollup/data") == {"hourly": answered[PATTERN]}
    [capabilities] = answered[PATTERN]["rollup_jobs"]
    assert capabilities["fields"]["picked_up"] == [
        {"agg": "date_histogram", "fixed_interval": "1h", "time_zone": "UTC"}
    ]
    assert [m["agg"] for m in capabilities["fields"]["size"]] == METRICS[0]["metrics"]

    assert rollup.ok("DELETE", "_rollup/job/trips") == DONE
    assert rollup.jobs() == []
    assert api.find("trips") is None
    assert rollup("DELETE", "_rollup/job/trips").reason == "the task with id [trips] doesn't exist"
    assert rollup("POST", "_rollup/job/trips/_stop").reason == "Task for Rollup Job [trips] not found"
    # Its documents stay, and it stays known.
    assert exported(folder) == rolled_up_small(folder)
    assert rollup.ok("GET", "_rollup/data/_all") == answered
    assert rollup.ok("GET", "*/_rollup/data") == {"hourly": answered[PATTERN]}
    again = rollup("PUT", "_rollup/job/trips", trips())
    assert (again.status, again.reason) == (
        409,
        "Cannot create rollup job [trips] because job was previously created (existing metadata).",
    )
    assert rollup.ok("PUT", "_rollup/job/trips", trips(rollup_index="hourly-2")) == DONE


def test_an_id_that_is_no_resource_name(rollup: Rollup, api: Api) -> None:
    assert rollup.ok("PUT", "_xpack/rollup/job/Trips%20of%2F2024", trips()) == DONE
    [body] = api.list()
    assert body["spec"]["jobId"] == "Trips of/2024"
    assert body["metadata"]["name"].startswith("trips-of-2024-")
    assert body["metadata"]["annotations"]["rollup-operator.dev/creation-timeout"] == "20s"
    assert [job["config"]["id"] for job in rollup.jobs("Trips%20of%2F2024")] == ["Trips of/2024"]
    assert rollup.ok("POST", "_rollup/job/Trips%20of%2F2024/_start") == {"started": True}
    api.wait_condition(body["metadata"]["name"], reason="Waiting")
    assert rollup.ok("POST", "_rollup/job/Trips%20of%2F2024/_stop?wait_for_completion=true") == {"stopped": True}
    assert rollup.ok("DELETE", "_rollup/job/Trips%20of%2F2024") == DONE
    assert api.list() == []
    # It never ran, so nothing keeps its id.
    assert rollup.ok("PUT", "_rollup/job/Trips%20of%2F2024", trips()) == DONE


def test_what_cannot_be_created(rollup: Rollup, api: Api, folder: Path) -> None:
    for fields, status_, reason in (
        ({"index_pattern": "trips/none.parquet"}, 404, "no such index [trips/none.parquet]"),
        ({"index_pattern": "nothing-*"}, 400, "Could not find any fields in the index/index-pattern"),
        ({"index_pattern": "../other/*.parquet"}, 400, "leads out of the namespace's data folder"),
        ({"cron": "61 * * * * ?"}, 400, "seconds: '61' is not a value of this field"),
        (
            {"groups": {"date_histogram": {"field": "site", "fixed_interval": "1h"}, "terms": {"fields": ["none"]}}},
            400,
            "Found: [keyword] for field [site];2: Could not find a [numeric] or [keyword/text] field with name [none]",
        ),
        ({"metrics": [{"field": "site", "metrics": ["max"]}]}, 400, "found [keyword] for field [site]"),
    ):
        answer = rollup("PUT", "_rollup/job/trips", trips(**fields))
        assert answer.status == status_, answer
        assert reason in answer.reason
    assert api.list() == []


def test_a_job_that_kubectl_has_made_has_its_id(rollup: Rollup, api: Api) -> None:
    assert rollup.ok("PUT", "_rollup/job/trips", trips()) == DONE
    answer = rollup("PUT", "_rollup/job/trips", trips())
    assert (answer.status, answer.reason) == (
        409,
        "Cannot create rollup job [trips] because job was previously created (existing metadata).",
    )
    made = {"apiVersion": "rollup-operator.dev/v1alpha1", "kind": "RollupJob", "metadata": {"name": "other"}}
    api.create(made | {"spec": api.get("trips")["spec"] | {"jobId": "by hand"}})
    api.wait_state("other", "stopped")
    assert rollup("PUT", "_rollup/job/by%20hand", trips()).status == 409


def test_of_many_creations_at_once_one_succeeds(rollup: Rollup, api: Api) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: rollup("PUT", "_rollup/job/trips", trips()), range(20)))
    assert sorted(answer.status for answer in answers) == [200, *[409] * 19]
    assert len(api.list()) == 1


def test_of_many_starts_and_deletions_at_once_none_is_lost(rollup: Rollup, api: Api) -> None:
    for i in range(5):
        name = f"trips-{i}"
        assert rollup.ok("PUT", f"_rollup/job/{name}", trips(rollup_index=name)) == DONE
        api.wait_state(name, "stopped")
        with ThreadPoolExecutor(2) as pool:
            start = pool.submit(rollup, "POST", f"_rollup/job/{name}/_start")
            delete = pool.submit(rollup, "DELETE", f"_rollup/job/{name}")
        outcome = start.result().status, delete.result().status
        # Whoever came first decides: a started job is not deleted, and a deleted one is not started.
        assert outcome in {(200, 500), (404, 200), (500, 200)}
        assert (api.find(name) is not None) is (outcome == (200, 500))


def test_a_namespace_without_a_store(operator: Operator) -> None:
    answer = operator.request("PUT", "/namespaces/nowhere/_rollup/job/trips", trips())
    assert (answer.status, answer.reason) == (
        400,
        "No RollupStore named [default] exists in namespace [nowhere]: create it, then the job",
    )
