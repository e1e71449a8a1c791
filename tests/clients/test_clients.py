"""Official clients, unchanged, drive jobs of a running operator: what their users call, get and catch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_control_plane import ControlPlane
from support.api import Api
from support.backfill import PAGE_SECONDS, begun
from support.bodies import store
from support.callers import MANAGER, Account, install_roles
from support.data import PATTERN, STATISTICS, exported, rolled_up_small, trips_job, write_trips
from support.database import opened
from support.libraries import Library
from support.operator import Operator
from support.speaker import Client, Outcome, Speaker
from support.waiting import NEVER, assert_silent, run_completed, status

pytestmark = pytest.mark.timeout(300)  # the first test of each client makes its environment
SETTINGS = {"page_seconds": PAGE_SECONDS}
HELD = "held-clients"
"""A namespace with a job that cannot become quiet."""


@pytest.fixture
def client(speaker: Speaker, operator: Operator, api: Api) -> Client:
    """The client as one sets it up for the test's namespace: with a prefix, and as somebody who may manage its jobs."""
    api.create(store())
    install_roles(api)
    manager = Account(api).bind(MANAGER).in_force("get")
    return Client(speaker, f"{operator.url}/namespaces/{api.namespace}", manager.token)


@pytest.fixture(scope="module")
def held(_shared: Operator, control_plane: ControlPlane) -> Iterator[None]:
    """A started job in HELD that cannot become quiet: the claim of a dead operator can be released by nobody."""
    with Api(control_plane, HELD) as api:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HELD}})
        folder = _shared.data_root / HELD
        folder.mkdir(parents=True)
        begun(api, folder, hours=3000, drainTimeoutSeconds=1)
        _shared.kill()
        with opened(folder):
            _shared.start()
            api.wait_condition("trips", status="False", reason="StoreUnavailable")
            yield
            _shared.kill()
        _shared.start()  # a new one does not wait before it asks for the claim again
        api.wait_state("trips", "stopped", 30)
        api.delete("trips")
        api.wait_gone("trips", 30)


def configuration(**changes: Any) -> dict[str, Any]:
    """A job over `write_trips`, as Elasticsearch's users write it."""
    return {
        "index_pattern": PATTERN,
        "rollup_index": "hourly",
        "cron": "* * * * * ?",
        "page_size": 1000,
        "groups": {"date_histogram": {"field": "picked_up", "fixed_interval": "1h"}},
        "metrics": [
            {"field": "size", "metrics": STATISTICS},
            {"field": "weight", "metrics": ["min", "value_count"]},
        ],
    } | changes


def created(client: Client, job_id: str = "trips", **changes: Any) -> None:
    assert client("put_job", id=job_id, body=configuration(**changes)).ok == {"acknowledged": True}


def state(client: Client, job_id: str = "trips") -> str:
    (job,) = client("get_jobs", id=job_id).ok["jobs"]
    found: str = job["status"]["job_state"]
    return found


def sent(outcome: Outcome) -> list[str]:
    """What was sent for a call; without the `GET /` by which the client of 7.17 makes sure whom it speaks to."""
    return [one for one in outcome.sent if one != "GET 200"]


def test_the_whole_life_of_a_job(client: Client, api: Api, folder: Path) -> None:
    write_trips(folder)
    assert client("get_jobs").ok == {"jobs": []}
    created(client)
    (job,) = client("get_jobs", id="trips").ok["jobs"]
    assert client("get_jobs").ok == client("get_jobs", id="_all").ok == {"jobs": [job]}
    given = configuration()
    given["groups"]["date_histogram"]["time_zone"] = "UTC"
    assert job["config"] == given | {"id": "trips", "timeout": "20s"}
    assert job["status"] == {"job_state": "stopped"}
    assert set(job["stats"].values()) == {0}

    assert client("start_job", id="trips").ok == {"started": True}
    api.wait("trips", run_completed)
    assert state(client) in ("started", "indexing")
    stopped = client("stop_job", id="trips", wait_for_completion=True, timeout="10s")
    assert stopped.ok == {"stopped": True}
    assert sent(stopped) == ["POST 200"]
    body = api.get("trips")
    assert body["spec"]["desiredState"] == status(body)["state"] == "stopped"
    assert_silent(api, body, 1.2)
    assert exported(folder) == rolled_up_small(folder)
    (job,) = client("get_jobs", id="trips").ok["jobs"]
    assert job["status"]["current_position"] == status(body)["position"]
    assert job["stats"]["rollups_indexed"] == 48

    assert client("delete_job", id="trips").ok == {"acknowledged": True}
    assert api.find("trips") is None
    assert client("get_jobs", id="trips").ok == {"jobs": []}
    assert exported(folder) == rolled_up_small(folder)


