"""Pictures of the page: what they draw, and that nobody's text can break them."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from rollup_operator.http.ui.pictures.charts import ChartSeries, chart
from rollup_operator.http.ui.pictures.spark import spark
from rollup_operator.http.ui.pictures.ticks import number_text, number_ticks, tick_texts, time_ticks
from rollup_operator.http.ui.pictures.time_line import SourceStretch, StretchKind, time_line

CSS = Path(__file__).resolve().parents[2] / "operator" / "rollup_operator" / "http" / "ui" / "static" / "pictures.css"
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ODD = "<script>alert('1')</script>\"&\x00\x1b[31m\u202e"


def days(name: str, values: Iterable[float | None]) -> ChartSeries:
    return ChartSeries(name, [(BEGIN + DAY * at, value) for at, value in enumerate(values)])


def parsed(picture: Markup) -> ET.Element:
    """Read a picture as XML, which has no patience with what is not escaped."""
    tree = ET.fromstring(f"<div>{picture}</div>")
    for element in tree.iter():
        assert element.tag in {"div", "figure", "svg", "title", "desc", "path", "line", "rect", "text", "ul", "li"}
        assert not [name for name in element.attrib if name == "style" or name.startswith("on")]
    return tree


def classed(tree: ET.Element, *names: str) -> list[ET.Element]:
    return [e for e in tree.iter() if set(names) <= set(e.get("class", "").split())]


def texts(tree: ET.Element, tag: str = "text") -> list[str]:
    return [e.text or "" for e in tree.iter(tag)]


# -- axes -------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300), st.integers(4, 9))
def test_an_axis_of_numbers_holds_its_ends_in_equal_round_steps(low: float, high: float, most: int) -> None:
    ticks = number_ticks(low, high, most)
    steps = [after - before for before, after in pairwise(ticks)]
    assert 2 <= len(ticks) <= most
    assert ticks[0] <= min(low, high) + steps[0] * 1e-6
    assert ticks[-1] >= max(low, high) - steps[0] * 1e-6
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)
    assert len(set(tick_texts(ticks))) == len(ticks)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 336_776, ["0", "100,000", "200,000", "300,000", "400,000"]),
        (0, 7.3e9, ["0", "2 G", "4 G", "6 G", "8 G"]),
        (0, 1.2e6, ["0", "0.5 M", "1 M", "1.5 M"]),
        (-5, 5, ["-5", "-2.5", "0", "2.5", "5"]),
        (0.1, 0.35, ["0.1", "0.2", "0.3", "0.4"]),
        (1e6, 1e6 + 8, ["1,000,000", "1,000,002", "1,000,004", "1,000,006", "1,000,008"]),
        (0, 1e20, ["0", "2.5e+19", "5e+19", "7.5e+19", "1e+20"]),
    ],
)
def test_the_numbers_of_an_axis_are_easy_to_read(low: float, high: float, expected: list[str]) -> None:
    assert tick_texts(number_ticks(low, high)) == expected


@pytest.mark.parametrize("end", [float("inf"), float("nan"), -1e301])
def test_what_no_axis_can_hold_is_refused(end: float) -> None:
    with pytest.raises(ValueError, match="no axis"):
        number_ticks(0, end)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (-0.0, "0"), (0.25, "0.25"), (1234.56, "1,235"), (12.3456, "12.35"), (336_776, "336,776"),
        (1_254_000, "1.254 M"), (3e20, "3e+20"), (-0.00001, "-1e-05"),
    ],
)  # fmt: skip
def test_a_number_is_written_in_few_letters(value: float, text: str) -> None:
    assert number_text(value) == text


INSTANTS = st.datetimes(timezones=st.just(UTC))


@settings(deadline=None)
@given(INSTANTS, INSTANTS)
def test_an_axis_of_times_has_a_few_round_instants_in_order(one: datetime, other: datetime) -> None:
    begin, end = sorted((one, other))
    ticks = time_ticks(begin, end)
    instants = [when for when, _ in ticks]
    assert len(ticks) <= 8
    assert instants == sorted(set(instants))
    assert all(begin <= when <= end and not when.microsecond for when in instants)
    assert len({text for _, text in ticks}) == len(ticks)
    assert len(ticks) > 1 or end - begin < timedelta(minutes=1) or end.year > 9000 or begin.year < 10


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (timedelta(minutes=4), ["1 Nov", "00:01", "00:02", "00:03", "00:04"]),
        (timedelta(hours=18), ["1 Nov", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00"]),
        (timedelta(days=2), ["1 Nov", "12:00", "2 Nov", "12:00", "3 Nov"]),
        (timedelta(days=28), ["2 Nov 2026", "9 Nov", "16 Nov", "23 Nov"]),
        (timedelta(days=400), ["Nov 2026", "Jan 2027", "Mar 2027", "May 2027", "Jul 2027", "Sep 2027", "Nov 2027"]),
        (timedelta(days=3650), ["2028", "2030", "2032", "2034", "2036"]),
    ],
)
def test_times_are_written_for_the_length_of_the_period(length: timedelta, expected: list[str]) -> None:
    assert [text for _, text in time_ticks(BEGIN, BEGIN + length)] == expected


# -- charts -----------------------------------------------------------------------------------------------------------


def test_buckets_without_a_value_leave_a_gap_and_one_alone_is_a_dot() -> None:
    tree = parsed(chart([days("a", [1, 2, None, 3, None, 4, 5])], interval=DAY, cut=None, title="t"))
    assert [len(re.findall("[ML]", e.get("d", ""))) for e in classed(tree, "line")] == [2, 2]
    assert len(classed(tree, "dot")) == 1
    missing = ChartSeries("a", [(BEGIN, 1.0), (BEGIN + DAY, 2.0), (BEGIN + DAY * 3, 3.0), (BEGIN + DAY * 4, 3.0)])
    assert len(classed(parsed(chart([missing], interval=DAY, cut=None, title="t")), "line")) == 2


def test_months_of_different_length_leave_no_gap() -> None:
    months = ChartSeries("a", [(datetime(2026, month, 1, tzinfo=UTC), 1.0) for month in range(1, 13)])
    tree = parsed(chart([months], interval=timedelta(days=30), cut=None, title="t"))
    assert len(classed(tree, "line")) == 1


@pytest.mark.parametrize("bars", [True, False])
def test_what_begins_at_the_cut_or_later_is_live(bars: bool) -> None:
    kind = "bars" if bars else "line"
    cut = BEGIN + DAY * 4
    tree = parsed(chart([days("a", [5.0] * 6)], interval=DAY, cut=cut, title="t", bars=bars))
    (live,) = classed(tree, kind, "live")
    (rolled,) = (e for e in classed(tree, kind) if e is not live)
    pattern = "M" if bars else "[ML]"
    # A live line begins where the rolled one ends.
    assert [len(re.findall(pattern, e.get("d", ""))) for e in (rolled, live)] == [4, 2 if bars else 3]
    (line,) = classed(tree, "cut")
    assert float(line.get("x1", "").rstrip("%")) == pytest.approx(400 / 6, abs=0.1)
    assert {"rolled up", "live"} <= set(texts(tree))
    assert "Rolled up until 2026-11-05 00:00Z, live after that." in texts(tree, "desc")[0]


@pytest.mark.parametrize(("cut", "live"), [(BEGIN, 1), (BEGIN + DAY * 6, 0), (None, 0)])
def test_without_a_cut_inside_there_is_no_line_for_it(cut: datetime | None, live: int) -> None:
    tree = parsed(chart([days("a", [5.0] * 6)], interval=DAY, cut=cut, title="t"))
    assert (len(classed(tree, "cut")), len(classed(tree, "line", "live"))) == (0, live)
    assert ("All of it is live." in texts(tree, "desc")[0]) is bool(live)


def test_bars_of_several_series_stand_on_each_other() -> None:
    tree = parsed(chart([days("a", [10]), days("b", [30])], interval=DAY, cut=None, title="t", bars=True))
    ends = [tuple(map(float, re.findall(r"M\S+ (\S+?)V([\d.]+)", e.get("d", ""))[0])) for e in classed(tree, "bars")]
    assert ends == [(180.0, 135.0), (135.0, 0.0)]


def test_a_chart_says_in_words_what_it_shows() -> None:
    series = [days("AA", [3, 1, 2]), days("UA", [None, 1_500, 1_200])]
    tree = parsed(chart(series, interval=DAY, cut=None, unit="miles", title="Distance"))
    assert texts(tree, "title")[0] == "Distance"
    assert texts(tree, "desc") == [
        "From 2026-11-01 00:00Z to 2026-11-04 00:00Z. AA: lowest 1 miles, highest 3 miles, latest 2 miles. "
        "UA: lowest 1,200 miles, highest 1,500 miles, latest 1,200 miles."
    ]
    hints = texts(tree, "title")[1:]
    assert hints[1] == "2026-11-02 00:00Z\nAA: 1 miles\nUA: 1,500 miles"
    assert ["".join(e.itertext()).strip() for e in tree.iter("li")] == ["AA", "UA"]


def test_many_series_over_a_year_stay_small() -> None:
    series = [days(f"carrier {number}", [number * 1000.123 + at for at in range(366)]) for number in range(6)]
    assert len(chart(series, interval=DAY, cut=BEGIN + DAY * 300, title="t")) < 40_000
    short = [ChartSeries(each.name, each.points[:120]) for each in series]
    assert len(chart(short, interval=DAY, cut=None, title="t", bars=True)) < 60_000


@pytest.mark.parametrize("series", [[], [ChartSeries("a", [])], [days("a", [None, float("nan"), float("inf")])]])
def test_without_values_the_picture_has_the_same_height(series: list[ChartSeries]) -> None:
    empty = parsed(chart(series, interval=DAY, cut=BEGIN, title="t"))
    filled = parsed(chart([days("a", [1])], interval=DAY, cut=BEGIN, title="t"))
    assert texts(empty) == ["no data in this period"]
    assert {e.get("height") for e in classed(empty, "picture")} == {e.get("height") for e in classed(filled, "picture")}


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.lists(st.tuples(INSTANTS, st.none() | st.floats()), max_size=6), max_size=4),
    st.timedeltas(timedelta(seconds=1), timedelta(days=400)),
    st.none() | INSTANTS,
    st.booleans(),
    st.text(max_size=20),
)
def test_no_data_breaks_a_chart(
    lines: list[list[tuple[datetime, float | None]]],
    interval: timedelta,
    cut: datetime | None,
    bars: bool,
    name: str,
) -> None:
    series = [ChartSeries(name, points) for points in lines]
    tree = parsed(chart(series, interval=interval, cut=cut, unit=name, title=name, bars=bars))
    numbers = [
        float(number)
        for element in tree.iter()
        for attribute in ("d", "x", "y", "x1", "x2", "y1", "y2")
        for number in re.findall(r"-?[\d.]+(?:e[+-]?\d+)?|nan|inf", element.get(attribute, ""))
    ]
    assert all(-1 <= number <= 1001 for number in numbers)


# -- the time line ----------------------------------------------------------------------------------------------------


def test_the_time_line_shows_each_kind_with_its_period() -> None:
    end = BEGIN + DAY * 100
    stretches = [
        SourceStretch(BEGIN + DAY * 40, BEGIN + DAY * 41, StretchKind.MISSING, "12 buckets"),
        SourceStretch(BEGIN, BEGIN + DAY * 90, StretchKind.ROLLED),
        SourceStretch(BEGIN + DAY * 90, end, StretchKind.RUNNING),
    ]
    tree = parsed(time_line(stretches, now=end + DAY))
    assert [e.get("class") for e in classed(tree, "stretch")][:3] == [
        "stretch rolled", "stretch running", "stretch missing",
    ]  # fmt: skip
    (missing,) = (e for e in classed(tree, "missing") if e.get("x"))
    assert float(missing.get("x", "")) == pytest.approx(40 / 101 * 1000, abs=0.1)
    assert "missing: 2026-12-11 00:00Z to 2026-12-12 00:00Z; 12 buckets" in texts(tree, "title")
    assert texts(tree, "desc")[0].startswith("rolled up: 2026-11-01 00:00Z to 2027-01-30 00:00Z. missing: ")
    assert ["".join(e.itertext()).strip() for e in tree.iter("li")] == ["rolled up", "running now", "missing"]
    assert len(classed(tree, "now")) == 1


def test_a_short_stretch_of_a_long_period_can_be_seen() -> None:
    year = BEGIN + DAY * 365
    stretches = [
        SourceStretch(BEGIN, year, StretchKind.ROLLED),
        SourceStretch(year - HOUR, year, StretchKind.MISSING),
    ]
    tree = parsed(time_line(stretches, now=year))
    (missing,) = (e for e in classed(tree, "missing") if e.get("x"))
    assert (missing.get("x"), missing.get("width")) == ("996", "4")


def test_now_is_left_out_where_the_source_is_of_long_ago() -> None:
    old = [SourceStretch(BEGIN, BEGIN + DAY * 100, StretchKind.ROLLED)]
    assert classed(parsed(time_line(old, now=BEGIN + DAY * 1000)), "now") == []
    assert texts(parsed(time_line([], now=BEGIN))) == ["nothing is known of the source yet"]


# -- sparks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "bars"), [([], 0), ([5], 1), ([0, 0, 3], 3), (range(40), 24)])
def test_a_spark_has_a_bar_for_each_of_the_newest_runs(values: Iterable[float], bars: int) -> None:
    picture = spark(list(values), label="documents per run")
    assert picture.count("M") == bars
    assert texts(parsed(picture), "title") == ["documents per run"]
    assert len(picture) < 700


def test_the_highest_bar_of_a_spark_fills_it() -> None:
    (path,) = parsed(spark([0, 50, 100], label="x")).iter("path")
    assert path.get("d") == "M86 20v-1.0M90 20v-10.0M94 20v-19.0"


# -- all of them ------------------------------------------------------------------------------------------------------


def odd_pictures() -> list[Markup]:
    series = [days(ODD, [1, None, 2, 3]), days("b", [3, 2, 1])]
    stretches = [SourceStretch(BEGIN, BEGIN + DAY, kind, ODD) for kind in StretchKind]
    charts = [
        chart(series, interval=DAY, cut=BEGIN + DAY * 2, unit=ODD, title=ODD, bars=bars) for bars in (True, False)
    ]
    return [*charts, time_line(stretches, now=BEGIN), time_line([], now=BEGIN), spark([1], label=ODD)]


def test_texts_of_others_are_shown_as_text() -> None:
    for picture in odd_pictures():
        tree = parsed(picture)
        assert "script" not in {e.tag for e in tree.iter()}
        assert not re.search("[\x00\x1b\u202e]", picture)
    assert "<script>alert('1')</script>\"&\\x00\\x1b[31m\\u202e" in "".join(parsed(odd_pictures()[0]).itertext())


def test_every_class_of_a_picture_has_a_style() -> None:
    styled = set(re.findall(r"\.([a-z][\w-]*)", CSS.read_text()))
    used = {name for picture in odd_pictures() for e in parsed(picture).iter() for name in e.get("class", "").split()}
    assert used - styled == set()
