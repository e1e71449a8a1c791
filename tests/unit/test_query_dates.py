"""Dates of requests. The right times were read off a real Elasticsearch 8 (`_validate/query?explain`)."""

from datetime import UTC

import pytest

from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.times.dates import FIRST_MS, LAST_MS, DateReader, java_number, zone_of

NOW = 1_795_988_846_577  # 2026-11-29T21:47:26.577Z
DAY = 86_400_000

# A date, where it begins, and where it ends, in epoch milliseconds.
DATES = {
    "2020": (1577836800000, 1577923199999),  # months and days left open are the first, in both cases
    "2020-02": (1580515200000, 1580601599999),
    "2020-02-03": (1580688000000, 1580774399999),
    "2020-02-03T": (1580688000000, 1580774399999),
    "2020-02-03T04": (1580702400000, 1580705999999),
    "2020-02-03T04:05": (1580702700000, 1580702759999),
    "2020-02-03T04:05:06": (1580702706000, 1580702706999),
    "2020-02-03T04:05:06.7": (1580702706700, 1580702706700),
    "2020-02-03T04:05:06,789Z": (1580702706789, 1580702706789),
    "2020-02-03T04:05:06.789123456Z": (1580702706789, 1580702706789),
    "2020-02-03T04:05:06+01:00": (1580699106000, 1580699106999),
    "2020-02-03T04:05+0100": (1580699100000, 1580699159999),
    "2020-02-03T04+01": (1580698800000, 1580702399999),
    "2020-02-03T04:05:06-03": (1580713506000, 1580713506999),
    "0001": (-62135596800000, -62135510400001),
    "9999-12-31": (253402214400000, 253402300799999),
    "-2020-01-01": (-125912275200000, -125912188800001),
    "20200203": (20200203, 20200203),
    "1580702706789": (1580702706789, 1580702706789),
    "1580702706789.5": (1580702706789, 1580702706789),
    "-5": (-5, -5),
    1580702706789: (1580702706789, 1580702706789),
    2020: (2020, 2020),
    -5: (-5, -5),
    "now": (NOW, NOW),
    "now-1d": (NOW - DAY, NOW - DAY),
    "now-d": (NOW - DAY, NOW - DAY),
    "now/d": (1795910400000, 1795996799999),
    "now/1d": (1795910400000, 1795996799999),
    "now-1d/d": (1795824000000, 1795910399999),
    "now+1M/M": (1796083200000, 1798761599999),
    "now-1H/h": (1795982400000, 1795985999999),
    "now-1m/s": (1795988786000, 1795988786999),
    "2020-02-03||": (1580688000000, 1580688000000),
    "2020-02-03||/d": (1580688000000, 1580774399999),
    "2020-02-03||/w": (1580688000000, 1581292799999),
    "2020-02-03||+1M/d": (1583193600000, 1583279999999),
    "2020-02-03||+1M-1d/M": (1583020800000, 1585699199999),
    "2020-02-03T04:05||-1h": (1580699100000, 1580699100000),
    "2020||+1y": (1609459200000, 1609459200000),
    "2020-02-03||+1d+1h/h-1m": (1580777940000, 1580781539999),
    "2020-01-31||+1M": (1582934400000, 1582934400000),  # the last day of a shorter month
    "2020-02-29||-1y": (1551312000000, 1551312000000),
}


@pytest.mark.parametrize("given", DATES, ids=str)
def test_a_date_begins_and_ends(given):
    reader = DateReader(NOW)
    assert (reader.read(given), reader.read(given, rounds_up=True)) == DATES[given]


BAD = {
    "": "cannot parse empty datetime",
    "2020-02-30": "failed to parse date field [2020-02-30] with format [strict_date_optional_time||epoch_millis]: "
    "[Invalid date '2020-02-30']",
    "2020-2-3": "failed to parse date field [2020-2-3] with format [strict_date_optional_time||epoch_millis]: [failed "
    "to parse date field [2020-2-3] with format [strict_date_optional_time||epoch_millis]]",
    "2020-02-03||/q": "unit [q] not supported for date math [/q]",
    "now+": "truncated date math [+]",
    "now-1": "truncated date math [-1]",
    "now1d": "operator not supported for date math [1d]",
    "now||+1d": "operator not supported for date math [||+1d]",
    "now/2d": "rounding `/` can only be used on single unit types [/2d]",
}


