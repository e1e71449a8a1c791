"""Verification from the command line to the store: a real API server, operator and database."""

import json
from pathlib import Path

import pytest

from support.api import Api
from support.callers import READER, Account, install_roles
from support.database import opened
from support.operator import Operator
from support.plugin import Plugin
from support.searcher import two_days_of_three


@pytest.fixture
def plugin(api: Api) -> Plugin:
    return Plugin(api.plane.kubeconfig, api.namespace)


def plant(folder: Path, statement: str) -> None:
    """Change the result as somebody who opens the database can."""
    with opened(folder) as db:
        ((target,),) = db.execute("SELECT target FROM _rollup.claims").fetchall()
        db.execute(statement.replace("result", f'_rollup."result_{target}"'))


def test_a_planted_fault_is_found(operator: Operator, api: Api, folder: Path, plugin: Plugin) -> None:
    two_days_of_three(api, folder)
    install_roles(api)
    reader = Account(api).bind(READER).in_force("get", "rollupjobs/verify")
    reach = {"ROLLUP_URL": operator.url, "ROLLUP_TOKEN": reader.token}
    here = ("-n", api.namespace)
    well = plugin("verify", "trips", *here, **reach)
    assert (well.code, well.out.count("are equal (from 2024-03-01T00:00:00Z to 2024-03-03T00:00:00Z)")) == (0, 1), well
    plant(folder, "DELETE FROM result WHERE rowid = 5")
    found = plugin("verify", "trips", *here, **reach)
    assert found.code == 6
    assert "DAY          " in found.out
    assert "missing: 2024-03-01T0" in found.out
    assert "1 is missing (from" in found.out
    whole = plugin("verify", "trips", "--from", "2024-03-02", "-o", "json", *here, **reach)
    assert (whole.code, whole.document["verified"], whole.document["exitCode"]) == (0, True, 0)
    refused = plugin("verify", "trips", *here, **(reach | {"ROLLUP_TOKEN": Account(api).token}))
    assert (refused.code, "[get] of [rollupjobs/verify]" in refused.err) == (1, True)
    assert json.loads(plugin("verify", "trips", "--fields", "speed", "-o", "json", *here, **reach).out)["exitCode"] == 1


def test_a_run_repairs_what_was_found(operator: Operator, api: Api, folder: Path, plugin: Plugin) -> None:
    two_days_of_three(api, folder)
    plant(folder, "DELETE FROM result WHERE rowid = 5")
    plant(folder, 'UPDATE result SET "size.max" = 1e9 WHERE rowid = 900')
    plant(folder, "UPDATE result SET _count = _count + 1 WHERE rowid = 901")
    reach = {"ROLLUP_URL": operator.url, "ROLLUP_TOKEN": operator.token}
    found = plugin("verify", "trips", "--repair", "-n", api.namespace, **reach)
    assert found.code == 6, found  # what the source has lost is kept, and still different
    assert "1 differs, 1 is missing, 1 is extra before a run repaired it" in found.out
    assert "2 documents rewritten" in found.out
    assert "1 is extra (from" in found.out
    request = api.get("trips")["metadata"]["annotations"]["rollup-operator.dev/run-requested-at"]
    assert request.endswith("Z 2024-03-01T00:00:00Z/2024-03-02T00:00:00Z")
    assert api.get("trips")["status"]["lastHandledRunRequest"] == request
    api.stop("trips")
    api.wait_state("trips", "stopped")
    plant(folder, "DELETE FROM result WHERE rowid = 7")
    refused = plugin("verify", "trips", "--repair", "-n", api.namespace, **reach)
    assert (refused.code, "the job is stopped; start it first" in refused.err) == (1, True)
