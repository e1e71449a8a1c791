"""Who leads, as far as a process can conclude it: by clocks of the tests' own."""

import math
import random
from dataclasses import dataclass, field

import pytest

from rollup_operator.lifecycle.leader.gate import Candidacy, Gate, LeaseWrite, Role, Step, Terms

TERMS = Terms()


def leading(now: float = 100.0, *, renewed: float = 100.0) -> Candidacy:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw(None, None, renewed)
    candidacy.wrote("1", began=renewed, now=renewed)
    assert candidacy.decide(now).term == 1
    return candidacy


def standing(step: Step) -> tuple[Role, LeaseWrite]:
    return step.role, step.do


def test_nothing_is_written_before_the_record_was_seen() -> None:
    step = Candidacy("me", TERMS).decide(5)
    assert (standing(step), step.wait) == ((Role.STANDBY, LeaseWrite.NOTHING), math.inf)


@pytest.mark.parametrize("holder", [None, "", "me"])
def test_a_lease_that_is_nobodys_or_ones_own_is_taken_at_once(holder: str | None) -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw(holder, None if holder is None else "7", 5)
    assert standing(candidacy.decide(5)) == (Role.STANDBY, LeaseWrite.TAKE)


def test_a_candidate_counts_from_when_it_saw_the_record_change() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw("other", "7", 5)
    assert candidacy.decide(5).wait == 15
    candidacy.saw("other", "8", 12)
    candidacy.saw("other", "8", 20)  # seen again: no change
    assert standing(candidacy.decide(26.9)) == (Role.STANDBY, LeaseWrite.NOTHING)
    assert standing(candidacy.decide(27)) == (Role.STANDBY, LeaseWrite.TAKE)


def test_a_candidate_waits_for_as_long_as_the_holder_may_believe_in_its_lease() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw("other", "7", 5, lasts=30)
    assert candidacy.decide(5).wait == 30
    candidacy.saw(None, None, 6)  # deleted, which the holder may not know
    assert candidacy.decide(6).wait == 30
    candidacy.saw("third", "8", 10, lasts=1)  # less than this process's own is no reason to hurry
    assert candidacy.decide(10).wait == 15


def test_the_other_times_of_a_lease_follow_its_length() -> None:
    assert Terms.of(TERMS.lasts) == TERMS
    long = Terms.of(30)
    assert (long.renew, long.attempt, long.halt, long.abandon) == (4, 12, 22, 26)


def test_a_released_lease_is_taken_at_once() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw("other", "7", 5)
    candidacy.saw("", "8", 6)
    assert candidacy.decide(6).do is LeaseWrite.TAKE


def test_a_lease_that_was_deleted_is_its_holders_for_as_long_as_that_may_not_know() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw("other", "7", 5)
    candidacy.saw(None, None, 6)
    candidacy.saw(None, None, 12)
    assert [candidacy.decide(now).do for now in (6, 20.9, 21)] == [
        LeaseWrite.NOTHING,
        LeaseWrite.NOTHING,
        LeaseWrite.TAKE,
    ]


def test_the_holder_makes_a_lease_anew_that_was_deleted() -> None:
    candidacy = leading()
    candidacy.saw(None, None, 101)
    assert standing(candidacy.decide(101)) == (Role.STANDBY, LeaseWrite.TAKE)


def test_a_holder_of_long_ago_waits_for_whoever_came_after_it_and_was_deleted_too() -> None:
    candidacy = leading()  # since 100, and cut off from then on
    candidacy.saw(None, None, 120)
    assert [candidacy.decide(now).do for now in (120, 134.9, 135)] == [
        LeaseWrite.NOTHING,
        LeaseWrite.NOTHING,
        LeaseWrite.TAKE,
    ]


def test_a_lease_that_was_released_and_is_gone_may_have_been_taken_in_between() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw("", "8", 6)
    candidacy.saw(None, None, 30)
    assert [candidacy.decide(now).do for now in (30, 44.9, 45)] == [
        LeaseWrite.NOTHING,
        LeaseWrite.NOTHING,
        LeaseWrite.TAKE,
    ]


