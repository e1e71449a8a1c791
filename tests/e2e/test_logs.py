"""The log of a process at level info: a line for each run, and failures that repeat themselves no more than needed."""

from datetime import datetime
from itertools import pairwise
from pathlib import Path

from rollup_operator.lifecycle.jobs.retry import FIRST_RETRY, LAST_RETRY, least_backoff
from support.api import Api
from support.bodies import store
from support.data import rolled_up, trips_job, write_trips
from support.operator import Operator
from support.waiting import NEVER, request_run, run_completed, runs, status


def test_a_run_is_one_line_with_rows_documents_seconds_and_watermark(
    operator: Operator, api: Api, folder: Path
) -> None:
    write_trips(folder, hours=10, per_hour=60)
    api.create(store())
    api.create(trips_job(cron=NEVER))
    api.wait_condition("trips", reason="Waiting")
    request_run(api, "trips", "one")
    found = status(api.wait("trips", run_completed, 20))

    (line,) = (line for line in operator.records("run completed") if line["namespace"] == api.namespace)
    assert list(line)[:5] == ["timestamp", "level", "event", "namespace", "job"]
    assert (line["level"], line["job"]) == ("info", "trips")
    assert (line["rows"], line["documents"]) == (600, len(rolled_up(folder)) - 1)
    assert line["watermark"] == found["watermark"]
    assert line["seconds"] > 0
    changes = [(c["was"], c["state"]) for c in operator.records("job changed") if c["namespace"] == api.namespace]
    assert changes == [(None, "started")]


def test_ticks_that_find_nothing_to_do_make_no_lines(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder, hours=10, per_hour=60)
    api.create(store())
    api.create(trips_job())  # at each second
    api.wait("trips", lambda body: runs(body) >= 4, 30)
    lines = [line for line in operator.records("run completed") if line["namespace"] == api.namespace]
    assert [line["rows"] for line in lines] == [600]


def test_a_job_that_fails_at_each_tick_is_logged_once_for_each_step_of_the_backoff(
    operator: Operator, api: Api, folder: Path
) -> None:
    source = write_trips(folder)
    api.create(store())
    api.create(trips_job())  # at each second
    api.wait("trips", run_completed, 20)
    source.unlink()
    begun = runs(api.get("trips"))
    # The steps of as many failures would take a minute.
    api.wait("trips", lambda body: runs(body) >= begun + 9, 40)
    lines = [line for line in operator.records("run failed") if line["namespace"] == api.namespace]
    assert {(line["level"], line["reason"]) for line in lines} == {("warning", "SourceNotFound")}
    assert 2 <= len(lines) < 8
    times = [datetime.fromisoformat(line["timestamp"]) for line in lines]
    for step, (earlier, later) in enumerate(pairwise(times), 1):
        assert (later - earlier).total_seconds() > least_backoff(FIRST_RETRY, LAST_RETRY, step) - 0.05
    changes = [c["state"] for c in operator.records("job changed") if c["namespace"] == api.namespace]
    assert changes == ["started"]
