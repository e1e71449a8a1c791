"""Quartz cron, against a search that knows nothing of cron: every field is a set, every second is tried."""

import calendar
import pickle
import re
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rollup_operator.model import crd
from rollup_operator.model.cron_fields import ScheduleError
from rollup_operator.model.schedule import Schedule

MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def wrapped(low: int, high: int, first: int, last: int, step: int) -> set[int]:
    """Count from `first` to `last` by hand, going round at `high`."""
    values, value, distance = set(), first, 0
    while True:
        if distance % step == 0:
            values.add(value)
        if value == last:
            return values
        value, distance = (value + 1 if value < high else low), distance + 1


@st.composite
def part(draw: st.DrawFn, low: int, high: int, names: list[str]) -> tuple[str, set[int]]:
    def spell(value: int) -> str:
        if names and draw(st.booleans()):
            return draw(st.sampled_from([names[value - low], names[value - low].lower()]))
        return draw(st.sampled_from([str(value), f"0{value}"])) if value < 10 else str(value)

    first, last = draw(st.integers(low, high)), draw(st.integers(low, high))
    step = draw(st.integers(1, high - low + 1))
    match draw(st.sampled_from(["value", "value", "range", "range/step", "*/step", "/step", "value/step"])):
        case "value":
            return spell(first), {first}
        case "range":
            return f"{spell(first)}-{spell(last)}", wrapped(low, high, first, last, 1)
        case "range/step":
            return f"{spell(first)}-{spell(last)}/{step}", wrapped(low, high, first, last, step)
        case "value/step":
            return f"{spell(first)}/{step}", set(range(first, high + 1, step))
        case sign:
            return f"{sign[0].rstrip('/')}/{step}", set(range(low, high + 1, step))


@st.composite
def values(draw: st.DrawFn, low: int, high: int, names: list[str] | None = None) -> tuple[str, set[int]]:
    if draw(st.integers(0, 2)) == 0:
        return "*", set(range(low, high + 1))
    parts = draw(st.lists(part(low, high, names or []), min_size=1, max_size=3))
    return ",".join(text for text, _ in parts), set().union(*(numbers for _, numbers in parts))


@dataclass
class Day:
    """A day field: its two texts and what it means, told by a date alone."""

    of_month: str
    of_week: str
    means: object

    def __call__(self, day: date) -> bool:
        return self.means(day)  # type: ignore[operator, no-any-return]


