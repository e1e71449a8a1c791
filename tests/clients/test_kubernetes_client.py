"""The official Kubernetes client drives jobs as resources, by the very code that docs/clients.md shows."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local_control_plane import ControlPlane
from support.api import Api
from support.backfill import PAGE_SECONDS, begun
from support.bodies import store
from support.data import trips_job, write_trips
from support.operator import Operator
from support.waiting import NEVER

DOCS = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
SETTINGS = {"page_seconds": PAGE_SECONDS}


@pytest.fixture
def shown(api: Api, control_plane: ControlPlane) -> SimpleNamespace:
    """What the example defines, for the test's namespace."""
    (code,) = re.findall(r"```python\n(from kubernetes import .*?)```", DOCS.read_text(), re.DOTALL)
    # The package reads the variable as it is imported, which it has been long ago.
    code = code.replace("load_kube_config()", f"load_kube_config({str(control_plane.kubeconfig)!r})")
    found: dict[str, Any] = {}
    exec(code.replace('"team-a"', repr(api.namespace)), found)
    return SimpleNamespace(**found)


def test_a_timeout_undoes_nothing(shown: SimpleNamespace, api: Api) -> None:
    """The first test: no operator has been started that would see what was asked."""
    api.create(trips_job(cron=NEVER, desiredState="stopped"))
    with pytest.raises(TimeoutError, match="what was asked stands"):
        shown.ask("trips", "started", seconds=1)
    assert api.get("trips")["spec"]["desiredState"] == "started"
    api.delete("trips")


def test_a_job_is_applied_started_and_stopped(
    shown: SimpleNamespace, api: Api, operator: Operator, folder: Path
) -> None:
    write_trips(folder)
    api.create(store())
    wanted = trips_job(cron=NEVER, desiredState="stopped")
    for _ in range(2):
        shown.apply(wanted)
        assert api.get("trips")["metadata"]["generation"] == 1
    assert shown.ask("trips", "started")["status"]["state"] == "started"
    assert shown.ask("trips", "started")["status"]["state"] == "started"
    stopped = shown.ask("trips", "stopped")
    assert stopped["status"]["state"] == "stopped"
    assert stopped["status"]["observedGeneration"] == stopped["metadata"]["generation"]


def test_a_stop_in_the_middle_of_a_run_waits_until_it_is_quiet(
    shown: SimpleNamespace, api: Api, operator: Operator, folder: Path
) -> None:
    begun(api, folder, hours=3000)
    assert shown.ask("trips", "stopped")["status"]["state"] == "stopped"
