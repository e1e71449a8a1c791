"""Clocks that are changed as few are: at or over midnight, by parts of an hour, by many hours, or by a day."""

from collections import Counter
from collections.abc import Callable, Iterable

from support.rounding import DAY, HOUR, MINUTE, changes, ms, round_fixed, round_long_unit, round_short_unit

ODD_CLOCKS = {
    "America/St_Johns": "2010-11-07",  # 00:01 becomes 23:01 of the day before
    "America/Goose_Bay": "2010-11-07",
    "America/Moncton": "2006-10-29",
    "Antarctica/Casey": "2010-03-05",  # 02:00 becomes 23:00
    "Asia/Pyongyang": "2015-08-15",  # 00:00 becomes 23:30
    "America/Havana": "2023-11-05",  # 01:00 becomes 00:00
    "Atlantic/Azores": "2024-10-27",
    "America/Scoresbysund": "2023-03-26",
    "Africa/Cairo": "2023-10-27",  # 24:00 becomes 23:00
    "Asia/Gaza": "2018-10-27",
    "Asia/Amman": "2012-03-30",
    "Asia/Damascus": "2022-03-25",
    "Asia/Tehran": "2022-03-22",
    "Asia/Beirut": "2022-03-27",  # 00:00 becomes 01:00
    "America/Asuncion": "2023-10-01",
    "America/Santiago": "2023-09-03",
    "America/Sao_Paulo": "2017-10-15",
    "Africa/Casablanca": "2024-03-10",
    "Pacific/Apia": "2011-12-30",  # a day that there was not
    "Pacific/Fakaofo": "2011-12-30",
    "Pacific/Kwajalein": "1993-08-21",
    "Pacific/Kiritimati": "1994-12-31",
    "Australia/Lord_Howe": "2024-04-07",  # half an hour
    "Pacific/Chatham": "2024-09-29",
    "America/Caracas": "2016-05-01",
    "Asia/Colombo": "2006-04-15",
    "Asia/Kathmandu": "1986-01-01",  # a quarter
    "Pacific/Norfolk": "2015-10-04",
    "Asia/Singapore": "1982-01-01",
    "America/Danmarkshavn": "1996-01-01",  # three hours
    "Antarctica/Troll": "2023-10-29",  # two hours
    "Antarctica/Rothera": "1976-12-01",
    "America/Iqaluit": "1999-10-31",
    "America/Noronha": "2000-10-15",  # a summer of a week
}
"""A day of a change of each, in UTC or nearly so."""
FIXED = {"40m": 40 * MINUTE, "90m": 90 * MINUTE, "5h": 5 * HOUR, "1d": DAY}
CALENDAR = {"hour": "", "1d": "day", "1w": "week", "1M": "month"}
INTERVALS = [{"fixedInterval": text} for text in FIXED] + [{"calendarInterval": text} for text in CALENDAR]


def times_around(zone: str) -> list[int]:
    """Instants about the change, in order: many, those of the change itself, and a few of other months."""
    day = ms(ODD_CLOCKS[zone])
    about = [c for c in changes(zone, int(ODD_CLOCKS[zone][:4])) if abs(c - day) < 3 * DAY]
    assert about, zone
    times = [*range(day - 60 * HOUR, day + 72 * HOUR, 7 * MINUTE), *range(day - 70 * DAY, day + 70 * DAY, 61 * HOUR)]
    times += [c + d for c in about for d in (-HOUR, -1, 0, 1, HOUR - 1, HOUR)]
    return sorted(times)


def buckets(times: Iterable[int], zone: str, interval: dict[str, str]) -> dict[int, int]:
    """Count times, given in order, by the bucket that the clock shows; a day that has begun does not end for another.

    Where the clock goes back to the day before, that day has ended.
    """
    rounded = _rounding(zone, interval)
    found: Counter[int] = Counter()
    begun = -(2**62)
    for t in times:
        begun = max(begun, rounded(t))
        found[begun] += 1
    return dict(found)


def _rounding(zone: str, interval: dict[str, str]) -> Callable[[int], int]:
    if (fixed := interval.get("fixedInterval")) is not None:
        return lambda t: round_fixed(t, FIXED[fixed], zone)
    if unit := CALENDAR[interval["calendarInterval"]]:
        return lambda t: round_long_unit(t, unit, zone)
    return lambda t: round_short_unit(t, HOUR, zone)
