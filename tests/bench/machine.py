"""Whose CPU time it was: the operators', the control plane's, the bench's own, and that of strangers.

A figure taken while strangers use the machine says little, so every block of work is measured with this, and waits
for a calm moment before it begins.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

NOISY = 0.2
"""Cores used by strangers from which on a block is called noisy."""

_STEP = 0.5
_CALM_STEPS = 2


@dataclass
class Usage:
    """CPU seconds within one block."""

    seconds: float = 0.0
    by_name: dict[str, float] = field(default_factory=dict)
    strangers: float = 0.0

    @property
    def noise(self) -> float:
        """Cores used by strangers, on average."""
        return self.strangers / self.seconds if self.seconds else 0.0

    def add(self, other: "Usage") -> None:
        """Add another block's."""
        self.seconds += other.seconds
        self.strangers += other.strangers
        for name, used in other.by_name.items():
            self.by_name[name] = self.by_name.get(name, 0.0) + used

    def as_json(self) -> dict[str, object]:
        """Return rounded figures."""
        return {
            "seconds": round(self.seconds, 2),
            "cpu_seconds": {name: round(used, 2) for name, used in self.by_name.items()},
            "strangers_cpu_seconds": round(self.strangers, 2),
            "noise_cores": round(self.noise, 2),
        }


class Machine:
    """Keeps account of the processes that it is told of. `patience` is how long to wait for calm in all, in seconds."""

    def __init__(self, patience: float, say: Callable[[str], None]) -> None:
        self._patience = patience
        self._say = say
        self._known: dict[str, psutil.Process] = {"bench": psutil.Process()}

    def know(self, name: str, pid: int) -> None:
        """Count this process under that name from now on."""
        self._known[name] = psutil.Process(pid)

    @contextmanager
    def measured(self) -> Iterator[Usage]:
        """Fill in what the block used, when it ends. No known process may be replaced within it."""
        usage = Usage()
        began, before, busy = time.perf_counter(), self._cpu(), _busy()
        try:
            yield usage
        finally:
            after = self._cpu()
            usage.seconds = time.perf_counter() - began
            usage.by_name = {name: after[name] - before[name] for name in before}
            usage.strangers = max(0.0, _busy() - busy - sum(usage.by_name.values()))

    async def calm(self) -> None:
        """Return once strangers leave the machine alone for a second, or the patience is used up."""
        if self._patience <= 0:
            return
        calm, warned = 0, False
        while calm < _CALM_STEPS and self._patience > 0:
            with self.measured() as usage:
                await asyncio.sleep(_STEP)
            calm = calm + 1 if usage.noise < NOISY else 0
            if not calm:
                self._patience -= _STEP
                if not warned:
                    warned = True
                    self._say(f"others use {usage.noise:.1f} of {os.cpu_count()} cores: waiting for a calm moment")
        if calm < _CALM_STEPS:
            self._say("the machine does not get calm: going on without waiting for it again")

    def _cpu(self) -> dict[str, float]:
        used = {}
        for name, process in self._known.items():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used[name] = times.user + times.system
        return used


def _busy() -> float:
    # Stolen time counts as busy: another guest of the same host is a stranger, too.
    times = psutil.cpu_times()
    guests: float = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # also counted as user and nice
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - guests)


def memory(pid: int) -> dict[str, float]:
    """Return a process's resident memory in MiB, and its peak where the system tells (Linux)."""
    figures = {"rss_mib": round(psutil.Process(pid).memory_info().rss / 2**20, 1)}
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        figures["peak_mib"] = round(int(fields["VmHWM"].split()[0]) / 1024, 1)
    except (OSError, KeyError):
        pass
    return figures


def forget_peak(pid: int) -> None:
    """Let `memory` tell the peak from now on (Linux)."""
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")