def test_the_holder_renews_halts_and_abandons_from_the_start_of_its_last_renewal() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw(None, None, 99)
    candidacy.wrote("1", began=100, now=101.5)
    steps = [candidacy.decide(now) for now in (101.5, 102, 110.9, 111, 112.9, 113)]
    assert [standing(step) for step in steps] == [
        (Role.LEADING, LeaseWrite.NOTHING),
        (Role.LEADING, LeaseWrite.RENEW),
        (Role.LEADING, LeaseWrite.RENEW),
        (Role.HALTING, LeaseWrite.RENEW),
        (Role.HALTING, LeaseWrite.RENEW),
        (Role.STANDBY, LeaseWrite.TAKE),
    ]
    assert steps[0].wait == pytest.approx(0.5)
    assert steps[1].wait == pytest.approx(9)
    assert steps[3].wait == pytest.approx(2)


def test_a_renewal_that_comes_before_the_end_makes_it_lead_again() -> None:
    candidacy = leading()
    assert candidacy.decide(111.5).role is Role.HALTING
    candidacy.wrote("2", began=107, now=112)
    step = candidacy.decide(112)
    assert (step.role, step.term) == (Role.LEADING, 1)


def test_a_renewal_that_is_answered_too_late_begins_another_term() -> None:
    candidacy = leading()
    candidacy.wrote("2", began=108, now=113.2)  # nobody had asked meanwhile: what was too late stays so
    step = candidacy.decide(113.2)
    assert (step.role, step.term) == (Role.LEADING, 2)


def test_a_renewal_whose_answer_slept_proves_nothing() -> None:
    candidacy = leading()
    candidacy.wrote("2", began=102, now=140)
    assert candidacy.decide(140).role is Role.STANDBY


def test_who_was_overtaken_stands_by_at_once() -> None:
    candidacy = leading()
    candidacy.saw("other", "2", 101)
    assert standing(candidacy.decide(101)) == (Role.STANDBY, LeaseWrite.NOTHING)
    assert candidacy.holder == "other"


def test_a_failed_write_is_tried_again_after_a_moment() -> None:
    candidacy = leading()
    candidacy.failed(103)
    step = candidacy.decide(103)
    assert standing(step) == (Role.LEADING, LeaseWrite.NOTHING)
    assert step.wait == pytest.approx(TERMS.retry)
    assert candidacy.decide(103 + TERMS.retry).do is LeaseWrite.RENEW


def test_a_candidate_that_may_not_write_asks_seldom() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw(None, None, 5)
    candidacy.failed(5)
    assert candidacy.decide(6.9).do is LeaseWrite.NOTHING
    assert candidacy.decide(7).do is LeaseWrite.TAKE


def test_a_lease_released_after_a_failed_try_is_taken_at_once() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw("other", "7", 5)
    candidacy.failed(15)
    candidacy.saw("", "8", 15.1)
    assert candidacy.decide(15.1).do is LeaseWrite.TAKE


def test_the_gate_shuts_by_the_clock_alone() -> None:
    times = [0.0]
    gate = Gate(lambda: times[-1])
    assert not gate.open
    gate.lead(begin_until=5, act_until=8)
    for now, expected in ((4.9, (True, False)), (5, (True, True)), (7.9, (True, True)), (8, (False, True))):
        times.append(now)
        assert (gate.open, gate.draining) == expected


def test_a_gate_that_ends_begins_nothing_and_once_closed_stays_so() -> None:
    gate = Gate()
    gate.lead()
    gate.end()
    gate.lead()
    assert (gate.open, gate.draining) == (True, True)
    gate.close()
    gate.lead()
    assert not gate.open


# Many processes


@dataclass
class Server:
    """The lease, with compare-and-set."""

    version: int = 0
    holder: str | None = None

    @property
    def shown(self) -> str | None:
        return None if self.version == 0 else str(self.version)

    def write(self, seen: str | None, holder: str) -> bool:
        if seen != self.shown:
            return False
        self.version, self.holder = self.version + 1, holder
        return True


@dataclass
class Write:
    """A write under way: when it reaches the server and when its answer is here, if ever."""

    began: float
    seen: str | None
    arrives: float
    answered: float
    version: str | None = None


