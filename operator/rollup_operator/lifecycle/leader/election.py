"""Leader election: reads, watches and writes the Lease, and opens and shuts the gate as `gate` decides.

Watches: one Lease. Writes: the same. Reports when this process begins to lead, must halt, and no longer leads.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from rollup_operator.concurrency.background import keep_running, spawn
from rollup_operator.kube.client import Conflict, KubeError, NotFound, may_stand
from rollup_operator.kube.lease import Lease, LeaseClient
from rollup_operator.lifecycle.leader.gate import Candidacy, Gate, LeaseWrite, Role, Step, Terms

log = structlog.get_logger(__name__)

RELEASE_SECONDS = 6.0
"""How long releasing the lease may take, half of it for a write in progress."""


class Lead(Protocol):
    """Takes in that this process leads now. `listed`: it has listed all jobs just now."""

    def __call__(self, *, listed: bool = False) -> None:
        """Take it in."""


@dataclass(frozen=True, slots=True)
class Followers:
    """The callbacks of an election. Called in the event loop, with the gate set already; must not block."""

    lead: Lead
    """This process leads now."""
    recheck: Callable[[], None]
    """The gate's `draining` has changed."""
    stand_down: Callable[[], None]
    """This process leads no more; it may lead again later."""
    went_back: Callable[[str], None] = lambda _: None
    """The lease has an older version than before, as the text says: etcd was restored."""


