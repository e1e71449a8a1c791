"""What a request of a run is for, as the one who sits between the run and its cluster sees it."""

import json
import re
from dataclasses import dataclass, field

from support.store_faults import Pass
from support.store_proxy import Fault, Request, StoreProxy

STEPS = (
    "look",
    "make claims",
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
    ("PUT", r"^/rollup-operator-claims/_create/claim", "claim"),
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
            asked = json.loads(request.body)
            if "aggregations" not in asked:
                return "count"
            return "ends" if "first" in asked["aggregations"] else "page"
        found = (step for method, path, step in _PATHS if method == request.method and re.search(path, target))
        step = next(found, "")
        if step == "claim":
            self._claims[request.opaque_id] = request
        return step

    def _record(self, request: Request) -> str:
        claim = self._claims.get(request.opaque_id)
        if claim is None or (claim.status or 500) >= 300:
            self._claims[request.opaque_id] = request
            return "claim"
        return "release" if json.loads(request.body)["holder"] is None else "commit"


def on_step(proxy: StoreProxy, step: str, *, fault: Fault, nth: int = 1, times: int | None = 1) -> list[Request]:
    """Let the nth request for this step go wrong, and `times` in all, None being every further one.

    Returns the list that those are added to which went wrong. Rules of the proxy's own that come first go first.
    """
    steps, wrong = Steps(), list[Request]()
    met = 0

    def choose(request: Request) -> Fault:
        nonlocal met
        if steps.name(request) != step:
            return Pass()
        met += 1
        if met < nth or (times is not None and met >= nth + times):
            return Pass()
        wrong.append(request)
        return fault

    proxy.on(fault=choose, times=None)
    return wrong