@dataclass
class Process:
    """One replica: its clock begins somewhere, its network is as bad as the chance says, and it may freeze."""

    name: str
    offset: float
    slowest: float = 0.0
    loses: float = 0.1
    """The chance that an answer never comes."""
    seen: str | None = None
    frozen_until: float = -1.0
    cut_until: float = -1.0
    writes: list[Write] = field(default_factory=list)
    """The last is its own business; those before were given up, and may arrive all the same."""
    waiting: bool = False
    candidacy: Candidacy = field(init=False)

    def __post_init__(self) -> None:
        self.candidacy = Candidacy(self.name, TERMS)

    def acts(self, now: float) -> bool:
        """Whether its gate would be open, whatever it is doing."""
        return now + self.offset < self.candidacy.renewed + TERMS.abandon

    def arrive(self, now: float, server: Server) -> None:
        """What was sent goes its way, whatever has become of the sender."""
        for write in self.writes:
            if write.arrives <= now:
                write.arrives = math.inf
                if server.write(write.seen, self.name):
                    write.version = server.shown

    def live(self, now: float, server: Server, chance: random.Random) -> None:
        if now < self.frozen_until:
            return
        mine = now + self.offset
        if self.waiting:
            write = self.writes[-1]
            if write.answered <= now:
                self.waiting = False
                if write.version is not None:
                    self.seen = write.version
                    self.candidacy.wrote(write.version, began=write.began, now=mine)
                else:
                    self.candidacy.failed(mine)
            elif mine >= write.began + TERMS.attempt:
                self.waiting = False
                self.candidacy.failed(mine)
        connected = now >= self.cut_until
        if connected and not self.waiting and chance.random() < 0.7:
            self.seen = server.shown
            self.candidacy.saw(server.holder, self.seen, mine)
        if self.candidacy.decide(mine).do is LeaseWrite.NOTHING or self.waiting:
            return
        arrives = connected or chance.random() < 0.1
        took = chance.uniform(0, self.slowest)
        sent = Write(mine, self.seen, now + chance.uniform(0, took) if arrives else math.inf, now + took)
        if chance.random() < self.loses:
            sent.answered = math.inf
        self.writes.append(sent)
        self.waiting = True
        self.arrive(now, server)


@pytest.mark.parametrize("slowest", [0.1, 2, 8])
@pytest.mark.parametrize("seed", range(15))
def test_never_two_at_a_time_and_always_one_where_all_is_well(seed: int, slowest: float) -> None:
    chance = random.Random(seed)
    server = Server()
    processes = [Process(name, chance.uniform(-1e4, 1e4), slowest) for name in ("a", "b", "c")]
    for tick in range(3000):
        now = tick / 10
        for process in processes:
            if now >= 250:
                process.slowest, process.loses = 0.1, 0.0
            if now < 250 and chance.random() < 0.004:
                process.frozen_until = now + chance.uniform(0, 25)
            if now < 250 and chance.random() < 0.004:
                process.cut_until = now + chance.uniform(0, 25)
            process.arrive(now, server)
            process.live(now, server, chance)
            assert sum(p.acts(now) for p in processes) <= 1
    assert sum(process.acts(300) for process in processes) == 1
    assert sum(process.candidacy.decide(300 + process.offset).term for process in processes) > 1


@pytest.mark.parametrize("lasts", [15, 60])
def test_an_api_server_that_takes_a_third_of_the_lease_for_a_write_has_a_leader_that_goes_on(lasts: float) -> None:
    terms = Terms.of(lasts)
    candidacy, now, version = Candidacy("me", terms), 0.0, 0
    candidacy.saw(None, None, now)
    for _ in range(50):
        step = candidacy.decide(now)
        if step.do is LeaseWrite.NOTHING:
            now += step.wait
            continue
        assert lasts / 3 <= terms.attempt
        began, now, version = now, now + lasts / 3, version + 1
        assert candidacy.decide(now).role is (Role.LEADING if version > 1 else Role.STANDBY)
        candidacy.wrote(str(version), began=began, now=now)
        step = candidacy.decide(now)
        assert (step.role, step.term) == (Role.LEADING, 1)


def test_somebody_leads_who_has_renewed_the_lease_not_long_ago() -> None:
    one = Candidacy("a", Terms())
    assert not one.is_led(0.0)
    one.saw("b", "1", 10.0)
    assert one.is_led(13.9)
    assert not one.is_led(14.1)
    one.saw("b", "2", 14.2)
    assert one.is_led(18.1)
    one.saw("", "3", 15.0)
    assert not one.is_led(15.1)
    one.wrote("4", began=16.0, now=16.1)
    assert one.is_led(16.2)
