"""Memory and disk budget of all open databases of this process, and the share of each.

    |-- 32 MiB for each place --|---------------- the rest, divided ----------------|
    | a/1 | a/2 | b/1 |  free   |---- a/1 ----|---- a/2 ----|------ b/1 ------| free |

Each open database has a place, and LEAST_MEMORY with it. The namespaces share the rest in equal parts, and the
databases of a namespace share its part. A database that is open although nobody uses it has its place alone, while
others are used. But DuckDB gives back nothing that a statement uses. So no namespace has more than `_GENEROSITY` times
what is still free, and a namespace that holds more than its share is asked for the excess again and again. Whoever
opens or closes a database does not wait until others keep to their new shares.
"""

import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from rollup_operator.sharing.shares import Shares
from rollup_operator.stores.duckdb.database.inspection import Inspections
from rollup_operator.stores.duckdb.database.work_turns import WorkTurns

LEAST_MEMORY = 32 << 20
"""Bytes with which a database works, slowly."""

LEAST_HEADS = 128 << 20
"""Bytes for what files say of their columns, with whatever memory there is."""
HEADS_S = 10.0
"""How long these are waited for."""
_HEADS_AGAIN_S = 0.05

_AGAIN_S = 0.1
_GENEROSITY = 3


@dataclass(frozen=True, slots=True)
class Share:
    """What one database may take: bytes of memory, threads, bytes on disk."""

    memory: int
    threads: int
    spill: int

    def settings(self) -> dict[str, str]:
        """Return it as settings of DuckDB, the one first that it may refuse."""
        return {
            "memory_limit": f"{self.memory >> 10}KiB",
            "max_temp_directory_size": f"{self.spill >> 10}KiB",
            "threads": str(self.threads),
        }


class Sharer(Protocol):
    """A database, as the budget sees it."""

    def keep_to(self, share: Share) -> bool:
        """Keep to a share. False: it cannot yet, and keeps its old share. May wait for what it does."""
        ...

    def later(self, work: Callable[[], None]) -> None:
        """Do some work in a thread that may wait."""
        ...


