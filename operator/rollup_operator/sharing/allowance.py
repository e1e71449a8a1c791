"""How much each of many may have in a time: so much at once, and so much more each second."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

_ROUNDING = 1e-3


class Allowance:
    """How much each of many may have: an amount at once, and some more each second."""

    def __init__(self, at_once: int, a_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once, self._a_second, self._clock = at_once, a_second, clock
        self._full: OrderedDict[Hashable, float] = OrderedDict()
        """When each has the whole amount again, ordered by who took last."""

    def take(self, who: Hashable) -> bool:
        """Take one. False: none is left now."""
        now = self._clock()
        while self._full and (first := next(iter(self._full.items())))[1] <= now:
            del self._full[first[0]]
        full = max(now, self._full.get(who, now))
        if (full - now) * self._a_second > self._at_once - 1 + _ROUNDING:
            return False
        self._full[who] = full + 1 / self._a_second
        self._full.move_to_end(who)
        return True

    def give_back(self, who: Hashable) -> None:
        """Give one back."""
        if who in self._full:
            self._full[who] -= 1 / self._a_second

    def take_ahead(self, who: Hashable) -> float:
        """Take one even if none is left, and return the seconds until it is available."""
        if self.take(who):
            return 0.0
        self._full[who] += 1 / self._a_second
        self._full.move_to_end(who)
        return self._full[who] - self._clock() - self._at_once / self._a_second
