"""An operator whose clock is wrong: it rolls up nothing too early, says so, and goes on once the clock is right."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.api import Api, Body, condition
from support.bodies import store
from support.data import exported, small_groups, trips_job, write_trips
from support.operator_fixtures import StartOperator
from support.waiting import run_completed, runs, status

WITH_A_CLOCK_SET_BY = """
from datetime import timedelta
from pathlib import Path
from rollup_operator import wiring

right = wiring.now
wiring.now = lambda: right() + timedelta(days=float(Path({path!r}).read_text()))

from rollup_operator.cli import main

main()
"""
"""Its clock is off by the days that a file says."""


def test_a_clock_that_is_wrong_rolls_up_nothing_too_early_and_delays_nothing_once_it_is_right(
    start_operator: StartOperator, api: Api, folder: Path, tmp_path: Path
) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    write_trips(folder, begin=hour - timedelta(hours=5), hours=9)
    api.create(store())
    off = tmp_path / "off"

    def set_clock(days: float) -> None:
        part = off.with_suffix(".part")
        part.write_text(str(days))
        part.rename(off)

    set_clock(4 * 365)
    start_operator(program=("-c", WITH_A_CLOCK_SET_BY.format(path=str(off))))
    api.create(trips_job(groups=small_groups()))
    refused = api.wait_condition("trips", status="False", reason="ClockSkewed")
    said = condition(refused)
    assert said is not None
    assert f"the operator's clock reads {hour.year + 4}-" in said["message"]
    assert f"and the API server's {hour.year}-" in said["message"]
    assert condition(refused, "Reconciling") is not None
    assert not {"watermark", "position"} & status(refused).keys()

    set_clock(0)
    right = api.wait("trips", run_completed, 20)
    over = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    assert datetime.fromisoformat(status(right)["watermark"]) in (hour, over)
    assert len(exported(folder)[1:]) in (5, 6)
    api.wait("trips", shows_a_tick_near(datetime.now(UTC)))

    set_clock(-4 * 365)
    then = datetime.now(UTC) - timedelta(days=4 * 365)
    late = api.wait("trips", lambda body: shows_a_tick_near(then)(body) and runs(body) > runs(right))
    assert status(late)["watermark"] >= status(right)["watermark"]
    assert len(exported(folder)[1:]) in (5, 6)


def shows_a_tick_near(moment: datetime) -> Callable[[Body], bool]:
    def question(body: Body) -> bool:
        tick = status(body).get("nextRunTime")
        return tick is not None and abs(datetime.fromisoformat(tick) - moment) < timedelta(minutes=1)

    return question
