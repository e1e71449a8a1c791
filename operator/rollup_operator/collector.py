"""Python's collector of cyclic garbage, tuned so that it never holds the event loop for long.

A full collection walks every object that it knows, and ten thousand jobs are over a million. Two things keep it short:

- What is alive after a full collection that took longer than it should is frozen: moved to where the collector does not
  look. It is frozen at the end of that collection, when there is no garbage: kopf and asyncio leave cycles with every
  event and connection, and what of them is frozen stays.
- What is in use at that moment becomes garbage later, and stays too. So the frozen objects are thawed and walked once
  they have grown by some share, in the calm after work that froze some or after which many went at once, and where the
  process has nothing to do also once many of them have come or gone. That takes a hundred milliseconds for a thousand
  jobs.

In a calm, what the C library keeps of freed memory goes back to the system after each full collection, and so does
DuckDB's code: ten thousand calls that have come and gone leave memory whether or not anything of them was frozen.
"""

import asyncio
import gc
import time
from typing import Any

import structlog

from rollup_operator.freed_memory import give_back, unmap_code

log = structlog.get_logger(__name__)

STARTING = 20_000, 20, 1_000
"""When each generation is collected before the first list is frozen: the last one practically never."""

RUNNING = 2_000, 19, 30
"""The same from then on. The youngest generation is small enough that it is walked in a millisecond, since a stop may
wait for that; the second in some twenty where all of it lives. The old one is seldom walked, so that ten thousand
requests that come at once are not walked again and again."""

LONG = 0.02
"""Seconds. A full collection that took longer has too much to walk."""

MOST_GROWN = 0.5, 50_000
"""By how much the frozen objects may grow while there is work: a share of those that were last walked, and objects."""

IDLE_CHANGED = 0.05, 10_000
"""By how much they may have grown or shrunk where there has been nothing to do for some seconds."""

MUCH_GONE = 5_000
"""How many frozen objects that go amid much work leave garbage: those of some hundred calls."""

FEW_COLLECTIONS = 7
"""How many collections of young objects stops one after the other cause from one check to the next, at most."""

CALM_CHECKS = 10
"""The process is calm once as many checks in a row have seen few collections of young objects. Stops one after the
other are a calm, too. It has nothing to do once as many have also seen little processor time."""

IDLE_SECONDS = 0.05
"""That time, from one check to the next: of five stops, or of ten thousand jobs that idle."""

MUCH_WORK = 0.5
"""Processor time from one check to the next, in seconds, in which many frozen objects may have gone at once: of more
stops than come one after the other."""

CHECK_EVERY = 1.0
"""Seconds between two checks of how much there is to do."""

COUNT_EVERY = 30.0
"""Seconds between two counts of the frozen objects, unless something says that many have come or gone. To count them
is to walk over all: 13 milliseconds for a thousand jobs, and no stop goes on meanwhile."""

COLLECT_EVERY = 30.0
"""Seconds between two full collections at most. Each connection that has closed leaves a cycle of asyncio's own, and
ten thousand of them keep their memory until then."""


class Collector:
    """The collector of this process. Life: `begin`, `keep_short`, `end`."""

    def __init__(self) -> None:
        self._began = self._counted = time.perf_counter()
        self._walked = self._frozen = 0
        self._calm_checks = self._idle_checks = 0
        self._may_hold_garbage = self._has_frozen = self._lasts = False

    def begin(self) -> None:
        """Collect no old objects until the first list is there: it brings many, and hardly any garbage."""
        gc.set_threshold(*STARTING)

    async def keep_short(self) -> None:
        """Freeze what is alive now, and again whenever full collections get long. For as long as the process runs."""
        gc.freeze()
        self._count()
        self._walked = self._frozen
        gc.set_threshold(*RUNNING)
        gc.callbacks.append(self._note)
        young, used = _young_collections(), time.process_time()
        while True:
            await asyncio.sleep(CHECK_EVERY)
            young_before, young = young, _young_collections()
            used_before, used = used, time.process_time()
            self._calm_checks = self._calm_checks + 1 if young - young_before <= FEW_COLLECTIONS else 0
            self._idle_checks = self._idle_checks + 1 if used - used_before <= IDLE_SECONDS else 0
            calm = self._calm_checks >= CALM_CHECKS
            idle = calm and self._idle_checks >= CALM_CHECKS
            if used - used_before > MUCH_WORK:
                # A wait is a calm, too. What was frozen in it goes at once, unlike the views that stops replace one by
                # one.
                self._may_hold_garbage = self._count() < -MUCH_GONE or self._may_hold_garbage
            elif self._has_frozen or self._idle_checks == CALM_CHECKS or self._is_count_due():
                self._count()
            changed = self._frozen - self._walked
            share, objects = IDLE_CHANGED if idle else MOST_GROWN
            too_many = (abs(changed) if idle else changed) > share * self._walked + objects
            # Of ten thousand calls, most goes by itself, and what is left of them is garbage.
            if too_many or (calm and self._may_hold_garbage):
                self.settle()
            elif time.perf_counter() - self._began > COLLECT_EVERY:
                gc.collect()
            else:
                continue
            if calm:
                give_back()
                unmap_code()

    def settle(self) -> None:
        """Collect all garbage, the frozen too, and freeze what is left."""
        began = time.perf_counter()
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._count()
        self._walked = self._frozen
        self._may_hold_garbage = False
        log.debug("garbage collected", frozen=self._walked, seconds=round(time.perf_counter() - began, 3))

    def end(self) -> None:
        """Restore the collector as libraries expect it at their end."""
        if self._note in gc.callbacks:
            gc.callbacks.remove(self._note)
        gc.unfreeze()  # frozen objects are not torn down, and DuckDB's bindings complain about that on stderr

    def _is_count_due(self) -> bool:
        return time.perf_counter() - self._counted > COUNT_EVERY

    def _count(self) -> int:
        """Count the frozen objects, and return by how many they are more than at the last count."""
        before, self._frozen = self._frozen, gc.get_freeze_count()
        more = self._frozen - before
        if self._lasts:
            self._walked += max(0, more)
        self._has_frozen = self._lasts = False
        self._counted = time.perf_counter()
        return more

    def _note(self, phase: str, info: dict[str, Any]) -> None:
        # Called in whichever thread needed memory, at the beginning and at the end of a collection.
        if info["generation"] == 2:
            if phase == "start":
                self._began = time.perf_counter()
            elif time.perf_counter() - self._began > LONG:
                gc.freeze()
                self._has_frozen = True
                if self._calm_checks >= CALM_CHECKS:
                    # Where nothing is at work, what is alive lasts: to walk it again would find no garbage.
                    self._lasts = True
                else:
                    self._may_hold_garbage = True


def _young_collections() -> int:
    return int(gc.get_stats()[0]["collections"])
