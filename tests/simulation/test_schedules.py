"""Random schedules keep every promise. `make simulate` runs more of them, and tells the story of one."""

import asyncio
import os
import subprocess
import sys
import time
from random import SystemRandom

import pytest

from simulation import runner
from simulation.mutations import MUTATIONS

SECONDS = 60.0
"""How long fresh schedules are run."""

FOUND, AT_ONCE = range(150), 25
"""Among these once was each fault that the simulation found; and how many of them one test runs."""


@pytest.mark.parametrize("first", FOUND[::AT_ONCE])
def test_schedules_that_once_found_a_fault_keep_every_promise(first: int) -> None:
    with runner.undisturbed():
        for seed in FOUND[first : first + AT_ONCE]:
            _run(seed)


@pytest.mark.slow
def test_fresh_schedules_keep_every_promise() -> None:
    seed = first = SystemRandom().randrange(10**6, 10**9)
    print(f"first seed: {first}")
    end = time.monotonic() + SECONDS
    with runner.undisturbed():
        while time.monotonic() < end:
            _run(seed)
            seed += 1
    print(f"{seed - first} schedules")


@pytest.mark.parametrize("title", MUTATIONS)
def test_each_guard_can_be_taken_out(title: str) -> None:
    with runner.undisturbed(), MUTATIONS[title].mutate():
        runner.run(0)


@pytest.mark.parametrize("seed", [3, 8, 19])
def test_a_seed_tells_the_same_story_in_every_process(seed: int) -> None:
    with runner.undisturbed():
        here = runner.story(seed)
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-m", "simulation", "--seed", str(seed)],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert there.stdout.splitlines() == here


class _Counting(asyncio.DefaultEventLoopPolicy):
    made = 0

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        self.made += 1
        return super().new_event_loop()


def test_what_is_left_of_dead_processes_makes_no_loop_that_nobody_closes() -> None:
    before, counting = asyncio.get_event_loop_policy(), _Counting()
    asyncio.set_event_loop_policy(counting)
    try:
        with runner.undisturbed():
            for seed in (6, 10, 23):  # Runs of theirs end as their processes are collected.
                runner.run(seed)
    finally:
        asyncio.set_event_loop_policy(before)
    assert not counting.made


def _run(seed: int) -> None:
    if (problem := runner.run(seed)) is not None:
        pytest.fail(f"seed {seed}: {problem}\n" + "\n".join(runner.story(seed)), pytrace=False)
