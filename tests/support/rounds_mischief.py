"""What goes wrong in a round: replicas die, freeze and lose their connections, and so does their store."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from support.api import Api
from support.operator import Operator
from support.proxy import Fault as ApiFault
from support.proxy import FaultyProxy
from support.replicas import LEASE, held_by
from support.rounds_traffic import Traffic
from support.store_faults import Answer, CutAfter, CutBefore, CutInside, CutSent, HalfBulk, Hold, HoldAnswer
from support.store_proxy import Fault, ProxyThread, Request
from support.store_steps import STEPS, Trouble

LEASE_SECONDS = 5.0
OFTEN = ("page", "bulk", "commit", "release", "tasks", "claim")
REQUESTS = (
    (r"^PUT .*/rollupjobs/[^/]+/status", (500, 429, 409, 503)),
    (r"^PATCH .*/rollupjobs/[^/]+(\?|$)", (500, 429, 409, 503)),
    (r"^(POST|PUT) .*/leases", (500, 429, 409, 503)),
    (r"^GET .*/rollupjobs", (500, 429, 503)),
)
"""What may go wrong on the way to the API server, and how it may answer."""


@dataclass
class Mischief:
    """One round's. `replicas` and `ways` belong together: each replica has its own way to the API server."""

    api: Api
    replicas: Sequence[Operator]
    ways: Sequence[FaultyProxy]
    store: ProxyThread
    traffic: Traffic
    choose: random.Random
    thawed: list[float]
    story: list[str] = field(default_factory=list)
    _held: list[Hold | HoldAnswer] = field(default_factory=list)
    _late: list[Trouble] = field(default_factory=list)

    def play(self) -> None:
        """Let one to three things go wrong, one after the other."""
        kinds: list[Callable[[], None]] = [
            self.kill,
            self.kill,
            self.freeze,
            self.freeze,
            self.hand_over,
            self.cut_api,
            self.break_api,
            self.silence,
            self.cut_store,
            self.break_store,
            self.break_store,
            self.hold_bulk,
            self.hold_bulk,
        ]
        if self.choose.random() < 0.3:
            self.edit_store()
        for _ in range(self.choose.choice((1, 2, 2, 3))):
            self.pause(0.2, 1.5)
            self.choose.choice(kinds)()

    def end(self) -> None:
        """Let everything be well again."""
        self.traffic.trouble()
        for held in self._held:
            self.store.call(held.release)
        for trouble in self._late:
            for request in list(trouble.wrong):
                self.store.run(self.store.proxy.ended(request, seconds=30))
        for way in self.ways:
            way.heal()
            way.cut_watches()  # one that was silenced stays so
        for replica in self.replicas:
            replica.wait_ready()

    def pause(self, least: float, most: float) -> None:
        # No event marks a random moment.
        time.sleep(self.choose.uniform(least, most))

    def leader(self) -> int:
        """The number of the replica that leads, or of any."""
        body = self.api.find(LEASE, kind="Lease")
        leads = [n for n, r in enumerate(self.replicas) if r.running and body is not None and held_by(r)(body)]
        return leads[0] if leads else self.choose.randrange(len(self.replicas))

    def victim(self) -> int:
        """The leader three times out of four."""
        leader = self.leader()
        return leader if self.choose.random() < 0.75 else 1 - leader

    def say(self, what: str, whom: int | None = None) -> None:
        self.story.append(what if whom is None else f"{what} {'leader' if whom == self.leader() else 'standby'}")

    # -- processes -------------------------------------------------------------------------------------------------

    def kill(self, victim: int | None = None) -> None:
        both = victim is None and self.choose.random() < 0.2
        victims = [0, 1] if both else [self.victim() if victim is None else victim]
        for victim in victims:
            self.say("kill", victim)
            self.replicas[victim].kill()
        self.pause(0, 2)
        for victim in victims:
            self.replicas[victim].launch()
        for victim in victims:
            self.replicas[victim].wait_ready()

    def freeze(self, victim: int | None = None) -> None:
        victim = self.victim() if victim is None else victim
        seconds = LEASE_SECONDS + self.choose.uniform(0.5, 2.5)
        self.say(f"freeze for {seconds:.1f} s", victim)
        self.replicas[victim].freeze()
        try:
            time.sleep(seconds)
        finally:
            self.thawed.append(time.monotonic())
            self.replicas[victim].thaw()

    def hand_over(self) -> None:
        victim = self.victim()
        self.say("end and start", victim)
        self.replicas[victim].stop()
        self.replicas[victim].start()

    # -- the API server --------------------------------------------------------------------------------------------

    def cut_api(self, victim: int | None = None) -> None:
        victim = self.victim() if victim is None else victim
        seconds = self.choose.uniform(0.3, LEASE_SECONDS + 2)
        self.say(f"cut from the API server for {seconds:.1f} s", victim)
        self.ways[victim].go_away()
        try:
            time.sleep(seconds)
        finally:
            self.ways[victim].come_back()

    def break_api(self) -> None:
        for way in self.ways:
            for _ in range(self.choose.randint(1, 3)):
                pattern, codes = self.choose.choice(REQUESTS)
                fault = self.choose.choice((ApiFault.CUT, ApiFault.SWALLOW, ApiFault.ANSWER))
                times, code = self.choose.randint(1, 4), self.choose.choice(codes)
                self.say(f"{fault.name} {code if fault is ApiFault.ANSWER else ''} {pattern} {times} times")
                way.fail(pattern, fault, times=times, status=code)
            way.cut_watches()
        self.pause(0.5, 2)

    def silence(self) -> None:
        victim = self.victim()
        self.say("silent watches of", victim)
        self.ways[victim].silence_watches()
        self.pause(1, 4)

    # -- the store -------------------------------------------------------------------------------------------------

    def edit_store(self) -> None:
        """Change how many runs the store takes at a time."""
        runs = self.choose.randint(1, 6)
        self.say(f"maxConcurrentRuns {runs}")
        self.api.patch("default", {"spec": {"maxConcurrentRuns": runs}}, kind="RollupStore")

    def cut_store(self) -> None:
        seconds = self.choose.uniform(0.2, 3)
        self.say(f"cut from the store for {seconds:.1f} s")
        self.store.run(self.store.proxy.go_away())
        try:
            time.sleep(seconds)
        finally:
            self.store.run(self.store.proxy.come_back())

    def break_store(self) -> None:
        troubles = []
        for _ in range(self.choose.randint(1, 4)):
            step = self.choose.choice(self.choose.choice((STEPS, OFTEN)))
            fault = self.store.call(self._fault, step)
            troubles.append(Trouble(step, fault, self.choose.randint(1, 8), self.choose.choice((1, 1, 2, 5))))
        self.say(f"store: {', '.join(map(str, troubles))}")
        self._late += [trouble for trouble in troubles if isinstance(trouble.fault, Hold)]
        self.traffic.trouble(*troubles)
        self.pause(1, 3)

    def hold_bulk(self) -> None:
        """Hold a bulk on its way until its sender has come to harm and a later run is at work; then let it arrive."""
        held = self.store.call(lambda: Hold(outlives_client=True))
        trouble = Trouble("bulk", held, times=self.choose.randint(1, 2))
        self._held.append(held)
        self._late.append(trouble)
        self.traffic.trouble(trouble)
        self.say("a bulk is held")
        try:
            self.store.run(self.store.proxy.until(lambda: trouble.wrong, seconds=3))
        except TimeoutError:
            return
        self.choose.choice((self.kill, self.kill, self.freeze, self.cut_api))(self.leader())
        self.traffic.trouble()
        self.store.run(self._release(held, trouble.wrong[0], 0.0 if self.choose.random() < 0.7 else 1.0))

    async def _release(self, held: Hold, late: Request, seconds: float) -> None:
        """Release what is held as soon as a later run reads, before that has written the same; or so long after."""
        with suppress(TimeoutError):  # the job may have been stopped or deleted since
            await self.store.proxy.until(lambda: self.traffic.is_followed(late), seconds=LEASE_SECONDS + 3)
        await asyncio.sleep(seconds)
        held.release()

    def _fault(self, step: str) -> Fault:
        """One fault; what is held goes on a while later."""
        kind = self.choose.randrange(9)
        if kind == 0 and step == "bulk":
            return HalfBulk(lambda i: i % 3 > 0, type_="es_rejected_execution_exception")
        if kind <= 2:
            held = Hold(outlives_client=self.choose.random() < 0.5) if kind <= 1 else HoldAnswer()
            self._held.append(held)
            asyncio.get_running_loop().call_later(self.choose.uniform(0.01, 4), held.release)
            return held
        made: list[Fault] = [CutBefore(), CutSent(), CutAfter(), CutInside(), Answer(503), Answer(429)]
        return made[kind - 3]
