"""The data of a job as a picture: what can be chosen, what is asked, and who may ask."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.app import Endpoint
from rollup_operator.http.ui import data_page
from rollup_operator.http.ui.data_page import DataPage, SourceBegin, stretches
from rollup_operator.http.ui.pictures.time_line import StretchKind
from rollup_operator.http.ui.questions import MOST_BUCKETS, PERIODS, ChartQuestion, cut
from rollup_operator.http.ui.verified import SeenFindings
from rollup_operator.model.finding_words import KINDS
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import newest_bucket
from rollup_operator.stores.errors import StoreUnavailable
from rollup_operator.stores.search import Tier
from support import bodies
from support.access_double import Anybody
from support.browsing import Browser, browsing
from support.http_double import Cluster
from support.observed_job import NOW, at, observed_job, run_ended

DATA = "/ui/namespaces/default/jobs/sensor/data"
METRICS = [{"field": "temperature", "metrics": ["avg", "max"]}]
TERMS = {"terms": {"fields": ["node", "carrier"]}}


def spec(**dates: Any) -> RollupJobSpec:
    date = {"field": "timestamp", **(dates or {"fixedInterval": "1h"})}
    return RollupJobSpec.model_validate(
        bodies.job("sensor", groups={"dateHistogram": date, **TERMS}, metrics=METRICS)["spec"]
    )


def asked(of: RollupJobSpec | None = None, newest: datetime | None = NOW, **given: str) -> ChartQuestion:
    return ChartQuestion.of(of or spec(), given, newest, NOW)


def test_what_can_be_chosen_is_what_the_job_keeps() -> None:
    question = asked()
    assert question.metrics == ["count", "avg:temperature", "max:temperature"]
    assert question.groups == ["", "node", "carrier"]
    assert [each.text for each in question.intervals] == ["1h", "3h", "6h", "12h", "1d", "7d", "30d"]
    assert (question.metric, question.group, question.interval.text, question.period) == ("count", "", "1h", "7 days")


@pytest.mark.parametrize(
    ("dates", "texts"),
    [
        ({"fixedInterval": "90m"}, {"90m", "3h", "6h", "12h", "1d", "7d", "30d"}),
        ({"fixedInterval": "7s"}, {"7d"}),
        ({"calendarInterval": "hour"}, {"1h", "1d", "1w", "1M", "1q", "1y"}),
        ({"calendarInterval": "1w"}, {"1w"}),
        ({"calendarInterval": "1M"}, {"1M", "1q", "1y"}),
    ],
)
def test_intervals_are_whole_multiples(dates: dict[str, str], texts: set[str]) -> None:
    questions = [asked(spec(**dates), period=period) for period in PERIODS]
    assert {each.text for question in questions for each in question.intervals} == texts
    for question in questions:
        assert PERIODS[question.period] / question.interval.length <= MOST_BUCKETS


@pytest.mark.parametrize(
    "given", [{"metric": "sum:temperature"}, {"group": "secret"}, {"interval": "1s"}, {"period": "ever"}, {"x": "y"}]
)
def test_what_the_job_cannot_answer_counts_as_not_chosen(given: dict[str, str]) -> None:
    assert asked(**given) == asked()


@pytest.mark.parametrize("year", [1, 1969, 9999])
@pytest.mark.parametrize(
    "dates", [{"fixedInterval": "1h"}, {"fixedInterval": "9223372036854775807d"}, {"calendarInterval": "1y"}]
)
@pytest.mark.parametrize("period", PERIODS)
def test_a_chart_of_the_first_and_the_last_years_that_there_are(year: int, dates: dict[str, str], period: str) -> None:
    question = asked(spec(**dates), datetime(year, 1, 1, tzinfo=UTC), period=period)
    assert question.begin < question.end <= NOW


def test_the_search() -> None:
    question = asked(metric="avg:temperature", group="node", interval="1d", period="30 days")
    assert question.body() == {
        "size": 0,
        "query": {"range": {"timestamp": {"gte": "2029-12-02T00:00:00Z", "lt": "2030-01-01T12:00:00Z"}}},
        "aggs": {
            "groups": {
                "terms": {"field": "node", "size": 6},
                "aggs": {
                    "times": {
                        "date_histogram": {"field": "timestamp", "fixed_interval": "1d", "time_zone": "UTC"},
                        "aggs": {"value": {"avg": {"field": "temperature"}}},
                    }
                },
            }
        },
    }


def test_a_source_without_new_rows_is_shown_up_to_its_newest() -> None:
    old = datetime(2013, 12, 31, 23, tzinfo=UTC)
    question = asked(newest=old, period="1 day")
    assert (question.begin, question.end) == (
        datetime(2013, 12, 31, 6, tzinfo=UTC),
        datetime(2014, 1, 1, 6, tzinfo=UTC),
    )
    assert asked(newest=NOW - timedelta(days=1)).end == NOW
    assert asked(newest=None).end == NOW


def test_an_answer_becomes_series() -> None:
    times = {
        "buckets": [
            {"key": 0, "doc_count": 3, "value": {"value": 1.5}},
            {"key": 3_600_000, "doc_count": 0, "value": {"value": None}},
        ]
    }
    answer = {"aggregations": {"groups": {"buckets": [{"key": "a", "times": times}, {"key": 7, "times": times}]}}}
    one, other = asked(metric="avg:temperature", group="node").series(answer)
    assert (one.name, other.name) == ("a", "7")
    assert [value for _, value in one.points] == [1.5, None]
    [whole] = asked().series({"aggregations": {"times": times}})
    assert [value for _, value in whole.points] == [3.0, 0.0]
    assert asked(group="node").series({}) == []


def test_the_cut_is_where_the_answer_says() -> None:
    jobs = [{"to": "2030-01-01T10:00:00Z"}, {"to": "2030-01-01T11:00:00Z"}]
    assert cut({"_rollup": {"jobs": jobs}}) == datetime(2030, 1, 1, 11, tzinfo=UTC)
    assert cut({}) is None


@pytest.mark.parametrize("position", [None, {}, {"a.terms": 1}, {"t.date_histogram": "x"}, {"t.date_histogram": 1e300}])
def test_a_position_without_a_time(position: Any) -> None:
    assert newest_bucket(position) is None


def tier(begin: datetime, end: datetime) -> Tier:
    ms = [round(when.timestamp() * 1000) for when in (begin, end)]
    return Tier(("hourly", "flights"), spec(), ms[0], ms[1], {})


def test_the_time_line_says_what_became_of_the_source() -> None:
    day = timedelta(days=1)
    late = {**run_ended(), "rewritten": 12}
    job = JobView.of(observed_job(state="indexing", progress={"percent": 57}, lastRun=late, spec={"lookback": "6h"}))
    found = stretches(job, [tier(NOW - 9 * day, NOW - day)], NOW)
    assert [(s.kind, s.begin, s.end, s.note) for s in found] == [
        (StretchKind.ROLLED, NOW - 9 * day, NOW - day, ""),
        (StretchKind.LATE, NOW - day - timedelta(hours=6), NOW - day, "12 documents by the last run"),
        (StretchKind.RUNNING, NOW - day, NOW, "57 % done"),
    ]
    waiting = stretches(JobView.of(observed_job()), [tier(NOW - day, NOW - day / 2)], NOW)
    assert [s.kind for s in waiting] == [StretchKind.ROLLED, StretchKind.WAITING]
    assert stretches(JobView.of(observed_job()), [tier(NOW, NOW)], NOW) == []
    whole = JobView.of(observed_job(spec={"lookback": "900000d"}, lastRun={**run_ended(), "rewritten": 1}))
    assert stretches(whole, [tier(NOW - day, NOW)], NOW)[-1].begin == NOW - day


def test_the_time_line_tells_what_is_gone_from_what_is_wrong() -> None:
    day, job = timedelta(days=1), JobView.of(observed_job())
    of = tier(NOW - 9 * day, NOW)
    rolled = (StretchKind.ROLLED, NOW - 9 * day, NOW)

    def kinds(source: SourceBegin | None, seen: SeenFindings | None = None) -> list[Any]:
        return [(s.kind, s.begin, s.end) for s in stretches(job, [of], NOW, source, seen)]

    assert kinds(None) == kinds(SourceBegin(NOW - 9 * day + timedelta(minutes=59))) == [rolled]
    assert kinds(SourceBegin(NOW - 30 * day)) == [rolled]
    half = NOW - 4 * day + timedelta(minutes=30)
    assert kinds(SourceBegin(half)) == [rolled, (StretchKind.GONE, NOW - 9 * day, NOW - 4 * day)]
    assert kinds(SourceBegin(None)) == [rolled, (StretchKind.GONE, NOW - 9 * day, NOW)]
    assert kinds(SourceBegin(NOW + day)) == [rolled, (StretchKind.GONE, NOW - 9 * day, NOW)]
    found = [(NOW - n * day, NOW - n * day + day, kind) for n, kind in enumerate(KINDS, 1)]
    seen = kinds(None, SeenFindings(NOW - timedelta(minutes=5), found))
    assert [kind for kind, *_ in seen[1:]] == [
        StretchKind.DIFFERS, StretchKind.MISSING, StretchKind.GONE, StretchKind.DIFFERS,
    ]  # fmt: skip
    notes = [s.note for s in stretches(job, [of], NOW, None, SeenFindings(NOW - timedelta(minutes=5), found))]
    assert notes[-1] == "buckets are stored twice, as verified 5 minutes ago"


def test_what_the_schedule_has_verified_is_on_the_time_line_until_somebody_verifies() -> None:
    def job(**counts: int) -> JobView:
        report = {
            "startTime": at(-70), "endTime": at(-60), "outcome": "DocumentsDiffer",
            "from": at(-9 * 86_400), "to": at(0),
            "buckets": 200, "firstDifference": at(-4 * 86_400), "lastDifference": at(-2 * 86_400),
        }  # fmt: skip
        return JobView.of(observed_job(lastVerification=report | counts))

    def kinds(of: JobView, seen: SeenFindings | None = None) -> list[Any]:
        found = stretches(of, [tier(NOW - timedelta(days=9), NOW)], NOW, None, seen)
        return [(s.kind, s.begin, s.end) for s in found[1:]]

    between = NOW - timedelta(days=4), NOW - timedelta(days=2)
    assert kinds(job(missing=3)) == [(StretchKind.MISSING, *between)]
    assert kinds(job(differs=1, missing=3)) == [(StretchKind.DIFFERS, *between), (StretchKind.MISSING, *between)]
    assert kinds(job(missing=3), SeenFindings(NOW, [])) == []
    assert kinds(job(missing=3), SeenFindings(NOW - timedelta(hours=1), [])) == [(StretchKind.MISSING, *between)]


async def test_where_the_source_begins_is_asked_once_for_a_while(browser: Browser, cluster: Cluster) -> None:
    page = await browser.get(DATA)
    assert "raw data gone" in page.words('class="legend"')  # the double's source has no rows
    again = await browser.get(f"{DATA}?period=1+year")
    assert again.status == 200
    asked = [fetch for fetch in cluster.shelf.fetched if fetch.numbers and fetch.numbers[0].function == "min"]
    assert len(asked) == 1


@pytest.fixture
async def browser(endpoint: Endpoint, cluster: Cluster) -> AsyncIterator[Browser]:
    cluster.create("sensor", metrics=METRICS)
    groups = {"dateHistogram": {"field": "timestamp", "fixedInterval": "1h"}}
    cluster.shelf.roll_up("sensor", {"metrics": METRICS, "groups": groups}, index="sensor_rollup")
    async with browsing(endpoint, Authorization="Bearer ann") as browser:
        yield browser


async def test_a_chart_needs_the_right_to_search(browser: Browser, cluster: Cluster, access: Anybody) -> None:
    page = await browser.get(f"{DATA}?metric=avg:temperature")
    assert page.status == 200, page.text
    assert "avg of temperature" in page.text
    part = await browser.get(f"{DATA}?part=data")
    assert (part.status, 'id="chart"' in part.text, "<html" in part.text) == (200, True, False)
    assert f'data-url="{DATA}"' in (await browser.get(DATA.removesuffix("/data"))).text
    access.denied = {(EndpointAction.SEARCH, "sensor")}
    cluster.shelf.read.clear()
    assert (await browser.get(DATA)).status == 403
    assert cluster.shelf.read == set()
    assert DATA not in (await browser.get(DATA.removesuffix("/data"))).text


async def test_a_store_that_does_not_answer_leaves_what_can_be_chosen(
    browser: Browser, cluster: Cluster, access: Anybody
) -> None:
    cluster.shelf.fail = StoreUnavailable("https://bob:hunter2@search.example refused")
    for may_read, says in ((True, "search.example"), (False, "callers with the right to get rollupstores see why")):
        access.reads_stores = may_read
        part = await browser.get(f"{DATA}?part=data")
        assert (part.status, says in part.text) == (503, True)
        assert 'id="chart-form"' in part.text


async def test_a_spec_that_cannot_be_read_has_no_chart(browser: Browser, cluster: Cluster) -> None:
    cluster.edit("sensor", groups={"dateHistogram": {}})
    part = await browser.get(f"{DATA}?part=data")
    assert (part.status, 'id="chart-form"' in part.text) == (400, False)


@pytest.mark.parametrize(
    ("first", "begin"),
    [
        (None, SourceBegin(None)),
        (0, SourceBegin(datetime(1970, 1, 1, tzinfo=UTC))),
        (-(10**14), SourceBegin(datetime(1970, 1, 1, tzinfo=UTC))),
        (10**15, None),
    ],
    ids=["no row", "1970", "before the year 1", "after the year 9999"],
)
async def test_a_first_row_at_an_odd_time_is_no_source_without_rows(
    monkeypatch: pytest.MonkeyPatch, first: int | None, begin: SourceBegin | None
) -> None:
    async def row(*_: object) -> int | None:
        return first

    monkeypatch.setattr(data_page, "first_row", row)
    nobody: Any = None
    page = DataPage(nobody, nobody, nobody, nobody)
    assert await page._begin(nobody, [nobody]) == begin
