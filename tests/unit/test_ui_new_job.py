"""The form for a new job: the manifest that it writes, what is shown of a preview, and who may see that."""

import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any

import pytest
import yaml

from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.app import Endpoint
from rollup_operator.http.ui.new_job import (
    MOST_BUCKETS,
    MOST_COLUMNS,
    MOST_DOCUMENTS,
    MOST_HEADS,
    PreviewShown,
    commands,
    manifest_of,
)
from rollup_operator.kube.client import KubeError
from rollup_operator.model.validation import problems
from rollup_operator.stores.errors import StoreUnavailable
from support.access_double import Anybody
from support.browsing import OWN, Browser, Page, browsing
from support.http_double import Cluster

NEW = "/ui/namespaces/default/new-job"
FILLED = {
    "name": "sensor-hourly",
    "index_pattern": "sensor-*",
    "rollup_index": "sensor_rollup",
    "store": "default",
    "date_field": "timestamp",
    "interval": "1h",
    "cron": "0 0 * * * ?",
    "metrics": "temperature: min, max\nload: sum",
}
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
async def browser(endpoint: Endpoint) -> AsyncIterator[Browser]:
    async with browsing(endpoint) as browser:
        await browser.log_in()
        yield browser


async def send(browser: Browser, **form: str) -> Page:
    return await browser.post(NEW, {"csrf": (await browser.get(NEW)).csrf, **form})


async def test_the_form_writes_a_manifest_and_shows_what_it_would_do(browser: Browser, cluster: Cluster) -> None:
    page = await send(browser, **FILLED)
    assert page.status == 200, page.text
    written = re.search(r'<pre id="manifest"[^>]*><code>(.*?)</code>', page.text, re.DOTALL)
    assert written is not None
    assert yaml.safe_load(unescape(written[1])) == manifest_of(FILLED, "default")
    figures = page.words('class="figures"')
    assert "5,000 documents" in figures
    assert "about 40 documents" in figures
    assert "every hour" in figures
    assert "2013-12-31T23:00:00Z" in page.words('id="buckets"')
    assert "_rollup.id" in page.text
    assert "kubectl apply -f job.yaml" in page.text
    assert 'value="sensor-*"' in page.text
    [(config, _)] = cluster.shelf.previewed
    assert config.spec.rollup_index == "sensor_rollup"
    assert (cluster.posted, cluster.applied, cluster.patched) == ([], [], [])
    assert len(page.text) < 100_000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"date_field": "nothing"}, "nothing"),
        ({"interval": "1x"}, "fixedInterval"),
        ({"metrics": "temperature: median"}, "metrics"),
        ({"store": "other"}, "other"),
        ({"start": "yesterday"}, "start"),
    ],
)
async def test_what_is_wrong_is_said_and_the_manifest_shown(
    browser: Browser, change: dict[str, str], says: str
) -> None:
    page = await send(browser, **FILLED | change)
    assert (page.status, says in page.words('role="alert"')) == (400, True)
    assert 'id="manifest"' in page.text


async def test_what_the_api_server_would_refuse_is_said(browser: Browser, cluster: Cluster) -> None:
    cluster.fail_check = KubeError(422, "Invalid", "metadata.name: Invalid value: Sensor")
    page = await send(browser, **FILLED)
    assert (page.status, "Invalid value: Sensor" in page.words('role="alert"')) == (400, True)


async def test_a_store_s_trouble_is_for_those_who_may_read_stores(
    browser: Browser, cluster: Cluster, access: Anybody
) -> None:
    cluster.shelf.fail = StoreUnavailable("https://bob:hunter2@search.example refused")
    assert "search.example" in (await send(browser, **FILLED)).text
    access.reads_stores = False
    page = await send(browser, **FILLED)
    assert (page.status, "search.example" in page.text) == (503, False)


async def test_it_is_for_those_who_may_create_jobs(browser: Browser, cluster: Cluster, access: Anybody) -> None:
    cluster.create("sensor")
    csrf = (await browser.get(NEW)).csrf
    assert NEW in (await browser.get("/ui/namespaces/default/jobs")).text
    access.denied = {(EndpointAction.CREATE, "")}
    assert NEW not in (await browser.get("/ui/namespaces/default/jobs")).text
    assert (await browser.get(NEW)).status == 403
    for form in (FILLED, {"name": "x" * 20_000}):
        page = await browser.post(NEW, {"csrf": csrf, **form})
        assert (page.status, page.words('role="alert"')[:11]) == (403, "Not allowed")
    assert cluster.shelf.previewed == []


async def test_it_takes_the_token_of_the_form(browser: Browser, cluster: Cluster) -> None:
    assert (await browser.post(NEW, {"csrf": "guess", **FILLED})).status == 403
    csrf = (await browser.get(NEW)).csrf
    assert (await browser.post(NEW, {"csrf": csrf, **FILLED}, Sec_Fetch_Site="cross-site")).status == 403
    assert cluster.shelf.previewed == []


async def test_what_somebody_writes_is_text(browser: Browser) -> None:
    page = await browser.post(NEW, {"csrf": (await browser.get(NEW)).csrf, **dict.fromkeys(FILLED, HOSTILE)}, **OWN)
    assert (page.status, HOSTILE in page.text, HOSTILE in unescape(page.text)) == (400, False, True)