@pytest.mark.parametrize("given", BAD)
def test_what_is_no_date_is_refused_in_elasticsearch_s_words(given):
    with pytest.raises(SearchRefused) as e:
        DateReader(NOW).read(given)
    assert (e.value.reason, e.value.kind) == (BAD[given], "parse_exception")


@pytest.mark.parametrize(
    "given",
    [
        "2020-02-03Z", "2020-W05", "2020-02-03T24:00:00", " 2020", "2020 ", "1e3", "+2020", "+002020-01-01", "NOW",
        "2020-02-03t04:05", "2020-02-03 04:05", "2020-02-03T04:05:06.Z", "2020-02-03T4:05", "2020-02-03T04:05:06z",
        "2020-02-03T04:05:06 +01:00", "2020-13-01", "2020-02-03T04:60", 1.5, 1580702706789.0, True, "2020-02-03|+1d",
        "٢٠٢٠", "1" * 300, "now" + "+1d" * 100, "2020-02-03T04:05+19:00", "1" * 19,
    ],
)  # fmt: skip
def test_other_texts_are_no_dates(given):
    with pytest.raises(SearchRefused):
        DateReader(NOW).read(given)


ZONES = [
    ("2020-02-03", "Europe/Berlin", False, 1580684400000),
    ("2020-02-03", "Europe/Berlin", True, 1580770799999),
    ("2020-02-03T00:00:00Z", "Europe/Berlin", False, 1580688000000),
    ("now/d", "+09:00", True, 1796050799999),
    (1580702706789, "+09:00", False, 1580702706789),
    ("2020-02-03||/M", "+09:00", False, 1580482800000),
    ("2020-02-03T00:00:00Z||/M", "+09:00", False, 1580482800000),
    ("2020-03-29T02:30", "Europe/Berlin", False, 1585445400000),  # skipped: an hour later
    ("2020-10-25T02:30", "Europe/Berlin", False, 1603585800000),  # twice: the first
    ("2020-03-28T02:30||+1d", "Europe/Berlin", False, 1585445400000),
    ("2020-03-28T12:00||+1d", "Europe/Berlin", False, 1585476000000),
    ("2020-03-28T12:00||+24h", "Europe/Berlin", False, 1585479600000),
]


@pytest.mark.parametrize(("given", "zone", "up", "right"), ZONES)
def test_dates_follow_the_clock_of_a_zone(given, zone, up, right):
    assert DateReader(NOW, None, zone_of(zone)).read(given, rounds_up=up) == right