class Election:
    """This process's candidacy. Life: `start`, then `release`."""

    def __init__(
        self, lease: LeaseClient, identity: str, gate: Gate, followers: Followers, terms: Terms | None = None
    ) -> None:
        self._lease, self._identity, self._gate, self._followers = lease, identity, gate, followers
        self._terms = terms or Terms()
        self._candidacy = Candidacy(identity, self._terms)
        self._seen: Lease | None = None
        self._changed = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._unsure = False  # whether a write may have made this process the holder, unseen
        self._led: int | None = None  # the term that the followers know of
        self._open_until = 0.0  # the gate, if no later renewal is seen
        self._role = Role.STANDBY
        self._problems: dict[str, str] = {}
        self._running: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Stand for election from now on. If the returned task has failed, this process never learns that it leads."""
        self._running = spawn("leader election", self._run(), follows="this process ends")
        return self._running

    @property
    def is_led(self) -> bool:
        """Whether a leader exists, here or elsewhere, and was seen not long ago."""
        return self._candidacy.is_led(_now())

    async def release(self) -> None:
        """Leave the election; release the lease if this process holds it, so that another takes it at once."""
        await _ended(self._running)
        self._gate.shut()
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                if self._writing is not None:  # it may arrive even if nobody waits for it
                    await asyncio.wait({self._writing}, timeout=RELEASE_SECONDS / 2)
                    await _ended(self._writing)
                if await self._give_back():
                    log.info("lease released", lease=str(self._lease))
        except (KubeError, TimeoutError) as e:
            log.warning("lease not released: it ends by itself", lease=str(self._lease), error=_text(e))
        finally:
            await _ended(self._writing)

    async def _give_back(self) -> bool:
        lease = await self._lease.read() if self._unsure else self._seen
        while lease is not None and lease.holder == self._identity:
            try:
                await self._lease.write(lease, "", lasts=1)
            except (Conflict, NotFound):  # a renewal whose answer never came may have changed it
                lease = await self._lease.read()
            else:
                return True
        return False

    async def _run(self) -> None:
        watching = keep_running("watch of the lease", self._watch)
        try:
            while True:
                self._changed.clear()
                step = self._candidacy.decide(_now())
                self._follow(step)
                if step.do is not LeaseWrite.NOTHING and self._writing is None:
                    self._writing = spawn("write of the lease", self._write(), follows="it is tried again")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if step.wait == float("inf") else max(step.wait, 0.0)):
                        await self._changed.wait()
        finally:
            await _ended(watching)

    # Being the leader, or not

    def _follow(self, step: Step) -> None:
        # After the gate's own time its users have ended for good, even if a renewal has come by now.
        ceased = step.role is Role.STANDBY or step.term != self._led or _now() >= self._open_until
        if self._led is not None and ceased:
            self._lose("the lease could not be renewed in time, or was taken")
        if step.role is Role.STANDBY:
            return
        begun = self._candidacy.renewed
        drained = self._gate.draining  # by the clock alone, if this process was frozen: then nobody was notified
        self._open_until = begun + self._terms.abandon
        self._gate.lead(begin_until=begun + self._terms.halt, act_until=self._open_until)
        if self._led is None:
            self._led, self._role = step.term, Role.LEADING
            log.info("leading", lease=str(self._lease), identity=self._identity)
            self._followers.lead()
        elif step.role is not self._role or drained is not self._gate.draining:
            self._followers.recheck()
        if step.role is Role.HALTING and step.role is not self._role:
            log.warning(
                "halting: the lease is not renewed", lease=str(self._lease), problem=self._problems.get("write")
            )
        self._role = step.role

    def _lose(self, why: str) -> None:
        self._gate.shut()
        if self._led is None:
            return
        self._led, self._role = None, Role.STANDBY
        log.info("standing by", lease=str(self._lease), why=why, holder=self._candidacy.holder)
        self._followers.stand_down()

    # The lease

    async def _write(self) -> None:
        """Take or renew it. Another's record is read again, and that decides what comes next."""
        began, unsure = _now(), self._unsure
        self._unsure = True
        try:
            try:
                async with asyncio.timeout(self._terms.attempt):
                    lease = await self._lease.write(self._seen, self._identity, lasts=self._terms.lasts)
            except (Conflict, NotFound) as e:
                known = self._seen
                async with asyncio.timeout(self._terms.attempt):
                    found = await self._lease.read()
                if found is not None and known is not None and int(found.version) < int(known.version):
                    self._followers.went_back(
                        f"the Lease {self._lease} is of resourceVersion {found.version}, "
                        f"and {known.version} was seen before"
                    )
                self._saw(found)
                self._unsure = False
                self._candidacy.failed(_now())
                if self._seen is None:  # its namespace may be missing
                    self._trouble("write", _text(e))
                return
            self._unsure = False
            if not self._is_old(lease):
                self._seen = lease
                self._candidacy.wrote(lease.version, began=began, now=_now())
            self._trouble("write", "")
        except Exception as e:
            if isinstance(e, KubeError) and not may_stand(e):
                self._unsure = unsure
            self._candidacy.failed(_now())
            self._trouble("write", _text(e))
        finally:
            self._writing = None
            self._changed.set()

    async def _watch(self) -> None:
        while True:
            wait = 0.3
            try:
                if self._seen is None:
                    self._saw(await self._lease.read())
                async for lease in self._lease.watch():
                    self._saw(lease)
                    self._trouble("watch", "")
            except Exception as e:
                self._trouble("watch", _text(e))
                wait = 1.0
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311  # jitter

    def _saw(self, lease: Lease | None) -> None:
        if lease is not None and self._is_old(lease):
            return
        self._seen = lease
        if lease is None:
            self._candidacy.saw(None, None, _now())
        else:
            self._candidacy.saw(lease.holder, lease.version, _now(), lasts=lease.lasts)
        self._changed.set()

    def _is_old(self, lease: Lease) -> bool:
        """Whether a newer one is known: watch, answers and reads overtake one another."""
        return self._seen is not None and int(lease.version) < int(self._seen.version)

    def _trouble(self, verb: str, problem: str) -> None:
        """Log a problem once per verb, until it works again."""
        if problem and problem != self._problems.get(verb):
            log.warning("the lease cannot be used", lease=str(self._lease), verb=verb, problem=problem)
        self._problems[verb] = problem


def _now() -> float:
    return asyncio.get_running_loop().time()


def _text(error: Exception) -> str:
    if isinstance(error, KubeError):
        return str(error)
    return "no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