def length(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def nearest(day: date, wanted: int) -> bool:
    """Whether `day` is the weekday of its month that is nearest to its day number `wanted`."""
    if not 1 <= wanted <= length(day):
        return False
    working = [n for n in range(1, length(day) + 1) if day.replace(day=n).weekday() < 5]
    return day.day == min(working, key=lambda n: (abs(n - wanted), n))


@st.composite
def days(draw: st.DrawFn) -> Day:
    number, weekday = draw(st.integers(1, 31)), draw(st.integers(1, 7))
    name = draw(st.sampled_from([str(weekday), WEEKDAYS[weekday - 1]]))

    def is_it(day: date) -> bool:
        return day.isoweekday() % 7 == weekday - 1

    match draw(st.sampled_from(["*", "month", "week", "L", "LW", "L-", "L-W", "W", "weekL", "#", "satL"])):
        case "*":
            return Day(*draw(st.sampled_from([("*", "?"), ("?", "*"), ("*", "*")])), lambda _: True)
        case "month":
            text, of_month = draw(values(1, 31))
            return Day(text, "?", lambda day: day.day in of_month)
        case "week":
            text, of_week = draw(values(1, 7, WEEKDAYS))
            return Day("?", text, lambda day: day.isoweekday() % 7 + 1 in of_week)
        case "L":
            return Day("L", "?", lambda day: day.day == length(day))
        case "LW":
            return Day(draw(st.sampled_from(["LW", "lw"])), "?", lambda day: nearest(day, length(day)))
        case "L-":
            return Day(f"L-{number - 1}", "?", lambda day: day.day == length(day) - number + 1)
        case "L-W":
            return Day(f"L-{number - 1}W", "?", lambda day: nearest(day, length(day) - number + 1))
        case "W":
            return Day(f"{number}W", "?", lambda day: nearest(day, number))
        case "weekL":
            return Day("?", f"{name}L", lambda day: is_it(day) and day.day > length(day) - 7)
        case "#":
            nth = draw(st.integers(1, 5))
            return Day("?", f"{name}#{nth}", lambda day: is_it(day) and (day.day + 6) // 7 == nth)
        case _:
            return Day("?", "L", lambda day: day.isoweekday() == 6)


@dataclass
class Wanted:
    text: str
    seconds: set[int]
    minutes: set[int]
    hours: set[int]
    day: Day
    months: set[int]
    years: set[int] | None

    def after(self, moment: datetime, horizon: timedelta) -> datetime | None:
        """Try one second after the other of every day that fits."""
        day, end = moment.date(), (moment + horizon).date()
        while day <= end:
            if (self.years is None or day.year in self.years) and day.month in self.months and self.day(day):
                for second in range(86_400):
                    hour, minute = second // 3600, second // 60 % 60
                    if hour in self.hours and minute in self.minutes and second % 60 in self.seconds:
                        found = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=second)
                        if found > moment:
                            return found
            day += timedelta(days=1)
        return None


@st.composite
def wanted(draw: st.DrawFn) -> Wanted:
    (s, seconds), (m, minutes), (h, hours) = draw(values(0, 59)), draw(values(0, 59)), draw(values(0, 23))
    (mon, months), day = draw(values(1, 12, MONTHS)), draw(days())
    text, years = f"{s} {m} {h} {day.of_month} {mon} {day.of_week}", None
    match draw(st.integers(0, 3)):
        case 0:
            first = draw(st.integers(2020, 2030))
            last = draw(st.integers(first, 2032))
            text, years = f"{text} {first}-{last}", set(range(first, last + 1))
        case 1:
            text += " *"
    return Wanted(text, seconds, minutes, hours, day, months, years)


def shapes_of_the_crd() -> list[str]:
    """The regular expressions that the API server holds an expression against."""
    rules = crd.job_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][
        "cron"
    ]
    found = {
        shape
        for rule in rules["x-kubernetes-validations"]
        for shape in re.findall(r"matches\(r'(.*?)'\)", rule["rule"])
    }
    assert len(found) == 2
    return sorted(found)


SHAPES = [re.compile(shape, re.ASCII) for shape in shapes_of_the_crd()]  # Go's \\s and \\S are those of ASCII


@given(wanted())
def test_the_crd_accepts_every_schedule(want: Wanted):
    assert all(shape.search(want.text) for shape in SHAPES)


moments = st.datetimes(datetime(2020, 1, 1), datetime(2032, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))
HORIZON = timedelta(days=365 * 9)


@settings(max_examples=200, deadline=None)
@given(wanted(), moments)
def test_the_next_tick_is_the_first_that_a_search_finds(want: Wanted, moment: datetime):
    found = Schedule.parse(want.text).next_after(moment)
    expected = want.after(moment, HORIZON)
    if expected is None:
        assert found is None or found > moment + HORIZON
    else:
        assert found == expected
        assert found.tzinfo is UTC


@settings(max_examples=50, deadline=None)
@given(wanted(), moments)
def test_following_ticks_never_skip_and_never_repeat(want: Wanted, moment: datetime):
    schedule = Schedule.parse(want.text)
    for _ in range(4):
        following = schedule.next_after(moment)
        if following is None or following > moment + HORIZON:
            return
        assert following == want.after(moment, HORIZON)
        moment = following


