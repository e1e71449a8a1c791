"""Quartz cron expressions, as Elasticsearch's rollup jobs use them: seconds first, six or seven fields, UTC.

The fields are read here, since Quartz counts and wraps differently from cron; croniter does the searching. A form
that croniter lacks (`LW`, `L-3`, `15W`) gives it every day that could be meant, and each find is checked.
"""

import re
from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from croniter import CroniterBadDateError, croniter

from rollup_operator.model.base import LONGEST_CRON

LAST_YEAR = 2099


class ScheduleError(ValueError):
    """An expression that cannot be used. `field` is the cron field, or `expression`; `part` is what is wrong in it."""

    def __init__(self, field: str, part: str, message: str) -> None:
        super().__init__(f"{field}: '{part}' {message}")
        self.field = field
        self.part = part


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job runs. Equal expressions share one small object. For use from one thread at a time."""

    text: str
    """The expression as written."""
    _cron: str | None = field(repr=False, compare=False)
    """The expression for croniter; None: no date matches."""
    _picked: "_PickedDay | None" = field(repr=False, compare=False)
    """Which of the days that croniter finds in a month is meant; None: all of them."""

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Read an expression. Raises ScheduleError, which names the field, the part and the fix."""
        if len(text) > LONGEST_CRON:  # what can be read is kept, and anybody may send one
            raise ScheduleError(
                "expression", f"{text[:40]}...", f"is longer than {LONGEST_CRON} characters: shorten it"
            )
        return _parse(text)

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first tick after `moment` (aware), in UTC; None: there is none up to the year 2099."""
        if self._cron is None:
            return None
        # croniter searches for changes of the clock if a zone is given; UTC has none.
        start = moment.astimezone(UTC).replace(tzinfo=None, microsecond=0)
        while True:
            try:
                found = _search(self._cron).get_next(datetime, start_time=start, update_current=False)
            except CroniterBadDateError:
                return None
            if found.year > LAST_YEAR:
                return None
            if self._picked is None or found.day == self._picked.day(found.year, found.month):
                return found.replace(tzinfo=UTC)
            start = found.replace(hour=23, minute=59, second=59)


@dataclass(frozen=True, slots=True)
class _PickedDay:
    """One day of each month: the `number`-th, or that many before the last; if requested, the nearest weekday to it."""

    number: int
    from_end: bool
    weekday: bool

    def day(self, year: int, month: int) -> int | None:
        """Return the day of that month; None: the month is too short to have it."""
        return self.among(_length(year, month), datetime(year, month, 1).weekday())

    def among(self, length: int, first: int) -> int | None:
        """Return the day of a month of `length` days that begins on weekday `first`, Monday being 0."""
        day = length - self.number if self.from_end else self.number
        if not 1 <= day <= length:
            return None
        of_week = (first + day - 1) % 7
        if not self.weekday or of_week < 5:
            return day
        if of_week == 5:
            return day - 1 if day > 1 else 3
        return day + 1 if day < length else day - 2

    def candidates(self, months: Iterable[int]) -> set[int]:
        """Return every day that can be meant in one of these months."""
        lengths = {length for month in months for length in ((28, 29) if month == 2 else (_length(2001, month),))}
        days = {self.among(length, first) for length in lengths for first in range(7)}
        return {day for day in days if day is not None}


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of the expression: its name, its values, and how its values may be spelled."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    wraps: bool = True

    @property
    def takes(self) -> str:
        """What to say to somebody who wrote something else."""
        if self.names:
            return f"{self.low} to {self.high} or {self.names[0]} to {self.names[-1]}"
        return f"{self.low} to {self.high}"

    def values(self, text: str) -> set[int]:
        """Return the values that a list of `*`, `5`, `5-10`, `*/5`, `5/10` and `5-10/2` means."""
        return {value for part in text.split(",") for value in self._part(part, text)}

    def value(self, word: str, part: str) -> int:
        """Return one value, given as a number or a name."""
        if word in self.names:
            return self.low + self.names.index(word)
        if not word.isdecimal() or not self.low <= int(word) <= self.high:
            raise ScheduleError(self.name, part, f"is not a value of this field: use {self.takes}")
        return int(word)

    def _part(self, part: str, text: str) -> Iterable[int]:
        match = _PART.fullmatch(part)
        if match is None:
            if _SPECIAL.search(part):
                raise ScheduleError(self.name, text, _special_cure(self, part))
            raise ScheduleError(
                self.name, part or text, f"cannot be read: use *, a value ({self.takes}), a range or a step, as in */5"
            )
        first, last, step = match["first"] or "*", match["last"], match["step"]
        size = self.high - self.low + 1
        by = int(step or 1)
        if not 1 <= by <= size:
            raise ScheduleError(self.name, part, f"has a step that does not fit: use 1 to {size}")
        if first == "*":
            return range(self.low, self.high + 1, by)
        start = self.value(first, part)
        if last is None:
            return range(start, self.high + 1, by) if step else (start,)
        stop = self.value(last, part)
        if stop >= start:
            return range(start, stop + 1, by)
        if not self.wraps:
            raise ScheduleError(self.name, part, "is a range that ends before it begins: swap its ends")
        return [self.low + (value - self.low) % size for value in range(start, stop + size + 1, by)]

    def write(self, values: Iterable[int], base: int = 0) -> str:
        """Return values as croniter reads them, counted down by `base`."""
        kept = sorted(value - base for value in set(values))
        if len(kept) == self.high - self.low + 1:
            return "*"
        if len(kept) > 2 and kept == list(range(kept[0], kept[-1] + 1, step := kept[1] - kept[0])):
            return f"{kept[0]}-{kept[-1]}/{step}"  # croniter reads one range much faster than a list
        return ",".join(map(str, kept))


_SECONDS = _Field("seconds", 0, 59)
_MINUTES = _Field("minutes", 0, 59)
_HOURS = _Field("hours", 0, 23)
_DAY_OF_MONTH = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"))
_DAY_OF_WEEK = _Field("day of week", 1, 7, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))
_YEAR = _Field("year", 1970, LAST_YEAR, wraps=False)

_WORD = r"[A-Z]{3}|[0-9]{1,4}"
_PART = re.compile(rf"(?:(?P<first>\*|{_WORD})(?:(?<!\*)-(?P<last>{_WORD}))?|(?=/))(?:/(?P<step>[0-9]{{1,4}}))?")
_SPECIAL = re.compile(r"[?#]|(?:^|[0-9])[LW]|^[A-Z]{3}L$")
_PICKED = re.compile(r"(?:(?P<last>L(?:-(?P<before>[0-9]{1,2}))?)|(?P<day>[0-9]{1,2}))(?P<weekday>W)?")
_NTH = re.compile(r"(?P<day>[A-Z]{3}|[0-9])#(?P<nth>[0-9])")
_LAST = re.compile(r"(?P<day>[A-Z]{3}|[0-9])L")


@lru_cache(maxsize=4096)
def _parse(text: str) -> Schedule:
    words = text.upper().split()
    if len(words) not in (6, 7):
        raise ScheduleError("expression", text, _count_cure(words))
    days, of_week = words[3], words[5]
    months = _MONTH.values(words[4])
    picked: _PickedDay | None = None
    if days == of_week == "?":
        raise ScheduleError("day of week", "?", "is in day of month, too: put * or a day in one of the two")
    if days not in ("?", "*") and of_week != "?":
        raise ScheduleError("day of week", words[5], "cannot be combined with a day of month: put ? in one of the two")
    if days == "*" and of_week not in ("?", "*"):
        raise ScheduleError("day of month", "*", "cannot be combined with a day of week: put ? here")
    if days in ("?", "*"):
        cron_days = "*"
    elif days == "L":
        cron_days = "l"
    elif (picked := _picked_day(days)) is not None:
        cron_days = _DAY_OF_MONTH.write(picked.candidates(months))
    else:
        values = _DAY_OF_MONTH.values(days)
        longest = max(29 if month == 2 else _length(2001, month) for month in months)
        cron_days = _DAY_OF_MONTH.write(values) if min(values) <= longest else ""
    fields = (
        _SECONDS.write(_SECONDS.values(words[0])),
        _MINUTES.write(_MINUTES.values(words[1])),
        _HOURS.write(_HOURS.values(words[2])),
        cron_days,
        _MONTH.write(months),
        "*" if of_week in ("?", "*") else _days_of_week(of_week),
        _YEAR.write(_YEAR.values(words[6])) if len(words) == 7 else "*",
    )
    return Schedule(text, " ".join(fields) if cron_days else None, picked)


def _picked_day(text: str) -> _PickedDay | None:
    """Read `L-3`, `LW`, `L-3W` and `15W`; None: it is none of these."""
    match = _PICKED.fullmatch(text)
    if match is None or not (match["last"] or match["weekday"]):
        return None
    if match["last"]:
        before = int(match["before"] or 0)
        if before > 30:
            raise ScheduleError("day of month", text, "counts back too far: use L-1 to L-30")
        return _PickedDay(before, from_end=True, weekday=bool(match["weekday"]))
    return _PickedDay(_DAY_OF_MONTH.value(match["day"], text), from_end=False, weekday=True)


def _days_of_week(text: str) -> str:
    """Return a day of week for croniter, which counts from Sunday = 0."""
    if text == "L":
        return "6"
    if match := _LAST.fullmatch(text):
        return f"L{_DAY_OF_WEEK.value(match['day'], text) - 1}"
    if match := _NTH.fullmatch(text):
        if not 1 <= int(match["nth"]) <= 5:
            raise ScheduleError("day of week", text, "names a week that no month has: use #1 to #5")
        return f"{_DAY_OF_WEEK.value(match['day'], text) - 1}#{match['nth']}"
    return _DAY_OF_WEEK.write(_DAY_OF_WEEK.values(text), base=1)


def _special_cure(field: _Field, part: str) -> str:
    if field is _DAY_OF_MONTH and not re.search("[?#]", part):
        return "cannot be read: L, LW, L-3 and 15W each stand alone in this field"
    if field is _DAY_OF_WEEK and not re.search("[?W]", part):
        return "cannot be read: 6L and 6#3 each stand alone in this field"
    return f"has a character that has no meaning here: use *, a value ({field.takes}), a range or a step, as in */5"


def _count_cure(words: list[str]) -> str:
    if len(words) == 5:
        example = f", as in '0 {' '.join(words[:4])} ?'" if words[4] == "*" else ""
        return (
            "has 5 fields, as Unix cron writes them: put seconds first, "
            f"and ? in day of month or in day of week{example}"
        )
    return (
        f"has {len(words)} fields: use 6 or 7, that is seconds, minutes, hours, day of month, month, day of week "
        "and, if needed, year, as in '0 */5 * * * ?'"
    )


@lru_cache(maxsize=1024)
def _search(cron: str) -> croniter:
    return croniter(cron, datetime(2000, 1, 1), second_at_beginning=True, max_years_between_matches=LAST_YEAR - 1969)


def _length(year: int, month: int) -> int:
    """Return the number of days of a month."""
    return monthrange(year, month)[1]