@dataclass(eq=False)
class _Open:
    """An open database."""

    sharer: Sharer
    namespace: str
    volume: int
    share: Share
    """To which it keeps."""
    wanted: Share
    """To which it keeps soon."""
    asked: Share
    """To which it may keep already: what it is asked to keep to now, or else its share."""
    rests: bool = False
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held while it is asked to keep to another share."""

    @property
    def memory(self) -> int:
        """The most that it may take now."""
        return max(self.share.memory, self.wanted.memory, self.asked.memory)


class Heads:
    """What one lane holds of the memory for what files say of their columns."""

    def __init__(self, budget: "Budget", namespace: str) -> None:
        self._budget, self._namespace = budget, namespace
        self._held = 0

    @property
    def most(self) -> int:
        """Bytes that all lanes of the process may hold."""
        return self._budget.most_heads

    def hold(self, amount: int, go_on: Callable[[], None], *, beside: bool = False) -> bool:
        """Hold as many until `end`, and wait for them for a while, in the worker. False: others have them.

        What the lane holds already counts, unless one statement reads the files `beside` the earlier ones. `go_on` is
        called meanwhile, and raises to end the wait.
        """
        if (more := amount if beside else amount - self._held) <= 0:
            return True
        begun = time.monotonic()
        while not self._budget.take_heads(self._namespace, more):
            if time.monotonic() >= begun + HEADS_S:
                return False
            go_on()
            time.sleep(_HEADS_AGAIN_S)
        self._held += more
        return True

    def end(self) -> None:
        """Give them back."""
        self._budget.give_heads(self._namespace, self._held)
        self._held = 0


class Budget:
    """The shared budget. Methods may be called from any thread; `places`, `spare`, `turns` belong to the event loop."""

    def __init__(self, memory: int, threads: int = 0, spill: int = 0) -> None:
        """In bytes. No `threads`: one for each processor. No `spill`: a quarter of the volume of the data root."""
        self.memory, self.threads, self.spill = memory, threads or _processors(), spill
        places = max(2, memory // (2 * LEAST_MEMORY))
        self.places = Shares(places)
        """Places for open databases."""
        self.spare = Shares(max(2, places // 2))
        """For more of them, each open for a moment: settling a job waits for no run."""
        self.namespaces = 0
        """Of how many the databases are in use."""
        self.turns = WorkTurns(self.threads, lambda: self.namespaces)
        """At the processors."""
        self._beyond = max(0, memory - places * LEAST_MEMORY)
        self.inspections = Inspections()
        """Of files that users made: what they take is beside the budget, and one file is opened at a time."""
        self.most_heads = max(LEAST_HEADS, memory)
        """Bytes for what files say of their columns, which DuckDB's own limit leaves out."""
        self._heads = Shares(self.most_heads, generosity=_GENEROSITY)
        self._files = Shares(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)
        self._open: dict[Sharer, _Open] = {}
        self._lock = threading.Lock()
        self._again: threading.Timer | None = None

    def enter(self, database: Sharer, namespace: str, volume: int) -> Share:
        """Count a database that is about to be opened, on a volume of that many bytes, and return its share.

        It is asked to keep to each other that follows, and is told so again by `opened`.
        """
        with self._lock:
            least = Share(LEAST_MEMORY, 1, 0)
            new = self._open[database] = _Open(database, namespace, volume, least, least, least)
            new.share = new.wanted = new.asked = share = self._grown(new, self._fair(new, self._used()), self._taken())
        self._divide()
        return share

    def opened(self, database: Sharer) -> None:
        """Have it keep to its share, which may be another one than that with which it was opened."""
        this = self._open[database]
        with this.turn:
            database.keep_to(this.share)
        self._keep(this)

    def rest(self, database: Sharer) -> None:
        """Take in that nobody uses it now, although it stays open. Does not wait."""
        self._open[database].rests = True
        self._divide()

    def wake(self, database: Sharer) -> None:
        """Count it as used again, and have it keep to its share."""
        this = self._open[database]
        with self._lock:
            this.rests = False
            this.wanted = self._grown(this, self._fair(this, self._used()), self._taken())
        self._keep(this)

    def leave(self, database: Sharer) -> None:
        """Stop counting the database, which then keeps to whatever share it has."""
        with self._lock:
            this = self._open.pop(database)
        with this.turn:  # it is asked nothing any more
            pass
        self._divide()

    def take_file(self, namespace: str) -> bool:
        """Count a file that is about to stay open. False: too many of the namespace are."""
        with self._lock:
            return self._files.take_now(namespace) is not None

    def give_files(self, namespace: str, number: int) -> None:
        """Stop counting that many."""
        with self._lock:
            self._files.add(namespace, -number)

    def take_heads(self, namespace: str, amount: int) -> bool:
        """Count bytes for what files say of their columns. False: others have them, or the namespace has too many."""
        with self._lock:
            return self._heads.take_now(namespace, amount) is not None

    def give_heads(self, namespace: str, amount: int) -> None:
        """Stop counting them."""
        with self._lock:
            self._heads.add(namespace, -amount)

    def _fair(self, this: _Open, used: Counter[str]) -> tuple[int, int]:
        """Return a database's share of memory and threads, if so many databases of each namespace are in use."""
        if this.rests:  # and keeps what nobody else could use
            return (LEAST_MEMORY, 1) if used else (this.wanted.memory, this.wanted.threads)
        part = len(used) * used[this.namespace]
        return LEAST_MEMORY + self._beyond // part, max(1, self.threads // part)

    def _used(self) -> Counter[str]:
        return Counter(each.namespace for each in self._open.values() if not each.rests)

    def _taken(self) -> Counter[str]:
        """Return what each namespace may take now beyond the memory of its places."""
        taken: Counter[str] = Counter()
        for each in self._open.values():
            taken[each.namespace] += each.memory - LEAST_MEMORY
        return taken

    def _grown(self, this: _Open, fair: tuple[int, int], taken: Counter[str]) -> Share:
        more = (_GENEROSITY * (self._beyond - taken.total()) - taken[this.namespace]) // (_GENEROSITY + 1)
        return self._with(this, min(fair[0], this.memory + max(0, more)), fair[1])

    def _with(self, this: _Open, memory: int, threads: int) -> Share:
        return Share(memory, threads, (self.spill or this.volume // 4) * memory // max(memory, self.memory))

    def _divide(self) -> None:
        """Take from databases that have more than their share, and give to the others. Waits for none of them."""
        asked = []
        with self._lock:
            used, taken = self._used(), self._taken()
            self.namespaces = len(used)
            for more in False, True:
                for this in self._open.values():
                    fair = self._fair(this, used)
                    if (this.wanted.memory <= fair[0]) is not more:
                        continue
                    share = self._grown(this, fair, taken) if more else self._with(this, *fair)
                    if share != this.wanted:
                        taken[this.namespace] -= this.memory
                        this.wanted = share
                        taken[this.namespace] += this.memory
                        asked.append(this)
        for this in asked:
            this.sharer.later(partial(self._keep, this))

    def _keep(self, this: _Open) -> None:
        """Have a database keep to the share that it is to. May wait for what it does."""
        with this.turn:
            while (share := self._next(this)) is not None:
                kept = this.sharer.keep_to(share)
                with self._lock:
                    this.share = this.asked = share if kept else this.share
                    if kept:
                        continue
                    this.wanted = this.share
                    if self._again is None:
                        self._again = threading.Timer(_AGAIN_S, self._divide_again)
                        self._again.daemon = True
                        self._again.start()
                    return
        self._divide()

    def _next(self, this: _Open) -> Share | None:
        """Return what a database is to be asked to keep to, which counts as its own from now on; None: nothing."""
        with self._lock:
            if this.wanted == this.share or self._open.get(this.sharer) is not this:
                return None
            this.asked = this.wanted
            return this.asked

    def _divide_again(self) -> None:
        with self._lock:
            self._again = None
        self._divide()


def _processors(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many processors this process may use: those it may run on, or fewer by the quota of its cgroup."""
    here = len(os.sched_getaffinity(0))
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return max(1, min(here, -(-int(quota) // int(period))))
    except (OSError, ValueError):  # there is none, or it says "max"
        return here
