"""A seed is a schedule: who does what, when. It is drawn before anything happens, so that it reads as a list."""

from dataclasses import dataclass
from random import Random
from typing import Any

from simulation.network import BREEZE, CALM, ROUGH, STORM, Weather


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
    flips: bool
    """Whether jobs are asked for one state and the other once all is calm."""


PAUSES = (0.0, 0.002, 0.01, 0.05, 0.2, 0.6, 1.5, 3.0)

ALL = "all"
"""Stop all jobs, and wait for a second."""

TIMEOUTS = ("0s", "100ms", "1s", "5s", "20s", None, ALL)

KINDS: dict[str, tuple[int, tuple[Any, ...]]] = {
    # Users and GitOps controllers: how often, and with what
    "ask": (10, ("started", "started", "stopped", None)),
    "run_now": (6, (None,)),
    "edit": (3, ("pageSize", "cron", "delay", "drainTimeoutSeconds", "unreadable")),
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
    "step_clock": (1, (-3600.0, -60.0, -2.0, 2.0, 10.0, 3600.0)),
    "lose_status": (1, (None,)),
    "delete_lease": (1, (None,)),
    "backup": (1, (None,)),
    "weather": (2, ("calm", "breeze", "rough", "storm")),
}

ON_REPLICAS = {"kill", "terminate", "freeze", "cut_api", "cut_store", "watch_gap", "step_clock"}
CALLS = {"call_stop", "call_start"}

Line = tuple[str, tuple[Any, ...]]
"""A kind of step, and what to draw its value from; nothing: what the kind usually has."""

SCENES: tuple[tuple[Line, ...], ...] = (
    # A halt, a deletion, a crash in the middle of a run
    (("run_now", ()), ("ask", ("stopped",))),
    (("run_now", ()), ("call_stop", ())),
    (("run_now", ()), ("delete", ()), ("create", ())),
    (("run_now", ()), ("kill", ()), ("ask", ("stopped",))),
    (("run_now", ()), ("freeze", (14.0, 20.0)), ("ask", ("stopped",))),
    (("run_now", ()), ("cut_api", (14.0, 20.0)), ("ask", ("stopped",))),
    (("run_now", ()), ("cut_store", ()), ("delete", ())),
    (("run_now", ()), ("terminate", ()), ("run_now", ()), ("ask", ("stopped",))),
    (("run_now", ()), ("lose_status", ()), ("ask", ("stopped",))),
    # A leader that hears late, and what happens meanwhile
    (("watch_gap", ((3.0, False), (12.0, False))), ("run_now", ()), ("ask", ("stopped",)), ("edit", ())),
    (("watch_gap", ((3.0, True), (12.0, True))), ("delete", ()), ("create", ()), ("ask", ())),
    (("run_now", ()), ("watch_gap", ((3.0, False),)), ("ask", ("stopped",)), ("ask", ("started",))),
    # A clock that is wrong for a while, a spec that cannot be read, a status that is lost
    (("step_clock", (10.0, 3600.0)), ("ask", ("started",)), ("run_now", ())),
    (("step_clock", (3600.0,)), ("run_now", ()), ("step_clock", (-2.0,)), ("ask", ("started",))),
    (("run_now", ()), ("kill", ()), ("edit", ("unreadable",)), ("ask", ("stopped",))),
    (("run_now", ()), ("edit", ("unreadable",)), ("lose_status", ()), ("ask", ("stopped",))),
    (("run_now", ()), ("kill", ()), ("lose_status", ()), ("ask", ("stopped",))),
    # A job that is refused while it is stopped
    (("run_now_all", ()), ("ask", ("stopped",)), ("run_now_all", ())),
    # A hand-over, and a job that is another one by then
    (("ask", ("stopped",)), ("kill", ()), ("run_now", ())),
    (("terminate", ()), ("replace", ()), ("ask", ("stopped",)), ("ask", ("started",))),
    (("kill", ()), ("delete", ()), ("create", ()), ("run_now", ())),
    (("cut_api", (14.0, 20.0)), ("ask", ("stopped",)), ("delete_lease", ())),
    # A name that is used again, and who asks for it
    (("call_stop", ("1s", "5s")), ("replace", ()), ("call_start", ())),
    (("delete", ()), ("call_stop", ("1s", "5s")), ("create", ())),
    (("replace", ()), ("replace", ()), ("ask", ("stopped",)), ("run_now", ())),
    # Calls that overtake one another
    (("call_stop", ("100ms", "1s")), ("ask", ("started",)), ("call_stop", ("100ms", "1s"))),
    (("ask", ("stopped",)), ("call_start", ()), ("call_stop", ("0s", "1s"))),
    # A limit that is changed while it is used up
    (("edit_store", (1,)), ("run_now_all", ()), ("edit_store", (2,)), ("run_now_all", ())),
)
"""What happens to one job within a moment: orders that steps drawn one by one would seldom come to."""

