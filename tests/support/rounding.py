"""Rounding worked out one instant at a time, the long way round: the truth that bucket edges are compared with."""

import calendar
from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
EPOCH = datetime(1970, 1, 1)


def hour(t: int) -> int:
    """The beginning of an instant's hour in UTC."""
    return t // HOUR * HOUR


def ms(text: str, zone: str = "UTC", fold: int = 0) -> int:
    """Return the instant at which the clock of `zone` shows `text`."""
    at = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return round(at.timestamp() * 1000)


def wall(instant: int, zone: str) -> int:
    """Return what the clock shows, as milliseconds since 1970-01-01T00:00 on it."""
    at = datetime.fromtimestamp(instant // 1000, ZoneInfo(zone)).replace(tzinfo=None)
    return (at - EPOCH) // timedelta(milliseconds=1) + instant % 1000


def instants(reading: int, zone: str) -> list[int]:
    """Return the instants at which the clock shows `reading`: none, one or two."""
    at = EPOCH + timedelta(milliseconds=reading)
    both = {round(at.replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000) for fold in (0, 1)}
    return sorted(u for u in both if wall(u, zone) == reading)


@lru_cache(maxsize=64)
def changes(zone: str, year: int) -> list[int]:
    """Return the instants at which the clock is changed, to the minute, in a year and the one before."""
    found = []
    start, end = (calendar.timegm((y, 1, 1, 0, 0, 0)) * 1000 for y in (year - 1, year + 1))
    for hour in range(start, end, HOUR):
        if wall(hour, zone) - hour != wall(hour + HOUR, zone) - hour - HOUR:
            found += [
                m
                for m in range(hour + MINUTE, hour + HOUR + 1, MINUTE)
                if wall(m, zone) - m != wall(m - MINUTE, zone) - m + MINUTE
            ]
    return found


def last_change(instant: int, zone: str) -> int:
    known = changes(zone, datetime.fromtimestamp(instant / 1000, UTC).year)
    i = bisect_right(known, instant)
    return known[i - 1] if i else -(2**62)


def round_fixed(instant: int, step: int, zone: str) -> int:
    """Floor the clock's reading; where a change lies between the two, go back to just before the change and repeat."""
    while True:
        reading = wall(instant, zone) // step * step
        changed = last_change(instant, zone)
        found = instants(reading, zone)
        if not found:
            return changed
        for candidate in reversed(found):
            if candidate < changed:
                instant = changed - 1
                break
            if candidate <= instant:
                return candidate


def round_short_unit(instant: int, step: int, zone: str) -> int:
    """Floor minutes and hours of the calendar: as fixed ones, but a skipped reading is no beginning."""
    while True:
        changed = last_change(instant, zone)
        found = [u for u in instants(wall(instant, zone) // step * step, zone) if changed <= u <= instant]
        if found:
            return found[-1]
        instant = changed - 1


def round_long_unit(instant: int, unit: str, zone: str) -> int:
    """Return the first instant of the day, week, month, quarter or year, whatever the clock shows there."""
    day = date(1970, 1, 1) + timedelta(days=wall(instant, zone) // DAY)
    match unit:
        case "week":
            day -= timedelta(days=day.weekday())
        case "month":
            day = day.replace(day=1)
        case "quarter":
            day = day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        case "year":
            day = day.replace(month=1, day=1)
    reading = (datetime(day.year, day.month, day.day) - EPOCH) // timedelta(milliseconds=1)
    found = instants(reading, zone)
    if found:
        return found[0]
    known = changes(zone, day.year) + changes(zone, day.year + 1)  # at New Year's midnight, too
    skipped = [c for c in known if wall(c, zone) > reading and wall(c - 1, zone) < reading]
    return skipped[0]
