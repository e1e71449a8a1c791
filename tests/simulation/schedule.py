"""A seed is a schedule: who does what, when. It is drawn before anything happens, so that it reads as a list."""

from dataclasses import dataclass
from random import Random
from typing import Any

from simulation.network import CALM, ROUGH, STORM, Weather


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens at a time, in seconds since the schedule began."""

    at: float
    do: str
    """The name of a method of `World`, without its `do_`."""
    on: str = ""
    """A job, or a replica by its number."""
    value: Any = None

    def __str__(self) -> str:
        value = "" if self.value is None else f" {self.value}"
        return f"{self.do.replace('_', ' ')} {self.on}{value}"


@dataclass(frozen=True)
class Schedule:
    """What a seed comes to."""

    seed: int
    jobs: dict[str, dict[str, Any]]
    """Names, each with what its manifest has other than the usual."""
    steps: tuple[Step, ...]
    api: Weather
    store: Weather


PAUSES = (0.0, 0.002, 0.01, 0.05, 0.2, 0.6, 1.5, 3.0)

TIMEOUTS = ("0s", "100ms", "1s", "5s", "20s", None)

KINDS: dict[str, tuple[int, tuple[Any, ...]]] = {
    # Users and GitOps controllers: how often, and with what
    "ask": (10, ("started", "started", "stopped", None)),
    "run_now": (4, (None,)),
    "edit": (3, ("pageSize", "cron", "delay", "drainTimeoutSeconds")),
    "delete": (4, (None,)),
    "create": (6, (None,)),
    "replace": (2, (None,)),
    # Clients of the endpoint
    "call_stop": (6, TIMEOUTS),
    "call_start": (4, (None,)),
    # Stores
    "edit_store": (1, (1, 2, 4)),
    "delete_store": (1, (None,)),
    "create_store": (3, (None,)),
    # Faults
    "kill": (2, (0.1, 1.0, 5.0)),
    "terminate": (1, (0.1, 1.0)),
    "freeze": (2, (0.5, 5.0, 14.0, 20.0)),
    "cut_api": (2, (0.5, 3.0, 14.0, 20.0)),
    "cut_store": (1, (0.5, 5.0, 15.0)),
    "watch_gap": (2, ((0.5, False), (3.0, True), (0.01, True), (10.0, True))),
    "step_clock": (1, (-3600.0, -5.0, 5.0)),
    "lose_status": (1, (None,)),
    "delete_lease": (1, (None,)),
    "weather": (2, ("calm", "rough", "storm")),
}

ON_REPLICAS = {"kill", "terminate", "freeze", "cut_api", "cut_store", "watch_gap", "step_clock"}
CALLS = {"call_stop", "call_start"}

OFF: frozenset[str] = frozenset()
"""Kinds of steps that find faults which are known and not cured yet."""


def draw(seed: int) -> Schedule:
    """Return the schedule of a seed.

    Each has some kinds of steps only, and weather of its own: some go far, and some fall from trouble to trouble.
    """
    random = Random(seed)
    jobs = _jobs(random)
    kinds = [kind for kind in KINDS if kind not in OFF and (kind == "ask" or random.random() < 0.6)]
    weights = [KINDS[kind][0] for kind in kinds]
    pauses = random.choice((PAUSES, PAUSES[:5], PAUSES[3:]))
    at, steps = 1.0, []
    for _ in range(random.choice((12, 25, 40))):
        at += random.choice(pauses)
        kind = random.choices(kinds, weights)[0]
        on = random.choice(list(jobs))
        if kind in ON_REPLICAS:
            on = random.choice(("leader", "leader", "0", "1"))
        value = random.choice(KINDS[kind][1])
        if kind in CALLS:
            value = (random.choice("01"), value)
        steps.append(Step(round(at, 3), kind, on, value))
    weathers = (CALM, ROUGH, ROUGH, STORM)
    return Schedule(seed, jobs, tuple(steps), random.choice(weathers), random.choice(weathers))


def _jobs(random: Random) -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = {}
    for name in "abc"[: random.choice((1, 2, 2, 3))]:
        jobs[name] = {
            "desiredState": random.choice(("started", "started", "stopped")),
            "pageSize": random.choice((1, 2, 4)),
            "deletionPolicy": random.choice(("Retain", "Delete")),
        }
    if len(jobs) > 1 and random.random() < 0.25:  # two resources for one job of the store
        jobs["b"] |= {"jobId": "a", "rollupIndex": "rolled-a"}
        if random.random() < 0.5:
            jobs["b"]["metrics"] = [{"field": "x", "metrics": ["max"]}]
    return jobs