MODES = ("Auto", "Counts", "Full")

SHORT = (0.0, 0.005, 0.02, 0.06, 0.2, 0.5, 1.2)

RESTORES = 0.1
"""How many schedules end with a restore of etcd."""

REPEATS = 0.1
"""How many schedules have a client who sends a stop again, though somebody has started the job meanwhile."""

MISSES = 0.1
"""How many schedules end with a change that the leader's watch does not bring, so that only a list can."""

LEFT = 0.1
"""How many schedules end with a job that goes while its store is away, so that its claim stays, and another one that is
created in its place."""

UNSEEN = 0.05
"""How many schedules end with a restore of etcd to before the first run of a job, while that run is at work: the job is
stopped and has no finalizer then, and only the store tells that its claim is held."""

REPEATED = {"0s": 0.0, "100ms": 0.1, "1s": 1.0}
"""For how long such a client waits, in seconds too."""

VERIFIED = 0.25
"""How many schedules have jobs that verify themselves."""

VERIFY_EVERY = (2, 3, 5)
"""Seconds between two verifications of such a job."""

OFF: frozenset[str] = frozenset()
"""Kinds of steps that find faults which are known and not cured yet."""


def draw(seed: int) -> Schedule:
    """Return the schedule of a seed.

    Each has some kinds of steps only, and weather of its own: some go far, and some fall from trouble to trouble.
    """
    return _Draw(Random(seed)).schedule(seed)


