"""Who owns what is asked, and what callers and those who look after a job are told of it and of waits in vain."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from rollup_operator.http.protocol.answers import warning_value
from rollup_operator.lifecycle.jobs.job_status import explain
from rollup_operator.lifecycle.jobs.run_facts import RunFacts, RunKind
from rollup_operator.lifecycle.jobs.states import Facts
from rollup_operator.model.conditions import Reason, Trouble
from rollup_operator.model.job_view import JobView
from support.http_double import Cluster
from support.serving import Client, call, calling, served

STOP = "/_rollup/job/sensor/_stop"
WAIT = f"{STOP}?wait_for_completion=true&timeout=20ms"
START = "/_rollup/job/sensor/_start"


# Owners


def view(*entries: dict[str, Any]) -> JobView:
    meta = {"uid": "u", "namespace": "n", "name": "j", "generation": 1, "resourceVersion": "1"}
    return JobView.of({"metadata": meta | {"managedFields": list(entries)}, "spec": {"desiredState": "started"}})


def entry(manager: str, *fields: str, **more: Any) -> dict[str, Any]:
    return {"manager": manager, "fieldsV1": {"f:spec": {f"f:{field}": {} for field in fields}}} | more


def test_the_owners_of_what_is_asked_are_read_from_the_body() -> None:
    seen = view(
        entry("argocd-controller", "cron", "desiredState", operation="Apply"),
        entry("kubectl", "cron", operation="Update"),
        entry("kubectl-edit", "desiredState", operation="Update"),
        {"manager": "python", "subresource": "status", "fieldsV1": {"f:status": {"f:desiredState": {}}}},
        {"manager": "label", "fieldsV1": {"f:metadata": {"f:labels": {}}}},
    )
    assert seen.owners == ("argocd-controller", "kubectl-edit")


@pytest.mark.parametrize("entries", [(), ({"manager": "old"},), ({"manager": "x", "fieldsV1": None},)])
def test_a_body_that_names_no_owner_has_none(entries: tuple[dict[str, Any], ...]) -> None:
    assert view(*entries).owners == ()


def test_ten_thousand_jobs_share_the_names_of_their_owners() -> None:
    assert len({id(view(entry("argocd-" + "controller", "desiredState")).owners) for _ in range(100)}) == 1


# GitOps


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster.indexing("sensor")


@pytest.fixture
async def client(cluster: Cluster, settings: dict[str, Any]) -> AsyncIterator[Client]:
    async with served(cluster, **settings) as endpoint, calling(endpoint) as client:
        yield client


async def warnings(client: Client, path: str) -> tuple[int, list[str]]:
    async with client.post(path) as answer:
        return answer.status, answer.headers.getall("Warning", [])


def warned(whom: str, owner: str = "argocd-controller") -> str:
    return (
        f'299 rollup-operator "spec.desiredState of {whom} is owned by [{owner}], which may undo this at its next '
        'sync: leave desiredState out of Git to let this API decide"'
    )


@pytest.mark.parametrize(("path", "status"), [(STOP, 200), (WAIT, 500)])
async def test_a_stop_of_what_git_owns_proceeds_and_warns(
    client: Client, cluster: Cluster, path: str, status: int
) -> None:
    cluster.own("sensor", "kubectl", "argocd-controller")
    assert await warnings(client, path) == (status, [warned("rollup job [sensor]")])
    assert [body["spec"]["desiredState"] for _, body in cluster.applied] == ["stopped"]
    assert ("sensor", "GitOpsOwned") in [(name, reason) for name, reason, _ in cluster.events]
    assert cluster.events[0][2] == (
        "the API asked for stopped, but spec.desiredState is owned by argocd-controller, which may set it back to "
        "started at its next sync: leave desiredState out of Git to let the API decide"
    )


async def test_a_start_of_what_git_owns_proceeds_and_warns(client: Client, cluster: Cluster) -> None:
    cluster.ask("sensor", "stopped")
    cluster.own("sensor", "helm-controller")
    assert await warnings(client, START) == (200, [warned("rollup job [sensor]", "helm-controller")])
    [(name, reason, text)] = cluster.events
    assert (name, reason) == ("sensor", "GitOpsOwned")
    assert text.startswith("the API asked for started, but spec.desiredState is owned by helm-controller")


@pytest.mark.parametrize("managers", [(), ("kubectl-client-side-apply",), ("rollup-api",), ("argocd-controller-2",)])
async def test_who_is_no_gitops_manager_is_no_reason_to_warn(
    client: Client, cluster: Cluster, managers: tuple[str, ...]
) -> None:
    cluster.own("sensor", *managers)
    assert await warnings(client, STOP) == (200, [])
    assert cluster.events == []


async def test_asking_for_what_git_asks_for_is_no_reason_to_warn(client: Client, cluster: Cluster) -> None:
    cluster.own("sensor", "argocd-controller")
    assert await warnings(client, START) == (200, [])
    assert cluster.events == []


@pytest.mark.parametrize("settings", [{"gitops_managers": ("git-of-ours",)}])
async def test_the_managers_are_a_setting(client: Client, cluster: Cluster) -> None:
    cluster.own("sensor", "argocd-controller")
    assert await warnings(client, STOP) == (200, [])
    cluster.own("sensor", "git-of-ours")
    assert await warnings(client, START) == (200, [warned("rollup job [sensor]", "git-of-ours")])


async def test_many_stops_at_once_of_what_git_owns_are_one_event(client: Client, cluster: Cluster) -> None:
    cluster.own("sensor", "argocd-controller")
    cluster.write_gate = asyncio.Event()
    calls = [asyncio.create_task(call(client, "POST", STOP)) for _ in range(20)]
    await cluster.writes(1)
    cluster.write_gate.set()
    await asyncio.gather(*calls)
    assert [reason for _, reason, _ in cluster.events] == ["GitOpsOwned"]


async def test_each_fight_with_git_is_an_event(client: Client, cluster: Cluster) -> None:
    for _ in range(2):
        cluster.ask("sensor", "started")
        cluster.own("sensor", "argocd-controller")
        await call(client, "POST", STOP)
    assert [reason for _, reason, _ in cluster.events] == ["GitOpsOwned"] * 2


async def test_a_stop_of_all_warns_once_for_each_owner(client: Client, cluster: Cluster) -> None:
    cluster.own("sensor", "argocd-controller")
    for i in range(7):
        cluster.create(f"job-{i}", desiredState="started")
        cluster.own(f"job-{i}", "helm-controller")
    status, answered = await warnings(client, "/_rollup/job/_all/_stop")
    assert status == 200
    assert sorted(answered) == sorted(
        [
            warned("rollup job [sensor]"),
            warned("7 rollup jobs ([job-0], [job-1], [job-2], [job-3], [job-4] and 2 more)", "helm-controller"),
        ]
    )


def test_a_warning_is_one_quoted_line_of_ascii() -> None:
    assert warning_value('a "b" \\ ü\r\n%') == '299 rollup-operator "a \\"b\\" \\\\ %C3%BC%0D%0A%25"'


async def test_a_call_without_jobs_of_others_warns_of_nothing(client: Client) -> None:
    assert await warnings(client, STOP) == (200, [])


# Waits in vain


async def test_a_wait_in_vain_tells_the_phase_once_for_each_stop(client: Client, cluster: Cluster) -> None:
    with capture_logs() as logs:
        await asyncio.gather(*(call(client, "POST", WAIT) for _ in range(20)))
    uid = next(iter(cluster.known.values())).uid
    [(name, reason, text)] = cluster.events
    assert (name, reason) == ("sensor", "StopTimedOut")
    assert text == (
        f"a client has waited 20ms for the job to stop, it is indexing: the phase of {uid}; "
        "the stop stands as generation 2"
    )
    [line] = [entry for entry in logs if entry["event"] == "stop not seen in time"]
    assert (line["job"], line["state"], line["phase"]) == ("sensor", "indexing", f"the phase of {uid}")


async def test_the_next_stop_of_the_job_has_a_notice_of_its_own(client: Client, cluster: Cluster) -> None:
    for timeout in ("20ms", "30ms"):
        cluster.ask("sensor", "started")
        await call(client, "POST", f"{STOP}?wait_for_completion=true&timeout={timeout}")
    assert [reason for _, reason, _ in cluster.events] == ["StopTimedOut"] * 2


@pytest.mark.parametrize("timeout", ["0", "-1"])
async def test_one_look_is_no_wait_in_vain(client: Client, cluster: Cluster, timeout: str) -> None:
    await call(client, "POST", f"{STOP}?wait_for_completion=true&timeout={timeout}")
    assert cluster.events == []


DOING = "reading 2013-01-01T00:00Z..2013-02-01T00:00Z for 3.2 s (4 pages, 9 rows, 2 documents so far)"
LOCKED = Trouble(Reason.STORE_UNAVAILABLE, "locked by 42", transient=True)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (Facts(run=RunFacts(RunKind.INDEX, 9.0, None, DOING)), f"at work for 9.0 s: {DOING}"),
        (Facts(run=RunFacts(RunKind.INDEX, 9.0, 4.24, DOING)), f"halted 4.2 s ago, it waits for: {DOING}"),
        (Facts(run=RunFacts(RunKind.SETTLE, 1.0, None, "releasing")), "at work for 1.0 s: releasing"),
        (Facts(), "nothing of it runs in this process"),
        (
            Facts(trouble=LOCKED, retry_in=2.0),
            "nothing of it runs in this process; StoreUnavailable: locked by 42, retried in 2.0 s",
        ),
        (Facts(trouble=LOCKED), "nothing of it runs in this process; StoreUnavailable: locked by 42"),
    ],
)
def test_the_phase_is_named_with_its_age(facts: Facts, text: str) -> None:
    assert explain(facts) == text
