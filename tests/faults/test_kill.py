"""The operator is killed at random moments of a backfill, with stops and starts in between, and nothing is lost."""

import os
import random
import time
from pathlib import Path

import pytest

from support.api import Api
from support.backfill import PAGE_SECONDS, assert_complete, begin, begun
from support.data import end_of
from support.database import claim, fingerprint
from support.operator_fixtures import StartOperator
from support.waiting import assert_silent, position, status

KILLS = 12
HOURS = 1500


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_many_kills_with_stops_and_starts_in_between(start_operator: StartOperator, api: Api, folder: Path) -> None:
    seed = int(os.environ.get("ROLLUP_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"ROLLUP_TEST_SEED={seed}")
    choose = random.Random(seed)
    operator = start_operator(page_seconds=PAGE_SECONDS)
    begin(api, folder, hours=HOURS)
    asked = "started"
    epochs = [0]
    for kill in range(KILLS):
        for _ in range(choose.choice((0, 0, 1, 2, 3))):
            asked = choose.choice(("started", "stopped"))
            api.patch_job("trips", {"desiredState": asked})
        # No event marks a random moment.
        time.sleep(choose.uniform(0, 0.6))
        operator.kill()
        if choose.random() < 0.3:
            asked = choose.choice(("started", "stopped"))
            api.patch_job("trips", {"desiredState": asked})
        if kill % 5 == 4 and (record := claim(folder)) is not None:
            epochs.append(record["epoch"])
        operator.start()

    state = ("stopped",) if asked == "stopped" else ("started", "indexing")
    body = api.wait(
        "trips",
        lambda body: (
            status(body)["observedGeneration"] == body["metadata"]["generation"] and status(body)["state"] in state
        ),
        30,
    )
    if asked == "stopped":
        record = claim(folder)
        assert record is None or record["holder"] is None
        files = fingerprint(folder)
        assert_silent(api, body, 1.0)
        assert fingerprint(folder) == files
        api.start("trips")
    assert_complete(api, folder, hours=HOURS)
    assert position(api.get("trips")) == end_of(HOURS - 1)
    assert epochs == sorted(epochs)


@pytest.mark.parametrize("asked", ["started", "stopped"])
def test_a_frozen_operator_that_thaws_finishes_what_was_asked_of_it(
    start_operator: StartOperator, api: Api, folder: Path, asked: str
) -> None:
    operator = start_operator(page_seconds=PAGE_SECONDS)
    begun(api, folder)
    operator.freeze()
    api.stop("trips")
    if asked == "started":
        api.start("trips")
    operator.thaw()
    if asked == "stopped":
        api.wait_state("trips", "stopped")
        api.start("trips")
    assert_complete(api, folder)
