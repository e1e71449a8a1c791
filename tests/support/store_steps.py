"""What a request of a run is for, as the one who sits between the run and its cluster sees it."""

import json
import re
from dataclasses import dataclass, field

from support.store_faults import Pass
from support.store_proxy import Fault, Request, StoreProxy

STEPS = (
    "look",
    "make claims",
    "make record",
    "claim",
    "target stands",
    "fields",
    "count",
    "ends",
    "page",
    "look at target",
    "make target",
    "look at lock",
    "lock",
    "register",
    "unlock",
    "look at gate",
    "change gate",
    "bulk",
    "commit",
    "refresh",
    "tasks",
    "release",
)
"""All that there are, about in the order of a run."""

_PATHS = (
    ("GET", r"^/rollup-operator-claims/_doc/claim", "look"),
    ("PUT", r"^/rollup-operator-claims-1$", "make claims"),
    ("PUT", r"^/rollup-operator-claims/_create/claim", "make record"),
    ("GET", r"^/rollup-operator-claims/_doc/lock", "look at lock"),
    ("PUT", r"^/rollup-operator-claims/_doc/lock", "lock"),
    ("DELETE", r"^/rollup-operator-claims/_doc/lock", "unlock"),
    ("GET", r"^/[^/]*filter_path=\*\.settings\.index\.uuid$", "target stands"),
    ("GET", r"^/[^/]*filter_path=\*\.aliases$", "look at gate"),
    ("GET", r"^/[^/,]*,rollup-operator-claims\?", "look at target"),
    ("GET", r"/_field_caps", "fields"),
    ("PUT", r"/_mapping$", "register"),
    ("PUT", r"^/[^/]*$", "make target"),
    ("POST", r"^/_aliases", "change gate"),
    ("POST", r"/_bulk", "bulk"),
    ("POST", r"/_refresh$", "refresh"),
    ("GET", r"^/_tasks", "tasks"),
)

_SEARCHES = {"s0": "count", "first": "ends", "rollup": "page"}
"""By an aggregation that is asked for."""


@dataclass
class Steps:
    """Names requests in the order in which they come: the first record of an epoch that is stored claims it."""

    _claims: dict[str, Request] = field(default_factory=dict)
    """The last that was to claim an epoch."""

    def name(self, request: Request) -> str:
        """Return one of STEPS, or an empty text for what is not of a run."""
        target = request.target.replace("%2A", "*").replace("%2F", "/")
        if request.method == "PUT" and target.startswith("/rollup-operator-claims/_doc/claim"):
            return self._record(request)
        if request.method == "POST" and "/_search" in target:
            asked = json.loads(request.body).get("aggregations", {})
            return next((step for name, step in _SEARCHES.items() if name in asked), "")
        found = (step for method, path, step in _PATHS if method == request.method and re.search(path, target))
        return next(found, "")

    def _record(self, request: Request) -> str:
        claim = self._claims.get(request.opaque_id)
        if claim is None or (claim.status or 500) >= 300:
            self._claims[request.opaque_id] = request
            return "claim"
        return "release" if json.loads(request.body)["holder"] is None else "commit"


@dataclass
class Trouble:
    """What goes wrong with the nth request for a step and `times` in all, None being every further one."""

    step: str
    fault: Fault
    nth: int = 1
    times: int | None = 1
    wrong: list[Request] = field(default_factory=list)
    """The requests that went wrong."""
    _met: int = 0

    def strikes(self, step: str) -> bool:
        """Count a request for a step; whether it goes wrong."""
        if step != self.step:
            return False
        self._met += 1
        return self._met >= self.nth and (self.times is None or self._met < self.nth + self.times)

    def __str__(self) -> str:
        return f"{type(self.fault).__name__} at {self.step} {self.nth}+{self.times}"


def on_steps(proxy: StoreProxy, *troubles: Trouble) -> None:
    """Let these go wrong, from now on. Rules of the proxy's own that came first go first."""
    steps = Steps()

    def choose(request: Request) -> Fault:
        name = steps.name(request)
        struck = [trouble for trouble in troubles if trouble.strikes(name)]
        for trouble in struck[:1]:
            trouble.wrong.append(request)
            return trouble.fault
        return Pass()

    proxy.on(fault=choose, times=None)


def on_step(proxy: StoreProxy, step: str, *, fault: Fault, nth: int = 1, times: int | None = 1) -> list[Request]:
    """Let one thing go wrong; returns the list that the requests are added to which did."""
    trouble = Trouble(step, fault, nth, times)
    on_steps(proxy, trouble)
    return trouble.wrong
