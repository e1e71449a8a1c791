"""Times as requests write them: in a format, or with date math (`now-30d/d`, `2020-01-31||+1M/d`). Pure.

What a date leaves open is filled from below, or from above where a condition ends with it: `lte: 2020-02-03` is up to
23:59:59.999 of that day. As in Elasticsearch, months and days that are left open are the first ones in both cases.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, tzinfo
from decimal import Decimal
from math import isfinite, isnan
from typing import Any, Final

from rollup_operator.model.time_values import parse_time_zone
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.times.date_patterns import DateFormat, DateParts, NoMatch, compiled
from rollup_operator.rollup.bounds import DAY, HOUR, MINUTE, SECOND, periods

DEFAULT_FORMAT: Final = "strict_date_optional_time||epoch_millis"
"""The format of a date field whose mapping says none."""

LONGEST_DATE: Final = 256
"""Characters of a date with its date math."""

FIRST_MS, LAST_MS = -(2**61), 2**61
"""Times beyond count as these: every clock is known so far."""

_UNIT_MS: Final = {"h": HOUR, "H": HOUR, "m": MINUTE, "s": SECOND}
_MOST_DIGITS: Final = 18


def zone_of(text: str) -> tzinfo:
    """Read a time zone. Raises SearchRefused."""
    try:
        return parse_time_zone(text)
    except ValueError as e:
        raise SearchRefused(f"Invalid ID for a time zone: {e}", "date_time_exception") from e


@dataclass(frozen=True, slots=True)
class DateReader:
    """Reads times for one request: they share what `now` is."""

    now_ms: int
    format: str | None = None
    """None: the field's own, in which numbers are epoch milliseconds."""
    zone: tzinfo = UTC
    """Whose clock dates without an offset show, and by whose date math is rounded."""

    def read(self, value: Any, *, rounds_up: bool = False) -> int:
        """Return a time in epoch milliseconds. Raises SearchRefused."""
        if type(value) is int:
            if self.format is None or self.format == "epoch_millis":
                return max(FIRST_MS, min(LAST_MS, value))
            value = str(value)
        if not isinstance(value, str):
            raise self._unreadable(java_number(value) if isinstance(value, float) else str(value).lower())
        if len(value) > LONGEST_DATE:
            raise SearchRefused(f"a date has at most [{LONGEST_DATE}] characters, this one has [{len(value)}]")
        if not value:
            raise SearchRefused("cannot parse empty datetime", "parse_exception")
        if value.startswith("now"):
            return _math(value[3:], self.now_ms, self.zone, rounds_up)
        at = value.find("||")
        if at < 0:
            return self._date(value, rounds_up)
        return _math(value[at + 2 :], self._date(value[:at], False), self.zone, rounds_up)

    @property
    def _format(self) -> str:
        return DEFAULT_FORMAT if self.format is None else self.format

    def _date(self, text: str, rounds_up: bool) -> int:
        why = f"failed to parse date field [{text}] with format [{self._format}]"
        for one in compiled(self._format):
            try:
                if one.unit_ms:
                    return _epoch(text, one, rounds_up)
                parts = one.read(text)
            except NoMatch:
                continue
            try:
                return _instant(parts, self.zone, rounds_up)
            except ValueError as e:
                why = str(e)
        raise self._unreadable(text, why)

    def _unreadable(self, text: str, why: str = "") -> SearchRefused:
        told = f"failed to parse date field [{text}] with format [{self._format}]"
        return SearchRefused(f"{told}: [{why or told}]", "parse_exception")


def instant_of(value: Any, format: str | None, zone: str, now_ms: int) -> int:
    """Return a time that stands by itself, such as the end of a bound, in epoch milliseconds. Raises SearchRefused."""
    return DateReader(now_ms, format, zone_of(zone)).read(value)


def java_number(value: float) -> str:
    """Write a number as Java does, for texts and for fields of texts."""
    if not isfinite(value):
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    sign, figures, power = Decimal(repr(value)).as_tuple()
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return f"{value:.1f}" if value.is_integer() else f"{Decimal(repr(value)):f}"
    digits = "".join(map(str, figures)).rstrip("0")
    return f"{'-' if sign else ''}{digits[0]}.{digits[1:] or '0'}E{int(power) + len(figures) - 1}"


def _epoch(text: str, one: DateFormat, rounds_up: bool) -> int:
    whole, dot, rest = text.partition(".")
    digits = whole.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > _MOST_DIGITS:
        raise NoMatch
    if dot and not (rest.isascii() and rest.isdigit() and len(rest) <= _MOST_DIGITS):
        raise NoMatch
    value = int(digits) * one.unit_ms
    if one.unit_ms > 1:
        value += int(rest[:3].ljust(3, "0")) if dot else one.unit_ms - 1 if rounds_up else 0
    return max(FIRST_MS, min(LAST_MS, -value if text[0] == "-" else value))


