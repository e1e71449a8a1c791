"""How times and numbers are written. The texts are what Java's DateTimeFormatter and DecimalFormat write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.times.formats import date_printer, interval_text, iso, number_printer

MOMENT = 1_494_720_000_123  # 2017-05-14T00:00:00.123Z, a Sunday


@pytest.mark.parametrize(
    ("pattern", "zone", "text"),
    [
        (None, "UTC", "2017-05-14T00:00:00.123Z"),
        (None, "Europe/Berlin", "2017-05-14T02:00:00.123+02:00"),
        (None, "-09:30", "2017-05-13T14:30:00.123-09:30"),
        ("strict_date_optional_time||epoch_millis", "UTC", "2017-05-14T00:00:00.123Z"),
        ("epoch_millis", "Europe/Berlin", "1494720000123"),
        ("epoch_second", "UTC", "1494720000.123"),
        ("yyyy-MM-dd", "America/New_York", "2017-05-13"),
        ("dd/MM/uuuu HH:mm:ss.SSS", "UTC", "14/05/2017 00:00:00.123"),
        ("yy-M-d h a", "UTC", "17-5-14 12 AM"),
        ("EEE, d MMM yyyy 'at' HH''mm", "UTC", "Sun, 14 May 2017 at 00'00"),
        ("EEEE MMMM D", "UTC", "Sunday May 134"),
        ("yyyy-'Q'Q", "UTC", "2017-Q2"),
        ("HH:mmXXX", "Asia/Kolkata", "05:30+05:30"),
        ("HHX", "Asia/Kolkata", "05+0530"),
        ("HHX", "UTC", "00Z"),
        ("HHxx", "UTC", "00+0000"),
        ("HHZ", "Europe/Berlin", "02+0200"),
        ("basic_date_time_no_millis", "UTC", "20170514T000000Z"),
        ("strict_year_month", "UTC", "2017-05"),
    ],
)
def test_a_time_is_written_as_java_writes_it(pattern: str | None, zone: str, text: str) -> None:
    assert date_printer(pattern, zone)(MOMENT) == text


@given(ms=st.integers(-62_135_596_800_000, 253_402_300_799_999) | st.floats(-1e13, 1e13))
def test_the_usual_way_to_write_a_time_is_that_of_its_pattern(ms: float) -> None:
    assert date_printer(None, "UTC")(ms) == date_printer("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", "UTC")(ms)


@pytest.mark.parametrize("ms", [1e15, -1e15])
def test_a_time_that_no_calendar_has_is_refused(ms: float) -> None:
    with pytest.raises(SearchRefused, match="cannot be written"):
        date_printer(None, "UTC")(ms)


@pytest.mark.parametrize("pattern", ["yyyy 'open", "n", "BBB", "x" * 300, "YYYY-ww"])
def test_a_format_that_is_not_known_is_refused(pattern: str) -> None:
    with pytest.raises(SearchRefused, match="format"):
        date_printer(pattern, "UTC")


@pytest.mark.parametrize(
    ("pattern", "value", "text"),
    [
        ("0.00", 1234.5, "1234.50"),
        ("0.00", -0.125, "-0.12"),
        # As their binary value is: a little over 0.925, a little under 1.775.
        ("0.00", 0.925, "0.93"),
        ("0.00", 1.775, "1.77"),
        ("#,##0.#", 1234567.25, "1,234,567.2"),
        ("#,##0.##", 0.5, "0.5"),
        ("#.##", 0.5, ".5"),
        ("#", 0.0, "0"),
        ("000", 7.0, "007"),
        ("0.0%", 0.1234, "12.3%"),
        ("$0.00", 3.0, "$3.00"),
        ("0 'km'", 12.0, "12 km"),
    ],
)
def test_a_number_is_written_as_java_writes_it(pattern: str, value: float, text: str) -> None:
    assert number_printer(pattern)(value) == text


@pytest.mark.parametrize("pattern", ["", "abc", "0.0E0", "0#", "9" * 300])
def test_a_pattern_of_numbers_that_is_not_known_is_refused(pattern: str) -> None:
    with pytest.raises(SearchRefused, match="format"):
        number_printer(pattern)


def test_lengths_of_time_have_their_largest_whole_unit() -> None:
    assert [interval_text(ms) for ms in (3_600_000, 5_400_000, 172_800_000, 1_500, 2_000)] == [
        "1h",
        "90m",
        "2d",
        "1500ms",
        "2s",
    ]
    assert iso(0) == "1970-01-01T00:00:00.000Z"