# What the form means, without a server


def test_every_field_has_its_place() -> None:
    more = {
        "store": "search", "terms": "sensor, room,", "time_zone": "Europe/Berlin", "delay": "10m", "lookback": "6h",
        "start": "2024-01-01T00:00:00Z", "end": "2025-01-01T00:00:00Z", "started": "yes",
    }  # fmt: skip
    body = manifest_of(FILLED | more, "team")
    assert body["metadata"] == {"name": "sensor-hourly", "namespace": "team"}
    assert body["spec"] == {
        "indexPattern": "sensor-*",
        "rollupIndex": "sensor_rollup",
        "cron": "0 0 * * * ?",
        "storeRef": {"name": "search"},
        "groups": {
            "dateHistogram": {
                "field": "timestamp", "fixedInterval": "1h", "timeZone": "Europe/Berlin", "delay": "10m",
            },
            "terms": {"fields": ["sensor", "room"]},
        },
        "metrics": [
            {"field": "temperature", "metrics": ["min", "max"]},
            {"field": "load", "metrics": ["sum"]},
        ],
        "start": "2024-01-01T00:00:00Z",
        "end": "2025-01-01T00:00:00Z",
        "lookback": "6h",
        "desiredState": "started",
    }  # fmt: skip
    assert problems(body["spec"]) == []


def test_a_calendar_unit_is_no_fixed_interval() -> None:
    date = manifest_of(FILLED | {"interval": "month"}, "team")["spec"]["groups"]["dateHistogram"]
    assert date == {"field": "timestamp", "calendarInterval": "month"}


def test_a_field_may_have_colons() -> None:
    [metric] = manifest_of({"metrics": "a:b: avg"}, "team")["spec"]["metrics"]
    assert metric == {"field": "a:b", "metrics": ["avg"]}
    [nameless] = manifest_of({"metrics": "avg"}, "team")["spec"]["metrics"]
    assert nameless == {"field": "", "metrics": ["avg"]}


def test_nothing_is_filled_in() -> None:
    assert manifest_of({}, "team")["spec"] == {"groups": {"dateHistogram": {}}}


def test_commands_cannot_be_led_astray() -> None:
    lines = dict(commands(manifest_of(FILLED | {"name": "'; reboot"}, "team"), "team"))
    assert """"'"'"'; reboot""" in lines["Preview it by the HTTP API"]


def previewed(*sources: dict[str, Any]) -> dict[str, Any]:
    return {
        "preview": [{"_id": "x", "_source": source} for source in sources],
        "estimate": {"source_documents": 1, "buckets": 1, "pages": 1, "time_in_ms": 3},
        "source": {"columns": {}, "csv": []},
        "notes": [],
        "range": {"gte": None, "lt": "2024-01-01T00:00:00Z"},
    }


def test_the_first_documents_are_a_table_with_averages_divided() -> None:
    spec = manifest_of(FILLED | {"terms": "room", "metrics": "temperature: max, avg"}, "team")["spec"]
    source = {
        "timestamp.date_histogram.timestamp": 1_388_530_800_000, "timestamp.date_histogram._count": 1200,
        "room.terms.value": None, "temperature.max.value": 31.5,
        "temperature.avg.value": 6266.0, "temperature.avg._count": 300.0,
    }  # fmt: skip
    shown = PreviewShown.of(previewed(source), spec)
    assert shown.heads == ["TIME", "room", "count", "max:temperature", "avg:temperature"]
    assert shown.buckets == [["2013-12-31T23:00:00Z", "-", "1,200", "31.5", "20.8867"]]
    assert '"temperature.avg.value": 6266.0' in shown.documents[0]
    assert (PreviewShown.of(previewed(), spec).heads, PreviewShown.of(previewed(), spec).documents) == ([], [])


def test_a_large_preview_makes_a_small_page() -> None:
    date = {"timestamp.date_histogram.timestamp": 0, "timestamp.date_histogram._count": 1}
    fields = {f"field-{n}-{'x' * 500}.terms.value": "y" * 50_000 for n in range(200)}
    spec = manifest_of(FILLED | {"terms": ",".join(name.removesuffix(".terms.value") for name in fields)}, "team")[
        "spec"
    ]
    found: dict[str, Any] = {
        "preview": [{"_id": "x", "_source": {"text": "y" * 50_000} | date | fields}] * 100,
        "estimate": {"source_documents": 1, "buckets": 1, "pages": 1, "time_in_ms": 3},
        "source": {"columns": {f"column-{n}-{'x' * 50_000}": "long" for n in range(1_000)}, "csv": []},
        "notes": [],
        "range": {"gte": None, "lt": "2024-01-01T00:00:00Z"},
    }
    shown = PreviewShown.of(found, spec)
    assert (len(shown.documents), len(shown.columns), shown.columns[-1]) == (
        MOST_DOCUMENTS, MOST_COLUMNS + 1, f"and {1_000 - MOST_COLUMNS} more",
    )  # fmt: skip
    assert sum(map(len, shown.documents)) < 12_000
    assert (len(shown.heads), len(shown.buckets)) == (MOST_HEADS, MOST_BUCKETS)
    assert sum(len(cell) for row in [shown.heads, *shown.buckets] for cell in row) < 15_000
    assert sum(map(len, shown.columns)) < 20_000