def _instant(parts: DateParts, zone: tzinfo, rounds_up: bool) -> int:
    """Return the time of a date. Raises ValueError with a text."""
    numbers = parts.numbers
    year, month, day = numbers.get("year", 1970), numbers.get("month", 1), numbers.get("day", 1)
    if not 1 <= month <= 12:
        raise ValueError(f"Invalid value for MonthOfYear (valid values 1 - 12): {month}")
    if not 1 <= day <= _days_in(year, month):
        raise ValueError(f"Invalid date '{year}-{month:02d}-{day:02d}'")
    hour = numbers.get("hour", numbers["hour12"] % 12 + 12 * numbers.get("half", 0) if "hour12" in numbers else None)
    minute, second = numbers.get("minute"), numbers.get("second")
    if (hour or 0) > 23 or (minute or 0) > 59 or (second or 0) > 59:
        raise ValueError("an hour is at most 23, a minute or a second at most 59")
    days = _days(year, month, day)
    if (weekday := numbers.get("weekday")) is not None and (days + 3) % 7 + 1 != weekday:
        raise ValueError("the day of the week is another one on this date")
    fills = rounds_up and parts.nanos is None
    local = days * DAY
    local += (hour if hour is not None else 23 if fills else 0) * HOUR
    local += (minute if minute is not None else 59 if fills else 0) * MINUTE
    local += (second if second is not None else 59 if fills else 0) * SECOND
    local += parts.nanos // 1_000_000 if parts.nanos is not None else 999 if fills else 0
    if parts.offset_ms is not None:
        return local - parts.offset_ms
    if parts.zone is not None:
        try:
            zone = parse_time_zone(parts.zone)
        except ValueError as e:
            raise ValueError(str(e)) from e
    return _from_clock(local, zone)


def _math(text: str, at_ms: int, zone: tzinfo, rounds_up: bool) -> int:
    """Apply date math to a time."""
    at = 0
    while at < len(text):
        operator, begin = text[at], at
        if operator not in "+-/":
            raise SearchRefused(f"operator not supported for date math [{text[begin:]}]", "parse_exception")
        at += 1
        end = at
        while end < len(text) and "0" <= text[end] <= "9":
            end += 1
        if end == len(text):
            raise SearchRefused(f"truncated date math [{text[begin:]}]", "parse_exception")
        if end - at > _MOST_DIGITS:
            raise SearchRefused(f"the number is too large in date math [{text[begin:]}]", "parse_exception")
        count, unit = int(text[at:end] or "1"), text[end]
        at = end + 1
        if unit not in "yMwdhHms":
            raise SearchRefused(f"unit [{unit}] not supported for date math [{text[begin:]}]", "parse_exception")
        if operator != "/":
            at_ms = _plus(at_ms, count if operator == "+" else -count, unit, zone)
        elif count != 1:
            raise SearchRefused(
                f"rounding `/` can only be used on single unit types [{text[begin:]}]", "parse_exception"
            )
        else:
            at_ms = _floor(at_ms, unit, zone)
            if rounds_up:
                at_ms = _plus(at_ms, 1, unit, zone) - 1
    return at_ms


def _plus(at_ms: int, count: int, unit: str, zone: tzinfo) -> int:
    if unit in _UNIT_MS:
        return max(FIRST_MS, min(LAST_MS, at_ms + count * _UNIT_MS[unit]))

    def moved(local: int) -> int:
        if unit in "wd":
            return local + count * (7 if unit == "w" else 1) * DAY
        days, rest = divmod(local, DAY)
        year, month, day = _civil(days)
        months = year * 12 + month - 1 + count * (12 if unit == "y" else 1)
        year, month = divmod(months, 12)
        return _days(year, month + 1, min(day, _days_in(year, month + 1))) * DAY + rest

    return _on_the_clock(at_ms, zone, moved)


def _floor(at_ms: int, unit: str, zone: tzinfo) -> int:
    if unit in _UNIT_MS:
        offset = _offset(at_ms, zone)
        return (at_ms + offset) // _UNIT_MS[unit] * _UNIT_MS[unit] - offset

    def rounded(local: int) -> int:
        days = local // DAY
        if unit == "w":
            return (days - (days + 3) % 7) * DAY
        if unit == "d":
            return days * DAY
        year, month, _ = _civil(days)
        return _days(year, month if unit == "M" else 1, 1) * DAY

    return _on_the_clock(at_ms, zone, rounded)


def _on_the_clock(at_ms: int, zone: tzinfo, change: Callable[[int], int]) -> int:
    """Change what a zone's clock shows. Times out of reach stay at the end that they are beyond."""
    local = change(at_ms + _offset(at_ms, zone))
    if not FIRST_MS < local < LAST_MS:
        return max(FIRST_MS, min(LAST_MS, local))
    return _from_clock(local, zone)


def _offset(at_ms: int, zone: tzinfo) -> int:
    if zone is UTC:
        return 0
    known = periods(zone)
    return known[bisect_right(known, at_ms, key=lambda p: p.start) - 1].offset


def _from_clock(local: int, zone: tzinfo) -> int:
    """Return when a clock shows a time: the first time of two, and by the offset before where it is skipped."""
    if zone is UTC:
        return local
    known = periods(zone)
    i = bisect_right(known, local - DAY, key=lambda p: p.start) - 1
    while local - known[i].offset >= known[i].end:
        i += 1
    skipped = i > 0 and local - known[i].offset < known[i].start
    return local - known[i - 1 if skipped else i].offset


def _days(year: int, month: int, day: int) -> int:
    """Return the days since 1970-01-01 in the calendar that goes on in both directions."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _civil(days: int) -> tuple[int, int, int]:
    """Return year, month and day of so many days after 1970-01-01."""
    era, of_era = divmod(days + 719_468, 146_097)
    years = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * years + years // 4 - years // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    return era * 400 + years + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def _days_in(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31
