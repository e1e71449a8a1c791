"""Elasticsearch's time values and zones, against its documented grammar."""

import re
import zoneinfo
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.model import crd
from rollup_operator.model.time_values import parse_time_value, parse_time_zone

GOOD = {
    "90m": ("90m", 5_400_000),
    "1h": ("1h", 3_600_000),
    "7d": ("7d", 7 * 86_400_000),
    "5S": ("5s", 5_000),
    "250ms": ("250ms", 250),
    "3micros": ("3micros", 0.003),
    "5NANOS": ("5nanos", 5e-6),
    " 10 s": ("10s", 10_000),
    "10s ": ("10s", 10_000),
    "+5s": ("5s", 5_000),
    f"{'0' * 5_000}5s": ("5s", 5_000),
    "0": ("0ms", 0),
    "00": ("0ms", 0),
    "-1": ("-1", -1),
    "-01": ("-1", -1),
    "-1s": ("-1", -1_000),
    "-1ms": ("-1", -1),
}
UNIT = "failed to parse setting [delay] with value [{}] as a time value: unit is missing or unrecognized"
NEGATIVE = "failed to parse setting [delay] with value [{}] as a time value: negative durations are not supported"
FRACTION = "failed to parse [{}], fractional time values are not supported"
PLAIN = "failed to parse [{}]"
BAD = {
    "5M": UNIT,
    "5m ": UNIT,
    "10": UNIT,
    "": UNIT,
    "1w": UNIT,
    "1y": UNIT,
    "abc": UNIT,
    "-2s": NEGATIVE,
    "1.5s": FRACTION,
    "1e3s": FRACTION,
    "1ds": FRACTION,
    "9223372036854775808s": FRACTION,
    f"{'9' * 5_000}s": FRACTION,
    f"{'9' * 100_000}xs": PLAIN,
    "s": PLAIN,
    "xs": PLAIN,
}


@pytest.mark.parametrize("text", GOOD)
def test_a_time_value_is_read(text):
    value = parse_time_value(text, "delay")
    assert (value.text, value.milliseconds) == (GOOD[text][0], pytest.approx(GOOD[text][1]))
    assert value.seconds == pytest.approx(GOOD[text][1] / 1000)


@pytest.mark.parametrize("text", BAD)
def test_a_wrong_time_value_is_refused_in_the_words_of_elasticsearch(text):
    with pytest.raises(ValueError, match="failed to parse") as error:
        parse_time_value(text, "delay")
    assert str(error.value) == BAD[text].format(text)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        value = parse_time_value(text, "x")
    except ValueError:
        return
    assert value.milliseconds >= -86_400_000


OFFSETS = {
    "Z": 0,
    "UTC": 0,
    "GMT": 0,
    "UT": 0,
    "+0": 0,
    "-00:00": 0,
    "+5": 300,
    "-03": -180,
    "+05:30": 330,
    "-0330": -210,
    "GMT+1": 60,
    "UTC-08:00": -480,
    "UT+02:15": 135,
    "+18:00": 1080,
    "+01:00:30": 60.5,
    "-010030": -60.5,
}


@pytest.mark.parametrize("text", OFFSETS)
def test_an_offset_is_read(text):
    assert parse_time_zone(text).utcoffset(None) == timedelta(minutes=OFFSETS[text])


def test_a_region_is_read():
    zone = parse_time_zone("Europe/Berlin")
    assert datetime(2025, 7, 1, tzinfo=UTC).astimezone(zone).utcoffset() == timedelta(hours=2)
    for name in ("America/Argentina/Buenos_Aires", "Etc/GMT+5", "Asia/Kolkata", "America/Port-au-Prince"):
        assert parse_time_zone(name).utcoffset(datetime(2025, 1, 1)) is not None


@pytest.mark.parametrize(
    "text",
    [
        *("", "Mars", "Europe", "europe berlin", "../etc/passwd", "/etc/localtime", "localtime", "posixrules"),
        *(
            "posix/UTC",
            "right/UTC",
            "+19",
            "+18:01",
            "+5:60",
            "05:30",
            "+",
            "GMT+",
            "UTC+0530x",
            "Europe/",
            "a\x00b",
            "+٣",
        ),
    ],
)
def test_what_is_no_zone_is_refused_with_the_cure(text):
    with pytest.raises(ValueError, match="is no time zone"):
        parse_time_zone(text)


def test_the_crd_accepts_every_zone():
    spec = crd.job_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    zone = spec["properties"]["groups"]["properties"]["dateHistogram"]["properties"]["timeZone"]
    [shape] = re.findall(r"matches\(r'(.*?)'\)", zone["x-kubernetes-validations"][0]["rule"])
    names = zoneinfo.available_timezones()
    assert len(names) > 400
    assert [name for name in (*names, *OFFSETS) if not re.search(shape, name)] == []


@given(st.text(max_size=20))
def test_any_text_is_a_zone_or_refused(text):
    try:
        zone = parse_time_zone(text)
    except ValueError:
        return
    assert isinstance(zone, tzinfo)