def test_knows_what_can_be_asked_of_the_data(client: Client, folder: Path) -> None:
    write_trips(folder)
    created(client, "b")
    created(client, "a")
    created(
        client, "c", rollup_index="daily", groups={"date_histogram": {"field": "picked_up", "fixed_interval": "1d"}}
    )

    def element(job_id: str, index: str, interval: str) -> dict[str, Any]:
        return {
            "job_id": job_id,
            "rollup_index": index,
            "index_pattern": PATTERN,
            "fields": {
                "picked_up": [{"agg": "date_histogram", "fixed_interval": interval, "time_zone": "UTC"}],
                "size": [{"agg": name} for name in STATISTICS],
                "weight": [{"agg": "min"}, {"agg": "value_count"}],
            },
        }

    hourly = [element("a", "hourly", "1h"), element("b", "hourly", "1h")]
    daily = [element("c", "daily", "1d")]
    everything = {PATTERN: {"rollup_jobs": [*hourly, *daily]}}
    assert client("get_rollup_caps", id=PATTERN).ok == everything
    assert client("get_rollup_caps", id="_all").ok == everything
    assert client("get_rollup_caps").ok == everything
    assert client("get_rollup_caps", id="trips/*").ok == {}
    assert client("get_rollup_index_caps", index="hourly").ok == {"hourly": {"rollup_jobs": hourly}}
    both = {"hourly": {"rollup_jobs": hourly}, "daily": {"rollup_jobs": daily}}
    for index in ("hourly,daily", "*ly", "_all"):
        assert client("get_rollup_index_caps", index=index).ok == both
    assert client("get_rollup_index_caps", index="weekly").failure == (
        "NotFoundError",
        404,
        "no such index [weekly]",
    )


def test_who_is_there_and_how_much_it_has(client: Client, folder: Path) -> None:
    write_trips(folder)
    found = client("info").ok
    assert found["tagline"] == "You Know, for Search"
    assert found["version"]["number"].startswith("8.")
    assert client("ping").ok is True
    created(client)
    usage = client("usage").ok["rollup"]
    assert usage == {"available": True, "enabled": True, "number_of_rollup_jobs": usage["number_of_rollup_jobs"]}
    assert usage["number_of_rollup_jobs"] >= 1


def test_a_job_is_previewed_before_it_is_created(client: Client, api: Api, folder: Path) -> None:
    write_trips(folder)
    answer = client("preview", body=configuration(id="trips")).ok
    assert 1 <= len(answer["preview"]) <= 10
    assert answer["estimate"]["source_documents"] == 48 * 40
    assert answer["estimate"]["buckets"] == pytest.approx(48, rel=0.2)
    assert api.list() == []
    assert client("get_rollup_caps", id="_all").ok == {}
    created(client)
    client("start_job", id="trips")
    api.wait("trips", run_completed, 20)
    first, *_ = sorted(exported(folder)[1:])
    source = answer["preview"][0]["_source"]
    assert source["size.sum.value"] == first[exported(folder)[0].index("size.sum.value")]
    wrong = client("preview", body=configuration(cron="*/5 * * * *"))
    assert wrong.status == 400


def test_an_id_may_be_anything(client: Client, api: Api, folder: Path) -> None:
    write_trips(folder)
    job_id = "Trips 2024/ä+b%2F?x=y"
    created(client, job_id, cron=NEVER)
    assert client("start_job", id=job_id).ok == {"started": True}
    assert client("stop_job", id=job_id, wait_for_completion=True, timeout="10s").ok == {"stopped": True}
    (body,) = api.list()
    assert body["spec"]["jobId"] == job_id
    assert state(client, job_id) == "stopped"
    assert client("delete_job", id=job_id).ok == {"acknowledged": True}
    assert api.list() == []


def test_without_a_prefix_it_is_the_default_namespace(speaker: Speaker, operator: Operator, api: Api) -> None:
    client = Client(speaker, operator.url, operator.token)
    assert client("info").ok["tagline"] == "You Know, for Search"
    assert client("get_jobs").ok == {"jobs": []}


