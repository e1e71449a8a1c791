"""What went through a proxy to a node: who claimed, who wrote, and whether two runs of one job overlapped."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

from support.store_faults import Pass
from support.store_proxy import Exchange, Fault, ProxyThread, Request
from support.store_steps import Steps, Trouble

_CLAIM = re.compile(r"^/rollup-operator-claims/_(?:doc|create)/claim/([^/]+)/([^/?]+)")


class Counted(Pass):
    """Passes a bulk on, and counts the documents that it changed."""

    def __init__(self, applied: dict[int, int]) -> None:
        """`applied` receives the count under the request's number."""
        self._applied = applied

    async def apply(self, exchange: Exchange) -> None:
        await exchange.send()
        head, raw, plain = await exchange.collect()
        if head.status == 200:
            items = json.loads(plain).get("items", ())
            self._applied[exchange.request.number] = sum(item["index"]["status"] < 300 for item in items)
        await exchange.pass_on(head.raw + raw)


@dataclass
class Term:
    """One epoch of one job, as its requests show it."""

    uid: str
    epoch: int
    claimed: float
    """When the answer to its claim was there."""
    began: float = float("inf")
    """When its first search or bulk arrived, or the request that released it: earlier epochs are over by then."""
    bulks: list[Request] = field(default_factory=list)
    """Those that changed documents."""


class Traffic:
    """Decides what becomes of each request to a node, and remembers what it was for."""

    def __init__(self, way: ProxyThread) -> None:
        self._way = way
        self._steps = Steps()
        self._named: list[tuple[str, Request]] = []
        self._troubles: list[Trouble] = []
        self._applied: dict[int, int] = {}
        way.call(lambda: way.proxy.on(fault=self._choose, times=None))

    def trouble(self, *troubles: Trouble) -> None:
        """Let these go wrong from now on, in place of what went wrong before."""
        self._way.call(self._trouble, list(troubles))

    def _trouble(self, troubles: list[Trouble]) -> None:
        self._troubles = troubles

    def _choose(self, request: Request) -> Fault:
        step = self._steps.name(request)
        self._named.append((step, request))
        struck = [trouble for trouble in self._troubles if trouble.strikes(step)]
        for trouble in struck[:1]:
            trouble.wrong.append(request)
            return trouble.fault
        return Counted(self._applied) if step == "bulk" else Pass()

    def is_followed(self, request: Request) -> bool:
        """Whether a later run of the same job has begun to read or to write. Call it in the proxy's thread."""
        uid, epoch = _of(request)
        recent = self._named[request.number + 1 :]  # all are named, in the order of their numbers
        return any(step in ("page", "bulk") and _of(r)[0] == uid and _of(r)[1] > epoch for step, r in recent)

    def writes(self, uid: str, since: float) -> list[str]:
        """Return the bulks of a job that arrived since a time of time.monotonic() and changed documents."""
        return self._way.call(lambda: [str(r) for r in self._work(uid, since) if self._applied.get(r.number)])

    def searches(self, uid: str, since: float, but: Callable[[Request], bool]) -> list[str]:
        """Return the searches of a job that arrived since a time of time.monotonic(), without some."""
        return self._way.call(lambda: [str(r) for r in self._work(uid, since) if "_search" in r.target and not but(r)])

    def _work(self, uid: str, since: float) -> Iterable[Request]:
        return (r for _, r in self._named if r.arrived > since and _of(r)[0] == uid)

    def terms(self) -> dict[tuple[str, str], list[Term]]:
        """Return all epochs that were claimed, by rollup index and job id, in order."""
        return self._way.call(self._terms)

    def _terms(self) -> dict[tuple[str, str], list[Term]]:
        found: dict[tuple[str, str], dict[int, Term]] = {}
        by_id: dict[tuple[str, int], Term] = {}
        for step, request in self._named:
            uid, epoch = _of(request)
            if step == "claim" and request.status in (200, 201) and request.ended is not None:
                claim = _CLAIM.search(unquote(request.target))
                assert claim is not None, request
                key = claim[1], claim[2]
                term = Term(uid, epoch, request.ended)
                found.setdefault(key, {})[epoch] = by_id[uid, epoch] = term
            elif (known := by_id.get((uid, epoch))) is not None:
                if step in ("count", "ends", "page", "bulk", "release"):
                    known.began = min(known.began, request.arrived)
                if step == "bulk" and self._applied.get(request.number):
                    known.bulks.append(request)
        return {key: [terms[epoch] for epoch in sorted(terms)] for key, terms in found.items()}

    def overlaps(self) -> list[str]:
        """Return the bulks that changed documents when a later epoch of the same job was at work already."""
        found = []
        for key, terms in self.terms().items():
            later = float("inf")
            for term in reversed(terms):
                found += [
                    f"{key}: {bulk} of epoch {term.epoch} ended {bulk.ended - later:.3f} s after a later one began"
                    for bulk in term.bulks
                    if bulk.ended is not None and bulk.ended > later
                ]
                later = min(later, term.began)
        return found


def _of(request: Request) -> tuple[str, int]:
    """The uid and the epoch in a request's X-Opaque-Id."""
    word, _, rest = request.opaque_id.partition("/")
    uid, _, epoch = rest.rpartition("/")
    return (uid, int(epoch)) if word == "rollup" and epoch.isdecimal() else ("", 0)
