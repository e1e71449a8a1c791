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
from rollup_operator.model.counts import counted
from rollup_operator.model.cron_fields import (
    DAY_OF_MONTH,
    DAY_OF_WEEK,
    HOURS,
    LAST_YEAR,
    MINUTES,
    MONTH,
    SECONDS,
    YEAR,
    ScheduleError,
)


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


_PICKED = re.compile(r"(?:(?P<last>L(?:-(?P<before>[0-9]{1,2}))?)|(?P<day>[0-9]{1,2}))(?P<weekday>W)?")
_NTH = re.compile(r"(?P<day>[A-Z]{3}|[0-9])#(?P<nth>[0-9])")
_LAST = re.compile(r"(?P<day>[A-Z]{3}|[0-9])L")


@lru_cache(maxsize=4096)
def _parse(text: str) -> Schedule:
    words = text.upper().split()
    if len(words) not in (6, 7):
        raise ScheduleError("expression", text, _count_cure(words))
    days, of_week = words[3], words[5]
    months = MONTH.values(words[4])
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
        cron_days = DAY_OF_MONTH.write(picked.candidates(months))
    else:
        values = DAY_OF_MONTH.values(days)
        longest = max(29 if month == 2 else _length(2001, month) for month in months)
        cron_days = DAY_OF_MONTH.write(values) if min(values) <= longest else ""
    fields = (
        SECONDS.write(SECONDS.values(words[0])),
        MINUTES.write(MINUTES.values(words[1])),
        HOURS.write(HOURS.values(words[2])),
        cron_days,
        MONTH.write(months),
        "*" if of_week in ("?", "*") else _days_of_week(of_week),
        YEAR.write(YEAR.values(words[6])) if len(words) == 7 else "*",
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
    return _PickedDay(DAY_OF_MONTH.value(match["day"], text), from_end=False, weekday=True)


def _days_of_week(text: str) -> str:
    """Return a day of week for croniter, which counts from Sunday = 0."""
    if text == "L":
        return "6"
    if match := _LAST.fullmatch(text):
        return f"L{DAY_OF_WEEK.value(match['day'], text) - 1}"
    if match := _NTH.fullmatch(text):
        if not 1 <= int(match["nth"]) <= 5:
            raise ScheduleError("day of week", text, "names a week that no month has: use #1 to #5")
        return f"{DAY_OF_WEEK.value(match['day'], text) - 1}#{match['nth']}"
    return DAY_OF_WEEK.write(DAY_OF_WEEK.values(text), base=1)


def _count_cure(words: list[str]) -> str:
    if len(words) == 5:
        example = f", as in '0 {' '.join(words[:4])} ?'" if words[4] == "*" else ""
        return (
            "has 5 fields, as Unix cron writes them: put seconds first, "
            f"and ? in day of month or in day of week{example}"
        )
    return (
        f"has {counted(len(words), 'field')}: use 6 or 7, that is seconds, minutes, hours, day of month, month, day of "
        "week and, if needed, year, as in '0 */5 * * * ?'"
    )


@lru_cache(maxsize=1024)
def _search(cron: str) -> croniter:
    return croniter(cron, datetime(2000, 1, 1), second_at_beginning=True, max_years_between_matches=LAST_YEAR - 1969)


def _length(year: int, month: int) -> int:
    """Return the number of days of a month."""
    return monthrange(year, month)[1]