def test_what_is_not_there(client: Client) -> None:
    missing = ("NotFoundError", 404, "Task for Rollup Job [missing] not found")
    assert client("start_job", id="missing").failure == missing
    assert client("stop_job", id="missing").failure == missing
    assert client("stop_job", id="missing", wait_for_completion=True).failure == missing
    assert client("delete_job", id="missing").failure == (
        "NotFoundError",
        404,
        "the task with id [missing] doesn't exist",
    )
    assert client("get_jobs", id="missing").ok == {"jobs": []}
    gone = client("put_job", id="a", body=configuration(index_pattern="gone.parquet"))
    assert gone.failure == ("NotFoundError", 404, "no such index [gone.parquet]")


def test_a_stack_trace_is_shown_to_whoever_asks(client: Client) -> None:
    shown = client("start_job", id="missing", error_trace=True).info["error"]
    for error in (shown, *shown["root_cause"]):
        assert error["stack_trace"].startswith(f"{error['type']}: {error['reason']}\n\tat rollup_operator.")
    plain = client("start_job", id="missing").info["error"]
    assert not any("stack_trace" in error for error in (plain, *plain["root_cause"]))


def test_what_cannot_be_used(client: Client, library: Library, api: Api, folder: Path) -> None:
    write_trips(folder)
    outcome = client("stop_job", id="trips", wait_for_completion=True, timeout="10")
    assert outcome.failure == (
        library.bad_request,
        400,
        "failed to parse setting [timeout] with value [10] as a time value: unit is missing or unrecognized",
    )
    assert outcome.error == "illegal_argument_exception"
    outcome = client("put_job", id="trips", body=configuration(cron="0 * * * *"))
    kind, code, reason = outcome.failure
    assert (kind, code) == (library.bad_request, 400)
    assert "invalid cron expression [0 * * * *]" in reason
    outcome = client("put_job", id="trips", body=configuration(metrics=[{"field": "speed", "metrics": ["max"]}]))
    kind, code, reason = outcome.failure
    assert (kind, code) == (library.bad_request, 400)
    assert "Could not find a [numeric] or [date,date_nanos] field with name [speed]" in reason
    assert api.list() == []


def test_what_was_created_already(client: Client, folder: Path) -> None:
    write_trips(folder)
    created(client)
    again = client("put_job", id="trips", body=configuration())
    assert again.failure == (
        "ConflictError",
        409,
        "Cannot create rollup job [trips] because job was previously created (existing metadata).",
    )
    elsewhere = client("put_job", id="trips", body=configuration(rollup_index="elsewhere"))
    assert elsewhere.failure == (
        "ConflictError",
        409,
        "Cannot create job [trips] because it has already been created (task exists)",
    )


def test_what_was_deleted_leaves_its_documents(client: Client, api: Api, folder: Path) -> None:
    write_trips(folder)
    created(client)
    client("start_job", id="trips").ok  # noqa: B018  # fails where it did not succeed
    api.wait("trips", run_completed)
    client("stop_job", id="trips", wait_for_completion=True).ok  # noqa: B018
    client("delete_job", id="trips").ok  # noqa: B018
    again = client("put_job", id="trips", body=configuration())
    assert again.failure == (
        "ConflictError",
        409,
        "Cannot create rollup job [trips] because job was previously created (existing metadata).",
    )
    (known,) = client("get_rollup_index_caps", index="hourly").ok["hourly"]["rollup_jobs"]
    assert known["job_id"] == "trips"


def test_a_running_job_is_not_deleted(client: Client, library: Library, api: Api, folder: Path) -> None:
    write_trips(folder)
    created(client, cron=NEVER)
    assert client("start_job", id="trips").ok == {"started": True}
    api.wait_state("trips", "started")
    outcome = client("delete_job", id="trips")
    assert outcome.raised[0] == library.other
    assert outcome.status == 500
    assert outcome.sent[-1:] == ["DELETE 500"]
    (failure,) = outcome.info["task_failures"]
    assert outcome.info["acknowledged"] is False
    assert failure["status"] == "INTERNAL_SERVER_ERROR"
    assert failure["reason"] == {
        "type": "illegal_state_exception",
        "reason": "Could not delete job [trips] because indexer state is [STARTED].  "
        "Job must be [STOPPED] before deletion.",
    }
    assert state(client) == "started"


