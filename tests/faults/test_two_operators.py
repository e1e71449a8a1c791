"""Two installations watch the same jobs, each with a Lease of its own: one acts, the other says so and keeps off."""

import time
from pathlib import Path

from support.api import Api
from support.bodies import store
from support.data import end_of, small_groups, trips_job, write_trips
from support.operator_fixtures import StartOperator
from support.replicas import election, wait_leads
from support.waiting import finished, runs, status

SAYS_SO = "another operator acts on jobs that this one watches: they are left to it"


def test_of_two_operators_one_acts_and_the_other_says_so(start_operator: StartOperator, api: Api, folder: Path) -> None:
    first = start_operator(settings=election(api))
    wait_leads(api, first)
    write_trips(folder, hours=10)
    api.create(store())
    api.create(trips_job(groups=small_groups()))
    before = api.wait("trips", finished(end_of(9)), 20)
    mine = f"{api.namespace}/rollup-operator"
    assert status(before)["operator"] == mine

    second = start_operator(settings=election(api, lease_name="second"), expected=[SAYS_SO])
    deadline = time.monotonic() + 30
    while not second.records(SAYS_SO):
        assert time.monotonic() < deadline, second.log.read_text()
        time.sleep(0.05)  # nobody tells of lines in a file
    (line,) = second.records(SAYS_SO)
    assert (line["level"], line["operator"], line["job"]) == ("warning", mine, "trips")

    after = api.wait("trips", lambda body: runs(body) >= runs(before) + 3, 20)
    assert status(after)["operator"] == mine
    assert api.get("default", kind="RollupStore")["status"]["conditions"][0]["status"] == "True"
    api.stop("trips")
    assert status(api.wait_state("trips", "stopped"))["operator"] == mine
    mischief = {"run completed", "run failed", "run halted", "store cannot be used"}
    assert [event for event in mischief if second.records(event)] == []
    second.stop()