FORMATS = [
    ("epoch_millis", "1580702706789", 1580702706789, 1580702706789),
    ("epoch_millis", "-1", -1, -1),
    ("epoch_second", 1580702706, 1580702706000, 1580702706999),
    ("epoch_second", "1580702706.5", 1580702706500, 1580702706500),
    ("yyyy-MM-dd", "2020-02-03", 1580688000000, 1580774399999),
    ("8yyyy-MM-dd", "2020-02-03", 1580688000000, 1580774399999),
    ("uuuu-MM-dd", "2020-02-03", 1580688000000, 1580774399999),
    ("yyyy-M-d", "2020-2-3", 1580688000000, 1580774399999),
    ("yy-MM-dd", "20-02-03", 1580688000000, 1580774399999),
    ("yyyyMMdd", 20200203, 1580688000000, 1580774399999),
    ("yyyyMMddHHmmss", "20200203040506", 1580702706000, 1580702706999),
    ("yyyy-MM-dd HH:mm:ss", "2020-02-03 04:05:06", 1580702706000, 1580702706999),
    ("yyyy-MM-dd'T'HH:mm:ss.SSSZ", "2020-02-03T04:05:06.789+0100", 1580699106789, 1580699106789),
    ("yyyy-MM-dd'T'HH:mm:ssXXX", "2020-02-03T04:05:06+01:00", 1580699106000, 1580699106999),
    ("yyyy-MM-dd HH:mm:ss z", "2020-02-03 04:05:06 CET", 1580699106000, 1580699106999),
    ("yyyy-MM-dd HH:mm:ss VV", "2020-02-03 04:05:06 Europe/Berlin", 1580699106000, 1580699106999),
    ("yyyy-MM-dd[ HH:mm]", "2020-02-03", 1580688000000, 1580774399999),
    ("yyyy-MM-dd[ HH:mm]", "2020-02-03 04:05", 1580702700000, 1580702759999),
    ("dd/MM/yyyy||yyyy", "03/02/2020", 1580688000000, 1580774399999),
    ("dd/MM/yyyy||yyyy", "2020", 1577836800000, 1577923199999),
    ("dd MMM yyyy", "03 Feb 2020", 1580688000000, 1580774399999),
    ("EEE dd MMM yyyy", "Mon 03 Feb 2020", 1580688000000, 1580774399999),
    ("hh:mm a dd.MM.yyyy", "04:05 PM 03.02.2020", 1580745900000, 1580745959999),
    ("basic_date", "20200203", 1580688000000, 1580774399999),
    ("date", "2020-2-3", 1580688000000, 1580774399999),
    ("strict_date", "2020-02-03", 1580688000000, 1580774399999),
    ("date_optional_time", "2020-2-3T4:5", 1580702700000, 1580702759999),
    ("date_time", "2020-02-03T04:05:06.789Z", 1580702706789, 1580702706789),
    ("date_time_no_millis", "2020-02-03T04:05:06Z", 1580702706000, 1580702706999),
    ("basic_date_time", "20200203T040506.789Z", 1580702706789, 1580702706789),
    ("basic_date_time_no_millis", "20200203T040506Z", 1580702706000, 1580702706999),
    ("strict_date_hour_minute", "2020-02-03T04:05", 1580702700000, 1580702759999),
    ("strict_date_optional_time_nanos", "2020-02-03T04:05:06.789123456Z", 1580702706789, 1580702706789),
    ("HH:mm", "04:05", 14700000, 14759999),
    ("MM-dd", "02-03", 2851200000, 2937599999),
    ("epoch_millis||strict_date_optional_time", 2020, 2020, 2020),
    ("strict_date_optional_time||epoch_second", 1580702706, 1580702706000, 1580702706999),
    ("yyyy-MM-dd", "2020-02-03||+1d", 1580774400000, 1580774400000),
]


@pytest.mark.parametrize(("format_", "given", "low", "high"), FORMATS)
def test_a_format_says_how_a_date_is_written(format_, given, low, high):
    reader = DateReader(NOW, format_)
    assert (reader.read(given), reader.read(given, rounds_up=True)) == (low, high)


@pytest.mark.parametrize(
    ("format_", "given"),
    [
        ("yyyy-MM-dd", "2020-2-3"), ("yyyy-MM-dd", "1580702706789"), ("date_time", "2020-02-03T04:05:06Z"),
        ("strict_date_optional_time", "1580702706789"), ("yyyy-MM-dd HH:mm:ss.SSS", "2020-02-03 04:05:06.7"),
        ("epoch_second", 1580702706.25), ("EEE dd MMM yyyy", "Tue 03 Feb 2020"), ("bogus", "2020"), ("", "2020"),
        ("dateOptionalTime", "2020-02-03"), ("week_date", "2020-W05-1"), ("y" * 300, "2020"), ("[" * 40, ""),
        ("yyyy]", "2020"), ("yyyy'", "2020"),
    ],
)  # fmt: skip
def test_other_dates_and_formats_are_refused(format_, given):
    with pytest.raises(SearchRefused):
        DateReader(NOW, format_).read(given)


def test_times_out_of_reach_stay_at_the_end():
    reader = DateReader(NOW)
    assert reader.read("2020-02-03||+1000000y") > 253402300799999
    assert reader.read("now+" + "9" * 18 + "y") == LAST_MS
    assert reader.read("now-" + "9" * 18 + "d") == FIRST_MS
    assert DateReader(NOW, None, zone_of("Europe/Berlin")).read("now+" + "9" * 18 + "M") == LAST_MS


def test_numbers_are_written_as_java_does():
    written = {1.0: "1.0", 1e7: "1.0E7", 12345678.5: "1.23456785E7", 1e-4: "1.0E-4",
               1e30: "1.0E30", -2e-05: "-2.0E-5", 1234567.0: "1234567.0",
               -2.5: "-2.5",
               0.001: "0.001", 1580702706789.0: "1.580702706789E12", float("inf"): "Infinity"}  # fmt: skip
    assert {n: java_number(n) for n in written} == written
    assert zone_of("Z") is UTC