@pytest.mark.usefixtures("held")
def test_a_timeout_is_raised_once(speaker: Speaker, operator: Operator, library: Library) -> None:
    client = Client(speaker, f"{operator.url}/namespaces/{HELD}", operator.token)
    outcome = client("stop_job", id="trips", wait_for_completion=True, timeout="700ms")
    assert outcome.failure == (
        library.other,
        500,
        "Timed out after [700ms] while waiting for rollup job [trips] to stop. State was [STOPPING]",
    )
    assert outcome.error == "timeout_exception"
    assert sent(outcome) == ["POST 500"]
    assert 0.7 <= outcome.seconds < 10


@pytest.mark.usefixtures("held")
def test_who_gives_up_first_has_stopped_it_nevertheless(
    speaker: Speaker, operator: Operator, control_plane: ControlPlane
) -> None:
    hasty = Client(speaker, f"{operator.url}/namespaces/{HELD}", operator.token, patience=1)
    outcome = hasty("stop_job", id="trips", wait_for_completion=True, timeout="20s")
    assert outcome.raised[0] == "ConnectionTimeout"
    assert sent(outcome) == ["POST N/A"]
    with Api(control_plane, HELD) as api:
        assert api.get("trips")["spec"]["desiredState"] == "stopped"


@pytest.fixture(scope="module")
def speaking(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Operator]]:
    """An operator for each version of Elasticsearch that the others do not speak, none of them with any jobs."""
    operators = {
        version: Operator(
            control_plane.kubeconfig,
            tmp_path_factory.mktemp("operator"),
            namespaces=["default"],
            settings={"compat_version": version},
        )
        for version in (6, 7, 9)
    }
    try:
        for operator in operators.values():
            operator.launch()
        yield {version: operator.wait_ready() for version, operator in operators.items()}
        for operator in operators.values():
            operator.stop()
    finally:
        for operator in operators.values():
            operator.kill()


@pytest.mark.parametrize("version", [6, 7, 9])
def test_whatever_version_is_spoken(speaker: Speaker, speaking: dict[int, Operator], version: int) -> None:
    operator = speaking[version]
    client = Client(speaker, operator.url, operator.token)
    assert client("info").ok["version"]["number"].startswith(f"{version}.")
    assert client("get_jobs").ok == {"jobs": []}
    assert client("get_rollup_caps").ok == {}
    counted = {"number_of_rollup_jobs": 0} if version > 7 else {}
    assert client("usage").ok["rollup"] == {"available": True, "enabled": True} | counted
    assert client("stop_job", id="missing").failure == (
        "NotFoundError",
        404,
        "Task for Rollup Job [missing] not found",
    )


def test_the_owner_in_git_is_named(client: Client, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.apply(trips_job(cron=NEVER), manager="argocd-controller")
    api.wait_state("trips", "started")
    outcome = client("stop_job", id="trips", wait_for_completion=True, timeout="10s")
    assert outcome.ok == {"stopped": True}
    # Clients have warnings of their own, too.
    (kind,) = (kind for kind, text in outcome.warnings if "argocd-controller" in text)
    assert kind in ("ElasticsearchWarning", "OpenSearchWarning")


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("get_jobs", {"id": "trips"}),
    ("put_job", {"id": "trips", "body": configuration()}),
    ("start_job", {"id": "trips"}),
    ("stop_job", {"id": "trips"}),
    ("delete_job", {"id": "trips"}),
]


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=[name for name, _ in CALLS])
def test_who_is_not_known(speaker: Speaker, operator: Operator, api: Api, name: str, arguments: dict[str, Any]) -> None:
    for token in ("", "nonsense"):
        stranger = Client(speaker, f"{operator.url}/namespaces/{api.namespace}", token)
        outcome = stranger(name, **arguments)
        kind, code, reason = outcome.failure
        assert (kind, code) == ("AuthenticationException", 401)
        assert "authenticat" in reason
        assert outcome.error == "security_exception"


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=[name for name, _ in CALLS])
def test_who_may_not(
    speaker: Speaker, operator: Operator, api: Api, control_plane: ControlPlane, name: str, arguments: dict[str, Any]
) -> None:
    nobody = Client(speaker, f"{operator.url}/namespaces/{api.namespace}", control_plane.token("nobody"))
    outcome = nobody(name, **arguments)
    kind, code, reason = outcome.failure
    assert (kind, code) == ("AuthorizationException", 403)
    assert "is unauthorized for user [nobody]" in reason
    assert outcome.error == "security_exception"
    assert api.list() == []
