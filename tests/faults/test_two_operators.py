"""Two installations watch the same jobs, each with a Lease of its own: one acts, the other says so and keeps off."""

import time
from pathlib import Path
from typing import Any

from support.api import Api
from support.bodies import store
from support.data import end_of, small_groups, trips_job, write_trips
from support.operator import Operator
from support.operator_fixtures import StartOperator
from support.replicas import election, wait_leads
from support.waiting import finished, runs, status

SAYS_SO = "another operator acts on jobs that this one watches: they are left to it"
SAYS_SO_TOO = "another operator watches jobs that this one acts on, and leaves them alone"


def logged_once(operator: Operator, event: str) -> dict[str, Any]:
    """The only line of that event, once it is there."""
    deadline = time.monotonic() + 30
    while not operator.records(event):
        assert time.monotonic() < deadline, operator.log.read_text()
        time.sleep(0.05)  # a file announces no lines
    (line,) = operator.records(event)
    return line


def test_of_two_operators_one_acts_and_the_other_says_so(start_operator: StartOperator, api: Api, folder: Path) -> None:
    first = start_operator(settings=election(api), expected=[SAYS_SO_TOO])
    wait_leads(api, first)
    write_trips(folder, hours=10)
    api.create(store())
    api.create(trips_job(groups=small_groups()))
    before = api.wait("trips", finished(end_of(9)), 20)
    mine = f"{api.namespace}/rollup-operator"
    assert status(before)["operator"] == mine

    second = start_operator(settings=election(api, lease_name="second"), expected=[SAYS_SO])
    line = logged_once(second, SAYS_SO)
    assert (line["level"], line["operator"], line["job"]) == ("warning", mine, "trips")
    line = logged_once(first, SAYS_SO_TOO)
    assert (line["level"], line["operator"], line["job"]) == ("warning", f"{api.namespace}/second", "trips")
    told = api.wait_event("trips", "TwoOperators")
    assert told["type"] == "Warning"
    assert told["message"].startswith(f"the operator {api.namespace}/second watches this job, too")

    after = api.wait("trips", lambda body: runs(body) >= runs(before) + 3, 20)
    assert status(after)["operator"] == mine
    assert api.get("default", kind="RollupStore")["status"]["conditions"][0]["status"] == "True"
    api.stop("trips")
    assert status(api.wait_state("trips", "stopped"))["operator"] == mine
    mischief = {"run completed", "run failed", "run halted", "store cannot be used"}
    assert [event for event in mischief if second.records(event)] == []
    assert (len(second.records(SAYS_SO)), len(first.records(SAYS_SO_TOO))) == (1, 1)
    second.stop()
