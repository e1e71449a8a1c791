"""Lucene's regular expressions, as `include` and `exclude` of terms have them, in time linear in the text. Pure.

A pattern becomes an automaton whose states are walked all at once: nothing is tried twice, so no text is slow to read.
A large pattern still looks at all of its states for each character: texts are read in portions, up to a limit. The
operators that Lucene adds to the usual ones (`~ & @ < > # "`) are refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from rollup_operator.concurrency.portions import Work
from rollup_operator.query.errors import SearchRefused

LONGEST = 1_000
MOST_STATES = 2_000
DEEPEST = 50
MOST_LOOKED_AT = 5_000_000
"""States that are looked at for all texts of one pattern together: a few seconds."""

_AT_ONCE = 1_000
"""States that are looked at without an interruption, in well under a millisecond; a character may look at all twice."""
_MOST_REMEMBERED = 200_000
"""States and characters that lead from some to others."""

Test = Callable[[str], bool]


@dataclass(slots=True, eq=False)
class _RegexPlace:
    test: Test | None = None
    """What a character must be to go on; None: it goes on without one."""
    to: list["_RegexPlace"] = field(default_factory=list)


@dataclass(slots=True)
class _RegexpReader:
    pattern: str
    at: int = 0
    states: int = 0

    def state(self, test: Test | None = None) -> _RegexPlace:
        self.states += 1
        if self.states > MOST_STATES:
            raise self.wrong("it is too large")
        return _RegexPlace(test)

    def wrong(self, why: str) -> SearchRefused:
        return SearchRefused(f"failed to parse regexp [{self.pattern[:100]}]: {why}")

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def union(self, depth: int) -> tuple[_RegexPlace, _RegexPlace]:
        if depth > DEEPEST:
            raise self.wrong("it is too deep")
        begin, end = self.state(), self.state()
        while True:
            first, last = self.sequence(depth)
            begin.to.append(first)
            last.to.append(end)
            if self.peek() != "|":
                return begin, end
            self.at += 1

    def sequence(self, depth: int) -> tuple[_RegexPlace, _RegexPlace]:
        begin = end = self.state()
        while self.peek() not in ("", "|", ")"):
            start = self.at
            first, last = self.one(depth)
            least, most = self.times()
            if (least, most) != (1, 1):
                first, last = self.repeated(start, self.at, depth, least, most)
            end.to.append(first)
            end = last
        return begin, end

    def repeated(
        self, start: int, after: int, depth: int, least: int, most: int | None
    ) -> tuple[_RegexPlace, _RegexPlace]:
        begin = end = self.state()
        leave = self.state()
        for i in range(max(least, 1) if most is None else most):
            if i >= least:
                end.to.append(leave)
            self.at = start
            first, last = self.one(depth)
            end.to.append(first)
            end = last
        if most is None:
            loop = self.state()
            end.to.append(loop)
            self.at = start
            first, last = self.one(depth)
            loop.to.append(first)
            last.to.append(loop)
            end = loop
            if least == 0:
                begin.to.append(leave)
        end.to.append(leave)
        self.at = after
        return begin, leave

    def times(self) -> tuple[int, int | None]:
        match self.peek():
            case "*":
                self.at += 1
                return 0, None
            case "+":
                self.at += 1
                return 1, None
            case "?":
                self.at += 1
                return 0, 1
            case "{":
                end = self.pattern.find("}", self.at)
                low, comma, high = self.pattern[self.at + 1 : end].partition(",")
                if end < 0 or not _is_count(low) or not (high == "" or _is_count(high)):
                    raise self.wrong("a number of times is written as {2}, {2,} or {2,4}")
                self.at = end + 1
                least = int(low)
                most = least if not comma else None if high == "" else int(high)
                if most is not None and most < least:
                    raise self.wrong("the number of times ends before it begins")
                return least, most
        return 1, 1

    def one(self, depth: int) -> tuple[_RegexPlace, _RegexPlace]:
        c = self.peek()
        self.at += 1
        if c == "(":
            first, last = self.union(depth + 1)
            if self.peek() != ")":
                raise self.wrong("a bracket is not closed")
            self.at += 1
            return first, last
        if c in '*+?{~&@<>#"':
            raise self.wrong(f"[{c}] has nothing to repeat, or is not supported here: put a backslash before it")
        if c == ".":
            return self.step(lambda _: True)
        if c == "[":
            return self.step(self.chosen())
        if c == "\\":
            c = self.peek()
            self.at += 1
            if c == "":
                raise self.wrong("it ends with a backslash")
        return self.step(lambda x, c=c: x == c)  # type: ignore[misc]  # a default binds the character of this turn

    def step(self, test: Test) -> tuple[_RegexPlace, _RegexPlace]:
        begin, end = self.state(test), self.state()
        begin.to.append(end)
        return begin, end

    def chosen(self) -> Test:
        inverted = self.peek() == "^"
        self.at += inverted
        ranges: list[tuple[str, str]] = []
        while self.peek() != "]":
            low = self.character()
            high = low
            if self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                high = self.character()
            ranges.append((low, high))
        self.at += 1
        return lambda x: any(low <= x <= high for low, high in ranges) != inverted

    def character(self) -> str:
        c = self.peek()
        if c == "\\":
            self.at += 1
            c = self.peek()
        if c == "":
            raise self.wrong("a bracket is not closed")
        self.at += 1
        return c


class _Reached:
    """The states that are reached at once after some characters, and where each character leads from there."""

    __slots__ = ("after", "matches", "states")

    def __init__(self, states: list[_RegexPlace], end: _RegexPlace) -> None:
        self.states, self.matches = states, any(s is end for s in states)
        self.after: dict[str, _Reached] = {}


class Matcher:
    """Tells whether texts match a pattern as a whole.

    Where a character leads is remembered: of most patterns hardly anything is found out twice.
    """

    def __init__(self, pattern: str) -> None:
        """Raises SearchRefused."""
        if len(pattern) > LONGEST:
            raise SearchRefused(f"a regular expression has at most [{LONGEST}] characters")
        self._reader = _RegexpReader(pattern)
        begin, self._end = self._reader.union(0)
        if self._reader.at < len(pattern):
            raise self._reader.wrong("a bracket is closed that was not opened")
        self._first = [begin]
        self._steps = self._pause = self._looked_at = self._remembered = 0
        self._known: dict[frozenset[int], _Reached] = {}
        self._begin = self._closed(self._first)

    def matches(self, text: str) -> Work[bool]:
        """Return whether a text matches. Raises SearchRefused once the texts together took too long."""
        now = self._begin
        for c in text:
            after = now.after.get(c)
            if after is None:
                after = self._follow(now, c)
            now = after
            self._steps += 1
            if self._steps >= self._pause:
                self._pause = self._steps + _AT_ONCE
                yield
            if not now.states:
                return False
        return now.matches

    def _follow(self, now: _Reached, c: str) -> _Reached:
        if self._looked_at > MOST_LOOKED_AT:
            raise SearchRefused(
                f"the regular expression [{self._reader.pattern[:100]}] takes too long for so many values: make it "
                "simpler, or narrow the search"
            )
        found = self._closed([to for s in now.states if s.test is not None and s.test(c) for to in s.to])
        self._look_at(len(now.states))
        if self._remembered > _MOST_REMEMBERED:
            self._known.clear()
            self._remembered = 0
            self._begin = self._closed(self._first)
        self._remembered += 1
        now.after[c] = found
        return found

    def _closed(self, states: list[_RegexPlace]) -> _Reached:
        """Return the states that are reached without a character more."""
        found: dict[int, _RegexPlace] = {}
        rest = list(states)
        while rest:
            state = rest.pop()
            if id(state) not in found:
                found[id(state)] = state
                if state.test is None:
                    rest.extend(state.to)
        self._look_at(len(found))
        key = frozenset(found)
        if (known := self._known.get(key)) is None:
            known = self._known[key] = _Reached(list(found.values()), self._end)
            self._remembered += len(found)
        return known

    def _look_at(self, states: int) -> None:
        self._looked_at += states
        self._steps += states


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4
