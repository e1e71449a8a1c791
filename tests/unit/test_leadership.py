"""Who leads, as far as a process can conclude it: by clocks of the tests' own."""

import math
import random
from dataclasses import dataclass, field

import pytest

from rollup_operator.lifecycle.leadership import Candidacy, Do, Gate, Role, Step, Terms

TERMS = Terms()


def leading(now: float = 100.0, *, renewed: float = 100.0) -> Candidacy:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw(None, None, renewed)
    candidacy.wrote("1", began=renewed, now=renewed)
    assert candidacy.decide(now).term == 1
    return candidacy


def standing(step: Step) -> tuple[Role, Do]:
    return step.role, step.do


def test_nothing_is_written_before_the_record_was_seen() -> None:
    step = Candidacy("me", TERMS).decide(5)
    assert (standing(step), step.wait) == ((Role.STANDBY, Do.NOTHING), math.inf)


@pytest.mark.parametrize("holder", [None, "", "me"])
def test_a_lease_that_is_nobodys_or_ones_own_is_taken_at_once(holder: str | None) -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw(holder, None if holder is None else "7", 5)
    assert standing(candidacy.decide(5)) == (Role.STANDBY, Do.TAKE)


def test_a_candidate_counts_from_when_it_saw_the_record_change() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw("other", "7", 5)
    assert candidacy.decide(5).wait == 10
    candidacy.saw("other", "8", 12)
    candidacy.saw("other", "8", 20)  # seen again: no change
    assert standing(candidacy.decide(21.9)) == (Role.STANDBY, Do.NOTHING)
    assert standing(candidacy.decide(22)) == (Role.STANDBY, Do.TAKE)


def test_a_released_lease_is_taken_at_once() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw("other", "7", 5)
    candidacy.saw("", "8", 6)
    assert candidacy.decide(6).do is Do.TAKE


def test_a_lease_that_was_deleted_is_its_holders_for_as_long_as_that_may_not_know() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw("other", "7", 5)
    candidacy.saw(None, None, 6)
    candidacy.saw(None, None, 12)
    assert [candidacy.decide(now).do for now in (6, 15.9, 16)] == [Do.NOTHING, Do.NOTHING, Do.TAKE]


def test_the_holder_makes_a_lease_anew_that_was_deleted() -> None:
    candidacy = leading()
    candidacy.saw(None, None, 101)
    assert standing(candidacy.decide(101)) == (Role.STANDBY, Do.TAKE)


def test_the_holder_renews_halts_and_abandons_from_the_start_of_its_last_renewal() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw(None, None, 99)
    candidacy.wrote("1", began=100, now=101.5)
    steps = [candidacy.decide(now) for now in (101.5, 102, 104.9, 105, 107.9, 108)]
    assert [standing(step) for step in steps] == [
        (Role.LEADING, Do.NOTHING),
        (Role.LEADING, Do.RENEW),
        (Role.LEADING, Do.RENEW),
        (Role.HALTING, Do.RENEW),
        (Role.HALTING, Do.RENEW),
        (Role.STANDBY, Do.TAKE),
    ]
    assert steps[0].wait == pytest.approx(0.5)
    assert steps[1].wait == pytest.approx(3)
    assert steps[3].wait == pytest.approx(3)


def test_a_renewal_that_comes_before_the_end_makes_it_lead_again() -> None:
    candidacy = leading()
    assert candidacy.decide(106).role is Role.HALTING
    candidacy.wrote("2", began=105.5, now=106.5)
    step = candidacy.decide(106.5)
    assert (step.role, step.term) == (Role.LEADING, 1)


def test_a_renewal_that_is_answered_too_late_begins_another_term() -> None:
    candidacy = leading()
    candidacy.wrote("2", began=107.5, now=108.2)  # nobody had asked meanwhile: what was too late stays so
    step = candidacy.decide(108.2)
    assert (step.role, step.term) == (Role.LEADING, 2)


