"""The fields of a Quartz cron expression: their names, their values, and how values are spelled."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

LAST_YEAR = 2099


class ScheduleError(ValueError):
    """An expression that cannot be used. `field` is the cron field, or `expression`; `part` is what is wrong in it."""

    def __init__(self, field: str, part: str, message: str) -> None:
        super().__init__(f"{field}: '{part}' {message}")
        self.field = field
        self.part = part


@dataclass(frozen=True, slots=True)
class CronField:
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


SECONDS = CronField("seconds", 0, 59)
MINUTES = CronField("minutes", 0, 59)
HOURS = CronField("hours", 0, 23)
DAY_OF_MONTH = CronField("day of month", 1, 31)
MONTH = CronField("month", 1, 12, ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"))
DAY_OF_WEEK = CronField("day of week", 1, 7, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))
YEAR = CronField("year", 1970, LAST_YEAR, wraps=False)

_WORD = r"[A-Z]{3}|[0-9]{1,4}"
_PART = re.compile(rf"(?:(?P<first>\*|{_WORD})(?:(?<!\*)-(?P<last>{_WORD}))?|(?=/))(?:/(?P<step>[0-9]{{1,4}}))?")
_SPECIAL = re.compile(r"[?#]|(?:^|[0-9])[LW]|^[A-Z]{3}L$")


def _special_cure(field: CronField, part: str) -> str:
    if field is DAY_OF_MONTH and not re.search("[?#]", part):
        return "cannot be read: L, LW, L-3 and 15W each stand alone in this field"
    if field is DAY_OF_WEEK and not re.search("[?W]", part):
        return "cannot be read: 6L and 6#3 each stand alone in this field"
    return f"has a character that has no meaning here: use *, a value ({field.takes}), a range or a step, as in */5"
