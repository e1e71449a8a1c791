"""An API server that does not serve the operator's resources for a while, as after a wrong apply of a CRD."""

import time
from collections.abc import Callable, Iterator

import pytest

from support.api import Api, ApiError
from support.bodies import job, store
from support.operator_fixtures import StartOperator

CRDS = ("rollupjobs.rollup-operator.dev", "rollupstores.rollup-operator.dev")

AWAY = ("a resource is not served", "Request attempt", "sweep failed", "the lease cannot be used")


@pytest.fixture
def serve(api: Api) -> Iterator[Callable[[bool], None]]:
    """Have the API server serve the resources, or not; it does at the end."""

    def serve(served: bool) -> None:
        for name in CRDS:
            versions = api.get(name, kind="CustomResourceDefinition")["spec"]["versions"]
            patch = {"spec": {"versions": [version | {"served": served} for version in versions]}}
            api.patch(name, patch, kind="CustomResourceDefinition")
        until(lambda: _served(api) is served)

    yield serve
    serve(True)


def _served(api: Api) -> bool:
    try:
        api.list()
        api.list(kind="RollupStore")
    except ApiError:  # 404, or 429 while the API server prepares their storage
        return False
    return True


def until(holds: Callable[[], bool], timeout: float = 30.0) -> None:
    end = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < end, f"not so after {timeout} s"
        time.sleep(0.05)


def test_resources_that_are_not_served_for_a_while_are_waited_for(
    start_operator: StartOperator, api: Api, serve: Callable[[bool], None]
) -> None:
    operator = start_operator(sweep_seconds=600, expected=AWAY)
    api.create(store())
    api.create(job("idle", desiredState="started", cron="0 0 0 1 1 ?"))
    api.wait_state("idle", "started")
    serve(False)
    until(lambda: not operator.running or len(operator.records("a resource is not served")) >= len(CRDS))
    assert operator.running
    lines = operator.records("a resource is not served")
    assert {record["resource"] for record in lines} == {"rollupjobs", "rollupstores"}
    assert all("crds/" in record["cure"] for record in lines)
    until(lambda: operator.get("/readyz").status == 503)
    serve(True)
    api.stop("idle")
    api.wait_state("idle", "stopped", 20)
    operator.wait_ready()
    assert len(operator.records("a resource is not served")) == len(CRDS)