def test_a_renewal_whose_answer_slept_proves_nothing() -> None:
    candidacy = leading()
    candidacy.wrote("2", began=102, now=140)
    assert candidacy.decide(140).role is Role.STANDBY


def test_who_was_overtaken_stands_by_at_once() -> None:
    candidacy = leading()
    candidacy.saw("other", "2", 101)
    assert standing(candidacy.decide(101)) == (Role.STANDBY, Do.NOTHING)
    assert candidacy.holder == "other"


def test_a_failed_write_is_tried_again_after_a_moment() -> None:
    candidacy = leading()
    candidacy.failed(103)
    step = candidacy.decide(103)
    assert standing(step) == (Role.LEADING, Do.NOTHING)
    assert step.wait == pytest.approx(TERMS.retry)
    assert candidacy.decide(103 + TERMS.retry).do is Do.RENEW


def test_a_candidate_that_may_not_write_asks_seldom() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw(None, None, 5)
    candidacy.failed(5)
    assert candidacy.decide(6.9).do is Do.NOTHING
    assert candidacy.decide(7).do is Do.TAKE


def test_a_lease_released_after_a_failed_try_is_taken_at_once() -> None:
    candidacy = Candidacy("me", TERMS)
    candidacy.saw("other", "7", 5)
    candidacy.failed(15)
    candidacy.saw("", "8", 15.1)
    assert candidacy.decide(15.1).do is Do.TAKE


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

    def write(self, seen: str | None, holder: str) -> bool:
        if seen != (None if self.version == 0 else str(self.version)):
            return False
        self.version, self.holder = self.version + 1, holder
        return True


@dataclass
class Process:
    """One replica: its clock begins somewhere, its network is as bad as the chance says, and it may freeze."""

    name: str
    offset: float
    seen: str | None = None
    frozen_until: float = -1.0
    cut_until: float = -1.0
    answer: tuple[float, float, bool, str] | None = None  # due, began, done, version
    candidacy: Candidacy = field(init=False)

    def __post_init__(self) -> None:
        self.candidacy = Candidacy(self.name, TERMS)

    def acts(self, now: float) -> bool:
        """Whether its gate would be open, whatever it is doing."""
        return now + self.offset < self.candidacy.renewed + TERMS.abandon

    def live(self, now: float, server: Server, chance: random.Random) -> None:
        if now < self.frozen_until:
            return
        mine = now + self.offset
        if self.answer is not None and self.answer[0] <= now:
            _, began, done, version = self.answer
            self.answer = None
            if done:
                self.seen = version
                self.candidacy.wrote(version, began=began, now=mine)
            else:
                self.candidacy.failed(mine)
        connected = now >= self.cut_until
        if connected and self.answer is None and chance.random() < 0.7:
            self.seen = None if server.version == 0 else str(server.version)
            self.candidacy.saw(server.holder, self.seen, mine)
        if self.candidacy.decide(mine).do is Do.NOTHING or self.answer is not None:
            return
        arrives = connected or chance.random() < 0.1
        done = arrives and server.write(self.seen, self.name)
        heard = done and chance.random() > 0.1
        self.answer = now + chance.choice((0.0, 0.1, 1.9)), mine, heard, str(server.version)


@pytest.mark.parametrize("seed", range(40))
def test_never_two_at_a_time_and_always_one_where_all_is_well(seed: int) -> None:
    chance = random.Random(seed)
    server = Server()
    processes = [Process(name, chance.uniform(-1e4, 1e4)) for name in ("a", "b", "c")]
    for tick in range(3000):
        now = tick / 10
        for process in processes:
            if now < 250 and chance.random() < 0.004:
                process.frozen_until = now + chance.uniform(0, 25)
            if now < 250 and chance.random() < 0.004:
                process.cut_until = now + chance.uniform(0, 25)
            process.live(now, server, chance)
            assert sum(p.acts(now) for p in processes) <= 1
    assert sum(process.acts(300) for process in processes) == 1
    assert sum(process.candidacy.decide(300 + process.offset).term for process in processes) > 1
