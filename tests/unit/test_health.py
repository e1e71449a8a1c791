"""What the probes go by: the watches' signs of life, and the event loop's."""

import asyncio
import time

import pytest

from rollup_operator.http.listener import probes
from rollup_operator.http.listener.probes import Pulse, liveness
from rollup_operator.kube.watch_liveness import AWAY, SILENCE, Watches

JOBS = "/apis/rollup-operator.dev/v1alpha1/rollupjobs"
STORES = "/apis/rollup-operator.dev/v1alpha1/rollupstores"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watches(clock: Clock) -> Watches:
    """Both watches, which have just begun."""
    made = Watches(clock=clock)
    for path in (JOBS, "/through/a/proxy" + STORES):
        assert "has not begun" in (made.problem() or "")
        made.answered(path, well=True)
    assert made.problem() is None
    return made


def test_a_watch_that_is_silent_is_dead_until_it_brings_something(watches: Watches, clock: Clock) -> None:
    clock.now = SILENCE
    watches.brought("rollupjobs", "team")
    clock.now += 1
    assert watches.problem() == "the watch of rollupstores is silent for 76 s"
    watches.brought("rollupstores", "team")
    assert watches.problem() is None


def test_a_watch_that_cannot_begin_anew_is_dead_after_a_while(watches: Watches, clock: Clock) -> None:
    watches.answered(JOBS, well=False)
    clock.now = AWAY
    watches.answered(JOBS, well=False)
    assert watches.problem() is None
    clock.now += 1
    assert watches.problem() == "the watch of rollupjobs has been down for 11 s"
    watches.answered(JOBS, well=True)
    assert watches.problem() is None


def test_each_namespace_has_watches_of_its_own(clock: Clock) -> None:
    watches = Watches(["one", "two"], clock)
    for namespace in ("one", "two", "other"):
        watches.brought("rollupjobs", namespace)
    watches.answered("/apis/rollup-operator.dev/v1alpha1/namespaces/one/rollupstores", well=True)
    assert watches.problem() == "the watch of rollupstores in two has not begun"
    watches.brought("rollupstores", "two")
    assert watches.problem() is None


async def test_a_loop_that_was_blocked_shows_by_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "BEAT", 0.01)
    late: asyncio.Queue[float] = asyncio.Queue()
    pulse = Pulse(late.put_nowait)
    pulse.start()
    await late.get()
    time.sleep(0.4)  # noqa: ASYNC251  # what is to be measured
    assert await late.get() > 0.3
    pulse.stop()


def test_a_part_that_has_failed_is_reported() -> None:
    good, document = liveness("leader election: KeyError: 'x'")
    assert (good, document["status"]) == (False, "failed")
    assert "leader election" in document["checks"]["parts"]
