"""A cron expression in words, for the forms that people use: `every 5 minutes`, `at 02:30 UTC on weekdays`.

Each phrase is made from the values that the fields mean, so it fits however they are spelled, and no two schedules
share one. The package cron-descriptor was tried: it calls `0 0 */5 * * ?` "every 5 hours", which is wrong at midnight,
drops the W of `L-3W`, and cannot read `L` as a day of week.
"""

from collections.abc import Collection, Sequence

from rollup_operator.model.cron_fields import (
    DAY_OF_MONTH,
    DAY_OF_WEEK,
    HOURS,
    MINUTES,
    MONTH,
    SECONDS,
    YEAR,
    CronField,
    ScheduleError,
)
from rollup_operator.model.schedule import Schedule

_MOST_LISTED = 4
"""More times, days or months than these read worse than the expression."""
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_NTH = ("first", "second", "third", "fourth", "fifth")


class _NoWords(Exception):
    """The form is too rare to have words."""


def schedule_in_words(cron: str) -> str:
    """Write when a job runs; an expression without words of its own, or one that is not valid, stays as it is."""
    try:
        Schedule.parse(cron)
        fields = cron.upper().split()
        days = _days(fields[3], fields[5], _months(MONTH.values(fields[4])))
        years = _years(YEAR.values(fields[6])) if len(fields) == 7 else ""
        times = _times(
            *(field.values(text) for field, text in zip((SECONDS, MINUTES, HOURS), fields, strict=False)),
            every_day=not days,
        )
    except (_NoWords, ScheduleError):
        return cron
    return " ".join(filter(None, (times, days, years)))


def _times(seconds: Collection[int], minutes: Collection[int], hours: Collection[int], *, every_day: bool) -> str:
    if len(seconds) > 1:
        if _all(minutes, MINUTES) and _all(hours, HOURS):
            return _every(seconds, SECONDS, "second")
        raise _NoWords
    (second,) = seconds
    if len(minutes) * len(hours) <= _MOST_LISTED:
        clock = [_clock(hour, minute, second) for hour in sorted(hours) for minute in sorted(minutes)]
        return f"{'every day ' if every_day else ''}at {_listed(clock)} UTC"
    at_second = f" at second {second}" if second else ""
    if _all(hours, HOURS):
        return _in_each_hour(minutes) + at_second
    if len(minutes) > 1:
        each = _every(minutes, MINUTES, "minute") + at_second
    else:
        (minute,) = minutes
        past = (f" at minute {minute}" if minute else "") + at_second
        if _is_even(hours, HOURS):
            return _every(hours, HOURS, "hour") + past
        each = "every hour" + past
    first, last = _stretch(hours, HOURS)
    if last < first and not every_day:
        raise _NoWords  # "from 22:00 to 06:00 on Mondays" would seem to end on Tuesdays
    return f"{each} from {_clock(first, min(minutes))} to {_clock(last, max(minutes))} UTC"


def _in_each_hour(minutes: Collection[int]) -> str:
    if minutes == {0}:
        return "every hour"
    if _is_even(minutes, MINUTES):
        return _every(minutes, MINUTES, "minute")
    if len(minutes) > _MOST_LISTED:
        raise _NoWords
    word = "minute" if len(minutes) == 1 else "minutes"
    return f"every hour at {word} {_listed([str(minute) for minute in sorted(minutes)])}"


def _every(values: Collection[int], field: CronField, unit: str) -> str:
    """Return `every 5 minutes`, for values that begin with the lowest and go round without a shorter step."""
    if not _is_even(values, field):
        raise _NoWords
    step = (field.high + 1) // len(values)
    return f"every {unit}" if step == 1 else f"every {step} {unit}s"


def _is_even(values: Collection[int], field: CronField) -> bool:
    step, rest = divmod(field.high + 1, len(values))
    return len(values) > 1 and not rest and set(values) == set(range(0, field.high + 1, step))


