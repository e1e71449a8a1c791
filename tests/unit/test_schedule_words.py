"""Schedules in words: what is said is what happens, and no two schedules share their words."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.model.schedule import Schedule
from rollup_operator.model.schedule_words import schedule_in_words

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


def ticks(cron: str, count: int, after: datetime = BEGIN) -> Iterator[datetime]:
    schedule, moment = Schedule.parse(cron), after
    for _ in range(count):
        found = schedule.next_after(moment)
        if found is None:
            return
        yield (moment := found)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("* * * * * ?", "every second"),
        ("*/30 * * * * ?", "every 30 seconds"),
        ("0 * * * * ?", "every minute"),
        ("0 */5 * * * ?", "every 5 minutes"),
        ("0 0/5 * * * ?", "every 5 minutes"),
        ("0 /5 * ? * *", "every 5 minutes"),
        ("0 0,30 * * * ?", "every 30 minutes"),
        ("17 */5 * * * ?", "every 5 minutes at second 17"),
        ("0 0 * * * ?", "every hour"),
        ("0 15 * * * ?", "every hour at minute 15"),
        ("0 5/15 * * * ?", "every hour at minutes 5, 20, 35 and 50"),
        ("0 0 */2 * * ?", "every 2 hours"),
        ("0 10 */2 * * ?", "every 2 hours at minute 10"),
        ("0 30 2 * * ?", "every day at 02:30 UTC"),
        ("15 30 2 * * ?", "every day at 02:30:15 UTC"),
        ("0 0 */6 * * ?", "every day at 00:00, 06:00, 12:00 and 18:00 UTC"),
        ("0 0 8-17 * * ?", "every hour from 08:00 to 17:00 UTC"),
        ("0 0 22-6 * * ?", "every hour from 22:00 to 06:00 UTC"),
        ("0 */10 8-17 ? * MON-FRI", "every 10 minutes from 08:00 to 17:50 UTC on weekdays"),
        ("0 30 2 ? * 2-6", "at 02:30 UTC on weekdays"),
        ("0 30 2 ? * sun,sat", "at 02:30 UTC on weekends"),
        ("0 30 2 ? * 1", "at 02:30 UTC on Sundays"),
        ("0 30 2 ? * L", "at 02:30 UTC on Saturdays"),
        ("0 30 2 ? * SAT-MON", "at 02:30 UTC on Mondays, Saturdays and Sundays"),
        ("0 30 2 ? * MON-SAT", "at 02:30 UTC from Monday to Saturday"),
        ("0 30 2 ? * 1-7", "every day at 02:30 UTC"),
        ("0 30 2 ? * 6L", "at 02:30 UTC on the last Friday of each month"),
        ("0 30 2 ? * 6#3", "at 02:30 UTC on the third Friday of each month"),
        ("0 30 2 1 * ?", "at 02:30 UTC on the 1st of each month"),
        ("0 30 2 1,12,22 * ?", "at 02:30 UTC on the 1st, 12th and 22nd of each month"),
        ("0 30 2 L * ?", "at 02:30 UTC on the last day of each month"),
        ("0 30 2 L-1 * ?", "at 02:30 UTC 1 day before the last day of each month"),
        ("0 30 2 LW * ?", "at 02:30 UTC on the last weekday of each month"),
        ("0 30 2 15W * ?", "at 02:30 UTC on the weekday nearest to the 15th of each month"),
        ("0 30 2 L-3W * ?", "at 02:30 UTC on the weekday nearest to 3 days before the last day of each month"),
        ("0 30 2 1 1/3 ?", "at 02:30 UTC on the 1st of January, April, July and October"),
        ("0 30 2 * NOV-MAR ?", "at 02:30 UTC in November to March"),
        ("0 30 2 1 1 ? 2031", "at 02:30 UTC on the 1st of January in 2031"),
        ("0 */5 * * * ? 2030-2040", "every 5 minutes from 2030 to 2040"),
        ("0 */5 * * * ? 2030-2099", "every 5 minutes from 2030 on"),
    ],
)
def test_common_forms_have_words(cron: str, words: str) -> None:
    assert schedule_in_words(cron) == words


@pytest.mark.parametrize(
    "cron",
    [
        "0 */7 * * * ?",  # 00:56 is followed by 01:00
        "0 0 */5 * * ?",  # 20:00 is followed by 00:00
        "0 0 12 1/2 * ?",  # the 31st is followed by the 1st
        "0 0 22-6 ? * MON",  # ends on Mondays too
        "0 */5 1,3 * * ?",
        "*/5 0 * * * ?",
        "0 50-10 * * * ?",
        "0 0 2 * * ? 2030/2",
        "*/5 * * * *",
        "0 0 2 1 * MON",
        "0 0 2 ? * 6#9",
        "soon",
        "",
    ],
)
def test_what_words_would_misstate_stays_an_expression(cron: str) -> None:
    assert schedule_in_words(cron) == cron


@given(st.text("0123456789*/-,?LW# MONFRI", max_size=30))
def test_no_text_is_too_odd(text: str) -> None:
    assert schedule_in_words(text) or not text


@pytest.mark.parametrize("step", range(1, 60))
@pytest.mark.parametrize(("unit", "form"), [("second", "*/{} * * * * ?"), ("minute", "0 */{} * * * ?")])
def test_every_so_many_is_said_only_of_equal_steps(unit: str, form: str, step: int) -> None:
    cron = form.format(step)
    found = list(ticks(cron, 130))
    steps = {after - before for before, after in pairwise(found)}
    if schedule_in_words(cron).startswith(f"every {step} {unit}s"):
        assert steps == {timedelta(**{f"{unit}s": step})}
    elif step not in (1, 60):
        assert len(steps) > 1


TIMES = [
    "0 0 2", "0 30 2", "0 30 2,14", "0 0 */6", "0 0 */2", "0 0 1/2", "0 0 8-17", "0 0 22-6", "0 */10 8-17", "5 */10 *",
    "0 5/10 *", "0 0,30 *", "0 0 *", "0 1 *", "9 0 *", "* * *", "*/2 * *", "0 * *", "0 0 0-12", "0 59 8-17", "0 0 0,12",
]  # fmt: skip
DAYS = [
    "* {} ?", "? {} *", "1 {} ?", "1,15 {} ?", "31 {} ?", "L {} ?", "L-1 {} ?", "LW {} ?", "15W {} ?", "L-1W {} ?",
    "? {} MON-FRI", "? {} SAT,SUN", "? {} SUN", "? {} L", "? {} 6L", "? {} 6#1", "? {} 6#5", "? {} MON-SAT",
    "? {} TUE-SUN", "? {} 2,4", "1-4 {} ?",
]  # fmt: skip
MONTHS = ["*", "1", "1/3", "NOV-MAR", "1-6", "2"]


def test_equal_words_mean_equal_times() -> None:
    spellings: dict[str, set[str]] = defaultdict(set)
    for time, day, month in product(TIMES, DAYS, MONTHS):
        cron = f"{time} {day.format(month)}"
        spellings[schedule_in_words(cron)].add(cron)
    shared = {words: crons for words, crons in spellings.items() if len(crons) > 1}
    assert shared
    for words, crons in shared.items():
        # The first times of a day, and those of a year and a half's days.
        assert len({tuple(ticks(cron, 20)) for cron in crons}) == 1, words
        noons = [BEGIN + timedelta(days=30 * each) for each in range(19)]
        assert len({tuple(Schedule.parse(cron).next_after(noon) for noon in noons) for cron in crons}) == 1, words
