"""`kubectl rollup purge`, on a real API server: what a deleted job left goes, and the job that was refused runs."""

from pathlib import Path

import pytest

from support.api import Api
from support.bodies import store
from support.callers import MANAGER, Account, install_roles
from support.data import end_of, export_of, exported, rolled_up_small, small_groups, trips_job, write_trips
from support.operator import Operator
from support.plugin import CommandResult, Plugin
from support.waiting import finished

HOURS = 48
"""Of the source, each a document."""
OTHER = [{"field": "size", "metrics": ["max"]}]


@pytest.fixture
def plugin(api: Api) -> Plugin:
    return Plugin(api.plane.kubeconfig, api.namespace)


def test_a_refused_job_runs_once_what_the_deleted_one_left_is_purged(
    operator: Operator, api: Api, plugin: Plugin, folder: Path
) -> None:
    install_roles(api)
    caller = Account(api).bind(MANAGER).in_force("delete", "rollupjobs/documents")

    def purge(*arguments: str) -> CommandResult:
        reach = {"ROLLUP_URL": operator.url, "ROLLUP_TOKEN": caller.token}
        return plugin("purge", *arguments, "-n", api.namespace, **reach)

    write_trips(folder)
    api.create(store())
    uid = api.create(trips_job(groups=small_groups()))["metadata"]["uid"]
    api.wait("trips", finished(end_of(47)), 20)
    whole = exported(folder)
    refused = purge("trips", "--yes")
    assert (refused.code, "which exists: delete it first" in refused.err) == (1, True), refused.err
    assert exported(folder) == whole

    api.delete("trips")
    api.wait_gone("trips")
    api.create(trips_job(groups=small_groups(), metrics=OTHER))
    api.wait_condition("trips", status="False", reason="ConfigChanged")
    assert "kubectl rollup purge" in plugin.of("explain", "trips").out
    asked = purge("trips")
    assert asked.code == 2
    assert f"{HOURS} documents of the deleted job 'trips' (uid {uid})" in asked.err
    assert "add --yes" in asked.err
    assert exported(folder) == whole

    purged = purge("trips", "--yes", "-o", "json")
    assert (purged.code, purged.document["documents"]) == (0, HOURS), purged.err
    api.wait("trips", finished(end_of(47)), 20)
    assert len(exported(folder)) == len(rolled_up_small(folder))


def test_what_a_deleted_job_left_is_purged_by_its_index(
    operator: Operator, api: Api, plugin: Plugin, folder: Path
) -> None:
    reach = {"ROLLUP_URL": operator.url, "ROLLUP_TOKEN": operator.token}
    write_trips(folder)
    api.create(store())
    api.create(trips_job(groups=small_groups()))
    api.wait("trips", finished(end_of(47)), 20)
    deleted = plugin.of("delete", "trips", "--wait")
    assert "kubectl rollup purge trips --index hourly" in deleted.out
    none = plugin("purge", "trips", "--yes", "-n", api.namespace, **reach)
    assert (none.code, "name its rollup index with --index" in none.err) == (5, True)
    gone = plugin("purge", "trips", "--index", "hourly", "--yes", "-n", api.namespace, **reach)
    assert (gone.code, gone.out) == (
        0,
        f"{HOURS} documents deleted from rollup index 'hourly' of RollupStore 'default'\n",
    )
    assert not export_of(folder).exists()
    again = plugin("purge", "trips", "--index", "hourly", "--yes", "-n", api.namespace, **reach)
    assert (again.code, "holds no documents" in again.err) == (5, True)