def _all(values: Collection[int], field: CronField) -> bool:
    return len(values) == field.high - field.low + 1


def _stretch(values: Collection[int], field: CronField) -> tuple[int, int]:
    """Return the first and the last of values that follow each other, also round the end of the field."""
    size = field.high - field.low + 1
    firsts = [v for v in values if field.low + (v - field.low - 1) % size not in values]
    if len(firsts) != 1:
        raise _NoWords
    return firsts[0], field.low + (firsts[0] - field.low + len(values) - 1) % size


def _clock(hour: int, minute: int, second: int = 0) -> str:
    return f"{hour:02}:{minute:02}" + (f":{second:02}" if second else "")


def _days(of_month: str, of_week: str, months: str) -> str:
    if of_week not in ("?", "*"):
        return _days_of_week(of_week, months)
    if of_month in ("?", "*"):
        return f"in {months}" if months else ""
    return f"{_days_of_month(of_month)} of {months or 'each month'}"


def _days_of_month(text: str) -> str:
    if "L" in text or "W" in text:
        return _picked_day(text)
    days = DAY_OF_MONTH.values(text)
    if len(days) > _MOST_LISTED:
        raise _NoWords
    return f"on the {_listed([_ordinal(day) for day in sorted(days)])}"


def _picked_day(text: str) -> str:
    weekday = text.endswith("W")
    day = text.removesuffix("W")
    if day == "L":
        return "on the last weekday" if weekday else "on the last day"
    if day.startswith("L-"):
        before = int(day.removeprefix("L-"))
        which = "the last day" if not before else f"{before} {'day' if before == 1 else 'days'} before the last day"
        return f"on the weekday nearest to {which}" if weekday else ("on " if not before else "") + which
    return f"on the weekday nearest to the {_ordinal(int(day))}"


def _days_of_week(text: str, months: str) -> str:
    within = f" of {months or 'each month'}"
    if text.endswith("L") and text != "L":
        return f"on the last {_weekday(text.removesuffix('L'))}{within}"
    if "#" in text:
        day, _, nth = text.partition("#")
        return f"on the {_NTH[int(nth) - 1]} {_weekday(day)}{within}"
    days = {7} if text == "L" else DAY_OF_WEEK.values(text)
    in_months = f" in {months}" if months else ""
    if _all(days, DAY_OF_WEEK):
        return in_months.strip()
    if days == {2, 3, 4, 5, 6}:
        return f"on weekdays{in_months}"
    if days == {1, 7}:
        return f"on weekends{in_months}"
    if len(days) > _MOST_LISTED:
        first, last = _stretch(days, DAY_OF_WEEK)
        return f"from {_WEEKDAYS[first - 1]} to {_WEEKDAYS[last - 1]}{in_months}"
    from_monday = sorted(days, key=lambda day: (day - 2) % 7)
    return f"on {_listed([f'{_WEEKDAYS[day - 1]}s' for day in from_monday])}{in_months}"


def _weekday(text: str) -> str:
    return _WEEKDAYS[DAY_OF_WEEK.value(text, text) - 1]


def _months(months: Collection[int]) -> str:
    if _all(months, MONTH):
        return ""
    if len(months) <= _MOST_LISTED:
        return _listed([_MONTHS[month - 1] for month in sorted(months)])
    first, last = _stretch(months, MONTH)
    return f"{_MONTHS[first - 1]} to {_MONTHS[last - 1]}"


def _years(years: Collection[int]) -> str:
    if _all(years, YEAR):
        return ""
    if len(years) <= _MOST_LISTED:
        return f"in {_listed([str(year) for year in sorted(years)])}"
    first, last = min(years), max(years)
    if len(years) != last - first + 1:
        raise _NoWords
    return f"from {first} on" if last == YEAR.high else f"from {first} to {last}"


def _ordinal(number: int) -> str:
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number in (11, 12, 13) else ends.get(number % 10, 'th')}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