NOW = at(2025, 11, 22, 10, 3, 4)  # a Saturday
TICKS = {
    "0 */5 * * * ?": at(2025, 11, 22, 10, 5),
    "* * * * * *": at(2025, 11, 22, 10, 3, 5),
    "0 0 0 ? * FRI-MON": at(2025, 11, 23),
    "0 0 0 22-2 * ?": at(2025, 11, 23),
    "0 0 22-2 * * ?": at(2025, 11, 22, 22),
    "0 0 0 1 nov-feb ?": at(2025, 12, 1),
    "0 0 0 LW * ?": at(2025, 11, 28),
    "0 0 0 L-3 * ?": at(2025, 11, 27),
    "0 0 0 15W * ?": at(2025, 12, 15),
    "0 0 0 1W 3 ? 2026": at(2026, 3, 2),
    "0 0 0 ? * 6L": at(2025, 11, 28),
    "0 0 0 ? * L": at(2025, 11, 29),
    "0 0 0 ? * 2#1": at(2025, 12, 1),
    "0 0 0 29 2 ?": at(2028, 2, 29),
    "0 0 0 ? 2 MON#5": at(2044, 2, 29),
    "0 0 0 1 1 ? 2099": at(2099, 1, 1),
    "59 59 23 31 12 ? 2099": at(2099, 12, 31, 23, 59, 59),
    "\t0  0 0 1 1 ?\n": at(2026, 1, 1),
}


@pytest.mark.parametrize("text", TICKS)
def test_a_tick(text: str):
    assert Schedule.parse(text).next_after(NOW) == TICKS[text]
    assert all(shape.search(text) for shape in SHAPES)


NEVER = [
    "0 0 0 31 2 ?",
    "0 0 0 30,31 2 ?",
    "0 0 0 31 4,6,9,11 ?",
    "0 0 0 L-30 2,4 ?",
    "0 0 0 31W 2 ?",
    "0 0 0 1 1 ? 2020",
    "0 0 0 29 2 ? 2027",
    "0 0 0 ? 2 MON#5 2045",
]


@pytest.mark.parametrize("text", NEVER)
def test_what_never_comes_is_answered_at_once(text: str):
    schedule = Schedule.parse(text)
    begin = time.process_time()
    assert schedule.next_after(NOW) is None
    assert time.process_time() - begin < 0.1


def test_the_years_end():
    schedule = Schedule.parse("* * * * * ?")
    assert schedule.next_after(at(2099, 12, 31, 23, 59, 58)) == at(2099, 12, 31, 23, 59, 59)
    assert schedule.next_after(at(2099, 12, 31, 23, 59, 59)) is None


def test_a_tick_lies_after_the_moment_and_a_fraction_of_a_second_counts():
    schedule = Schedule.parse("0 * * * * ?")
    assert schedule.next_after(at(2025, 1, 1)) == at(2025, 1, 1, 0, 1)
    assert schedule.next_after(at(2024, 12, 31, 23, 59, 59, 999_999)) == at(2025, 1, 1)
    assert schedule.next_after(at(2025, 1, 1, 0, 0, 0, 1)) == at(2025, 1, 1, 0, 1)


def test_a_moment_in_another_zone_is_the_same_moment():
    moment = at(2025, 11, 22, 10)
    berlin = moment.astimezone(ZoneInfo("Europe/Berlin"))
    assert Schedule.parse("0 0 12 * * ?").next_after(berlin) == at(2025, 11, 22, 12)


