"""Axes: at which numbers and times to draw a line, and how to write them."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

LARGEST = 1e300
"""The largest number that an axis can hold."""
_TOO_LONG, _TOO_SHORT = 1e15, 1e-4
"""From here on, and below, numbers are written with an exponent."""
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"))
_SECOND, _MINUTE, _HOUR, _DAY = 1, 60, 3600, 86_400
_STEPS = (
    *(n * _SECOND for n in (1, 5, 15, 30)),
    *(n * _MINUTE for n in (1, 5, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 2, 7, 14)),
)
"""Seconds between two ticks."""
_MONTHS = (1, 2, 3, 6, *(12 * n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)))
"""Months between two ticks, for longer periods."""
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
"""Days and weeks are counted from a Monday."""


def number_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers at equal distances, the first at or below `low`, the last at or above `high`.

    There are 2 to `most` of them. Raises ValueError where an end is beyond LARGEST.
    """
    if not (abs(low) <= LARGEST and abs(high) <= LARGEST):
        raise ValueError(f"no axis from {low} to {high}")
    low, high = min(low, high), max(low, high)
    size = max(abs(low), abs(high))
    if high - low <= max(size * 1e-9, 1 / LARGEST):
        around = size / 4 if size > 1 / LARGEST else 1.0
        low, high = low - around, high + around
    exponent = math.floor(math.log10((high - low) / most)) - 1
    while True:
        for factor in (1.0, 2.0, 2.5, 5.0):
            step = factor * 10.0**exponent
            first, last = math.floor(low / step), math.ceil(high / step)
            if last - first < most:
                return [each * step for each in range(first, last + 1)]
        exponent += 1


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Write the numbers of an axis with the digits that tell them apart: `0`, `2.5 M`, `5 M`."""
    step, largest = ticks[1] - ticks[0], max(map(abs, ticks))
    if largest >= _TOO_LONG or step < _TOO_SHORT:
        digits = 2 + math.floor(math.log10(largest / step))
        return [f"{tick:.{digits}g}" for tick in ticks]
    unit, prefix = _prefix(largest)
    if step / unit < 0.01:
        unit, prefix = 1.0, ""
    digits = max(0, 1 - math.floor(math.log10(step / unit)))
    return [_trimmed(f"{tick / unit:,.{digits}f}") + (prefix if tick else "") for tick in ticks]


def number_text(value: float) -> str:
    """Write one number in few characters: `0.25`, `1,250`, `336,776`, `1.25 M`, `3e+20`."""
    size = abs(value)
    if size >= _TOO_LONG or 0 < size < _TOO_SHORT:
        return f"{value:.3g}"
    unit, prefix = _prefix(size)
    digits = 4 - len(str(int(size / unit))) if size >= 1 else 4
    return _trimmed(f"{value / unit:,.{max(0, digits)}f}") + prefix


def time_ticks(begin: datetime, end: datetime, most: int = 8) -> list[tuple[datetime, str]]:
    """Return at most `most` round instants of UTC from `begin` to `end`, each with its text."""
    begin, end = begin.astimezone(UTC), end.astimezone(UTC)
    days = (end - begin) / timedelta(days=1)
    for step in _STEPS:
        if days * _DAY < step * most and len(found := list(_even(begin, end, step))) <= most:
            return [(when, _time_text(when, step, first=not at)) for at, when in enumerate(found)]
    for months in _MONTHS:
        if days < months * 31 * most and len(found := list(_firsts(begin, end, months))) <= most:
            return [(when, f"{when.year}" if months >= 12 else f"{when:%b} {when.year}") for when in found]
    return []


def time_text(when: datetime) -> str:
    """Write an instant: `2026-11-30 05:00Z`, with seconds only where it has some."""
    when = when.astimezone(UTC)
    return f"{when.date()} {when:%H:%M:%S}Z" if when.second else f"{when.date()} {when:%H:%M}Z"


def _prefix(size: float) -> tuple[float, str]:
    return next(((unit, f" {prefix}") for unit, prefix in _PREFIXES if size >= unit), (1.0, ""))


def _trimmed(text: str) -> str:
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _even(begin: datetime, end: datetime, step: int) -> Iterator[datetime]:
    length = timedelta(seconds=step)
    when = _MONDAY - (_MONDAY - begin) // length * length
    while when <= end:
        if when >= begin:
            yield when
        try:
            when += length
        except OverflowError:  # the year 10,000
            return


def _firsts(begin: datetime, end: datetime, months: int) -> Iterator[datetime]:
    """Yield the first days of months whose number, counted from the year 0, is a multiple of `months`."""
    number = -(-(begin.year * 12 + begin.month - 1) // months) * months
    while 12 <= number < 120_000:
        when = datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
        if when > end:
            return
        if when >= begin:
            yield when
        number += months


def _time_text(when: datetime, step: int, *, first: bool) -> str:
    day = f"{when.day} {when:%b}"
    if step >= _DAY:
        return f"{day} {when.year}" if first else day
    if (when.hour, when.minute, when.second) == (0, 0, 0):
        return day
    clock = f"{when:%H:%M}" if step >= _MINUTE else f"{when:%H:%M:%S}"
    return f"{day} {clock}" if first else clock
