"""Python's collector of cyclic garbage, tuned so that it never holds the event loop for long.

A full collection walks every object that it knows, and ten thousand jobs are over a million. Two things keep it short:

- Objects that live for long are frozen: moved to where the collector does not look. The first list of jobs is, and so
  is everything that is alive when a full collection took longer than it should, so the next one has little to walk.
- Nothing is frozen by the clock. What is frozen and becomes part of a cycle later is garbage that stays; so the fewer
  objects are frozen while they are only passing through, the better. Once the frozen objects have doubled, a whole
  collection thaws and walks them all, as rarely as their number doubles.
"""

import asyncio
import gc
import time
from typing import Any

import structlog

log = structlog.get_logger(__name__)

STARTING = 20_000, 20, 1_000
"""When each generation is collected before the first list is frozen: the last one never, in effect."""

RUNNING = 20_000, 5, 10
"""The same from then on. The young generations are small enough for a few milliseconds, and large enough that ten
thousand requests that come at once are not walked again and again."""

LONG = 0.02
"""Seconds. A full collection that took longer has too much to walk."""

LEAST_FROZEN = 200_000
"""Objects. As long as no more are frozen, how many there are does not matter."""

CHECK_EVERY = 1.0
"""Seconds between two checks whether the last full collection was too long."""

COLLECT_EVERY = 30.0
"""Seconds between two full collections at most. Each connection that has closed leaves a cycle of asyncio's own, and
ten thousand of them keep their memory until then."""


class Collector:
    """The collector of this process. Life: `begin`, `keep_short`, `end`."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._is_long = False
        self._frozen = 0

    def begin(self) -> None:
        """Collect no old objects until the first list is there: it brings many, and hardly any garbage."""
        gc.set_threshold(*STARTING)

    async def keep_short(self) -> None:
        """Freeze what is alive now, and again whenever full collections get long. For as long as the process runs."""
        gc.freeze()
        self._frozen = gc.get_freeze_count()
        gc.set_threshold(*RUNNING)
        gc.callbacks.append(self._note)
        while True:
            await asyncio.sleep(CHECK_EVERY)
            if time.perf_counter() - self._began > COLLECT_EVERY:
                gc.collect()
            if self._is_long:
                self._is_long = False
                gc.freeze()
                if gc.get_freeze_count() > 2 * max(self._frozen, LEAST_FROZEN):
                    self.settle()

    def settle(self) -> None:
        """Collect all garbage, the frozen too, and freeze what is left."""
        began = time.perf_counter()
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._is_long, self._frozen = False, gc.get_freeze_count()
        log.debug("garbage collected", frozen=self._frozen, seconds=round(time.perf_counter() - began, 3))

    def end(self) -> None:
        """Leave the collector as a library expects it that is torn down."""
        if self._note in gc.callbacks:
            gc.callbacks.remove(self._note)
        gc.unfreeze()  # what stays frozen is not torn down, and DuckDB's bindings complain of it on stderr

    def _note(self, phase: str, info: dict[str, Any]) -> None:
        # Called in whichever thread needed memory: it only sets what the event loop reads.
        if info["generation"] == 2:
            if phase == "start":
                self._began = time.perf_counter()
            elif time.perf_counter() - self._began > LONG:
                self._is_long = True