class _Draw:
    """Draws one schedule."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._jobs = _jobs(random)
        self._kinds = [kind for kind in KINDS if kind not in OFF and (kind == "ask" or random.random() < 0.7)]
        self._weights = [KINDS[kind][0] for kind in self._kinds]
        self._scenes = [s for s in SCENES if all(k in self._kinds or k not in KINDS for k, _ in s)]
        self._at = 1.0
        self._steps: list[Step] = []

    def schedule(self, seed: int) -> Schedule:
        random = self._random
        pauses = random.choice((PAUSES, PAUSES[:5], PAUSES[3:]))
        length = random.choice((12, 25, 40))
        while len(self._steps) < length:
            self._at += random.choice(pauses)
            job = random.choice(list(self._jobs))
            if self._scenes and random.random() < 0.35:
                self._scene(job)
            else:
                kind = random.choices(self._kinds, self._weights)[0]
                self._step(job, kind, ())
        self._repeat(Random(f"again {seed}"))
        self._verify(Random(f"verify {seed}"))
        if random.random() < RESTORES:
            self._at += random.choice(pauses)
            if random.random() < 0.5:  # in the middle of runs
                self._steps.append(Step(round(self._at, 3), "run_now_all"))
                self._at += random.choice(SHORT)
            self._steps.append(Step(round(self._at, 3), "restore", value=random.choice((None, "cold"))))
        self._miss(Random(f"missed {seed}"))
        self._leave(Random(f"left {seed}"))
        self._unsee(Random(f"unseen {seed}"))
        weathers = (CALM, BREEZE, BREEZE, ROUGH, STORM)
        api, store = random.choice(weathers), random.choice(weathers)
        return Schedule(seed, self._jobs, tuple(self._steps), api, store, flips=random.random() < 0.3)

    def _repeat(self, random: Random) -> None:
        """Add a stop that is not carried out in time, a start that follows it, and the same stop once more.

        A client, or a proxy before it, repeats what was not answered well. All other steps are as they would be
        without these, which are drawn from random numbers of their own.
        """
        if random.random() >= REPEATS:
            return
        job, number, timeout = random.choice(list(self._jobs)), random.choice("01"), random.choice(list(REPEATED))
        stop = "call_stop", job, (number, timeout)
        start = random.choice((("ask", job, "started"), ("call_start", job, (random.choice("01"), None))))
        before = random.choice((("run_now", job, None), ("cut_store", "leader", 5.0)))
        at = random.uniform(1.0, self._at)
        for do, on, value in (("ask", job, "started"), ("run_now", job, None), before, stop, start, stop):
            self._steps.append(Step(round(at, 3), do, on, value))
            at += random.choice(SHORT)
            if do == "call_stop":
                at += REPEATED[timeout]
        self._steps.sort(key=lambda step: step.at)

    def _miss(self, random: Random) -> None:
        """Add a change of which the leader hears nothing, after all others, and from random numbers of its own."""
        if random.random() < MISSES:
            at = round(self._at + random.choice(PAUSES), 3)
            self._steps.append(Step(at, "miss", "leader"))
            self._steps.append(Step(at, "ask", random.choice(list(self._jobs)), random.choice(("started", "stopped"))))

    def _verify(self, random: Random) -> None:
        """Let jobs verify themselves, some from the beginning, and stop, delete and edit some a moment after a tick.

        All other steps are as they would be without these.
        """
        if random.random() >= VERIFIED:
            return
        for spec in self._jobs.values():
            if random.random() < 0.7:
                spec["verify"] = {"cron": f"0/{random.choice(VERIFY_EVERY)} * * * * ?", "mode": random.choice(MODES)}
        for _ in range(random.choice((2, 6, 12))):
            job, at = random.choice(list(self._jobs)), random.uniform(1.0, self._at)
            do, value = random.choice(
                (("ask", "stopped"), ("ask", "started"), ("edit", "verify"), ("run_now", None), ("replace", None))
            )
            if random.random() < 0.5:  # a moment after a tick
                at = float(int(at)) + random.choice(SHORT[:4])
            self._steps.append(Step(round(at, 3), do, job, value))
        self._steps.sort(key=lambda step: step.at)

    def _leave(self, random: Random) -> None:
        """Let a job leave its claim to another one of its name, which only has it settled. As in `_miss`."""
        if random.random() >= LEFT:
            return
        job, at = random.choice(list(self._jobs)), self._at + 1.0
        for pause, do, on, value in (
            (0.0, "create", job, None),
            (0.0, "create_store", "", None),
            (0.0, "ask", job, "started"),
            (3.0, "run_now", job, None),
            (random.choice((0.02, 0.06, 0.2)), "cut_store", "leader", 15.0),
            (0.0, "delete_store", "", None),
            (0.0, "delete", job, None),
            (random.choice((3.0, 5.0, 8.0)), "create", job, None),
            (0.0, "ask", job, "stopped"),
        ):
            at += pause
            self._steps.append(Step(round(at, 3), do, on, value))

    def _unsee(self, random: Random) -> None:
        """Let a restore undo all that a job shows of its run, after all other steps. As in `_miss`."""
        if random.random() >= UNSEEN:
            return
        job, at = random.choice(list(self._jobs)), max(step.at for step in self._steps) + 1.0
        for pause, do, on, value in (
            (0.0, "create_store", "", None),
            (0.0, "delete", job, None),
            (3.0, "create", job, None),
            (0.0, "ask", job, "stopped"),
            (1.0, "backup", "", None),
            (0.0, "ask", job, "started"),
            (1.0, "run_now", job, None),
            (random.choice((0.06, 0.12, 0.2, 0.4)), "restore", "", random.choice((None, "cold", "cold"))),
        ):
            at += pause
            self._steps.append(Step(round(at, 3), do, on, value))

    def _scene(self, job: str) -> None:
        replica = self._random.choice("01")
        for kind, values in self._random.choice(self._scenes):
            self._step(job, kind, values, replica)
            self._at += self._random.choice(SHORT)

    def _step(self, job: str, kind: str, values: tuple[Any, ...], replica: str = "") -> None:
        random = self._random
        on = random.choice(("leader", "leader", "0", "1")) if kind in ON_REPLICAS and not replica else job
        if kind in ON_REPLICAS and replica:
            on = "leader"
        value = random.choice(values or KINDS.get(kind, (0, (None,)))[1])
        if kind in CALLS:
            value = (replica or random.choice("01"), value)
        self._steps.append(Step(round(self._at, 3), kind, on, value))


def _jobs(random: Random) -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = {}
    for name in "abc"[: random.choice((1, 2, 2, 3))]:
        jobs[name] = {
            "desiredState": random.choice(("started", "started", "stopped")),
            "pageSize": random.choice((1, 2, 4)),
            "parallelism": random.choice((1, 2, 3)),
            "deletionPolicy": random.choice(("Retain", "Delete")),
        }
    if len(jobs) > 1 and random.random() < 0.25:  # two resources for one job of the store
        jobs["b"] |= {"jobId": "a", "rollupIndex": "rolled-a"}
        if random.random() < 0.5:
            jobs["b"]["metrics"] = [{"field": "x", "metrics": ["max"]}]
    return jobs