WRONG = {
    "*/5 * * * *": ("expression", "has 5 fields, as Unix cron writes them: put seconds first", "'0 */5 * * * ?'"),
    "0 2 * * 1": ("expression", "has 5 fields", "seconds first"),
    "": ("expression", "has 0 fields", "use 6 or 7"),
    "0 0 0 1 * ? 2020 1": ("expression", "has 8 fields", "use 6 or 7"),
    "60 0 0 * * ?": ("seconds", "'60'", "use 0 to 59"),
    "0 61 * * * ?": ("minutes", "'61'", "use 0 to 59"),
    "0 5,x * * * ?": ("minutes", "'X' cannot be read", "0 to 59"),
    "0 1, * * * ?": ("minutes", "'1,' cannot be read", "a value"),
    "0 */0 * * * ?": ("minutes", "'*/0'", "use 1 to 60"),
    "0 *-5 * * * ?": ("minutes", "'*-5' cannot be read", ""),
    "0 -5 * * * ?": ("minutes", "'-5' cannot be read", ""),
    "0 ? * * * ?": ("minutes", "'?' has a character that has no meaning here", ""),
    "0 0 24 * * ?": ("hours", "'24'", "use 0 to 23"),
    "0 0 */25 * * ?": ("hours", "'*/25'", "use 1 to 24"),
    "0 0 0 0 * ?": ("day of month", "'0'", "use 1 to 31"),
    "0 0 0 1,L * ?": ("day of month", "'1,L'", "stand alone"),
    "0 0 0 1W,15W * ?": ("day of month", "'1W,15W'", "stand alone"),
    "0 0 0 L-31 * ?": ("day of month", "'L-31'", "use L-1 to L-30"),
    "0 0 0 32W * ?": ("day of month", "'32W'", "use 1 to 31"),
    "0 0 0 * * MON": ("day of month", "'*' cannot be combined", "put ? here"),
    "0 0 0 1 13 ?": ("month", "'13'", "1 to 12 or JAN to DEC"),
    "0 0 0 1 JULY ?": ("month", "'JULY' cannot be read", "JAN to DEC"),
    "0 0 0 1 FEB-XXX ?": ("month", "'FEB-XXX' is not a value", "JAN to DEC"),
    "0 0 0 ? * 0": ("day of week", "'0'", "1 to 7 or SUN to SAT"),
    "0 0 0 ? * 8": ("day of week", "'8'", "1 to 7 or SUN to SAT"),
    "0 0 0 ? * MON#6": ("day of week", "'MON#6'", "#1 to #5"),
    "0 0 0 ? * MON#1,TUE#2": ("day of week", "'MON#1,TUE#2'", "stand alone"),
    "0 0 0 ? * FRIL,MON": ("day of week", "'FRIL,MON'", "stand alone"),
    "0 0 0 ? * ?": ("day of week", "'?' is in day of month, too", "put *"),
    "0 0 0 1 * 2": ("day of week", "'2' cannot be combined", "put ?"),
    "0 0 0 1 * *": ("day of week", "'*' cannot be combined", "put ?"),
    "0 0 0 1 1 ? 1969": ("year", "'1969'", "1970 to 2099"),
    "0 0 0 1 1 ? 2100": ("year", "'2100'", "1970 to 2099"),
    "0 0 0 1 1 ? 2030-2020": ("year", "'2030-2020'", "swap its ends"),
    "0 \u0661 * * * ?": ("minutes", "'\u0661' cannot be read", ""),
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_expression_is_refused_with_field_part_and_cure(text: str):
    field, part_, cure = WRONG[text]
    with pytest.raises(ScheduleError) as error:
        Schedule.parse(text)
    assert error.value.field == field
    assert str(error.value).startswith(f"{field}: ")
    assert part_ in str(error.value)
    assert cure in str(error.value)


@settings(max_examples=300)
@given(st.text(alphabet="0123456789*/,-?#LWMONFEBSAT xé\u0661", max_size=60) | st.text(max_size=40))
@example("0 0 0 L- * ?")
@example("0 0 0 W * ?")
@example("0 0 0 - * ?")
@example("0 0 0 / * ?")
@example("0 0 0 ? * #")
@example("0 0 0 ? * ²")
def test_any_text_is_read_or_refused(text: str):
    try:
        schedule = Schedule.parse(text)
    except ScheduleError:
        return
    found = schedule.next_after(NOW)
    assert found is None or found > NOW


def test_schedules_compare_by_their_text_and_are_small():
    schedule = Schedule.parse("0 0 0 L-3W * ?")
    assert schedule == Schedule.parse("0 0 0 L-3W * ?")
    assert schedule != Schedule.parse("0 0 1 L-3W * ?")
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert not hasattr(schedule, "__dict__")
    assert "L-3W" in repr(schedule)


def test_ten_thousand_schedules_are_ready_soon():
    texts = [f"{n % 60} {n // 60 % 60} {n // 3600}/3 ? * MON-FRI" for n in range(10_000)]
    begin = time.process_time()
    for text in texts:
        Schedule.parse(text)
    parsed = time.process_time()
    for text in texts[:1000]:
        Schedule.parse(text).next_after(NOW)
    found = time.process_time()
    for text in texts[:1000]:
        Schedule.parse(text).next_after(NOW)
    again = time.process_time()
    # Generous: a loaded machine is no failure, a square in the number of schedules is.
    assert parsed - begin < 5
    assert found - parsed < 2
    assert again - found < 1
