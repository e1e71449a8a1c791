"""Small texts of the plugin: durations, tables, names, owners, exit codes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.model.times import duration, instant_of, rfc3339_ms
from rollup_operator.plugin.cluster import name_of
from rollup_operator.plugin.outcome import Code, Failure
from rollup_operator.plugin.owners import applied_state, changed_at, gitops_owner, owners
from rollup_operator.plugin.preview import lines, manifest
from rollup_operator.plugin.results import JobOutcome, Result, code_of
from rollup_operator.plugin.text import ahead, seconds_of, table
from rollup_operator.plugin.views import listing, page, position
from support.observed_job import NOW, at, conditions, observed_job, run_ended


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("2h", 7200), ("1d", 86_400), ("0", 0), ("0s", 0), ("1.5m", 90)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "-1", "-5s", "s", "1 s", "10x", "1h-5m", "infinite"])
def test_what_is_no_duration_is_refused_with_what_would_do(text: str) -> None:
    with pytest.raises(ValueError, match="30s, 1m30s or 500ms"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"), (0.4, "0s"), (119, "119s"), (120, "2m"), (192, "3m12s"), (3599, "59m"),
        (5 * 3600 + 180, "5h3m"), (40 * 3600, "40h"), (12 * 86_400, "12d"),
    ],
)  # fmt: skip
def test_a_duration_is_written_as_kubectl_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 1e9))
def test_a_duration_is_short(seconds: float) -> None:
    assert 2 <= len(duration(seconds)) <= 6


def test_times_are_read_as_kubernetes_writes_them() -> None:
    assert instant_of("2030-01-01T12:00:00Z") == NOW
    assert instant_of("2030-01-01T12:00:00.123456Z") == NOW + timedelta(microseconds=123_456)
    assert (instant_of(None), instant_of("soon")) == (None, None)
    assert instant_of("2030-01-01T12:00:00") == datetime(2030, 1, 1, 12, tzinfo=UTC)
    assert ahead(NOW + timedelta(seconds=5), NOW) == "in 5s"
    assert ahead(NOW - timedelta(seconds=5), NOW) == "overdue for 5s"
    assert rfc3339_ms(1_388_530_800_000) == "2013-12-31T23:00:00Z"
    assert rfc3339_ms(1) == "1970-01-01T00:00:00.001Z"


def test_a_table_has_straight_columns() -> None:
    assert table(("A", "LONG"), [("x", "1"), ("longer", "")]) == [
        "A        LONG",
        "x        1",
        "longer   -",
    ]


@pytest.mark.parametrize(
    "word",
    ["flights", "rj/flights", "rollupjob/flights", "rollupjobs/flights", "rollupjob.rollup-operator.dev/flights"],
)
def test_a_name_may_be_typed_as_kubectl_prints_it(word: str) -> None:
    assert name_of(word) == "flights"


@pytest.mark.parametrize("word", ["", "..", "../pods/x", "pod/x", "Flights", "a b", "a?b", "-x", "rj/", "x" * 254])
def test_what_can_be_no_name_never_becomes_a_path(word: str) -> None:
    with pytest.raises(Failure, match="cannot be the name") as caught:
        name_of(word)
    assert caught.value.code is Code.USAGE


def test_who_asked_is_read_from_managed_fields() -> None:
    body = observed_job(manager="kustomize-controller", changed=-5)
    body["metadata"]["managedFields"] += [
        {"manager": "early", "time": at(-900), "fieldsV1": {"f:spec": {"f:desiredState": {}, "f:cron": {}}}},
        {"manager": "odd"},
    ]
    found = owners(body)
    assert [(owner.manager, owner.is_gitops) for owner in found] == [("kustomize-controller", True), ("early", False)]
    assert gitops_owner(found) == "kustomize-controller"
    assert gitops_owner(owners(observed_job())) is None
    assert changed_at(body) == instant_of(at(-5))
    assert changed_at(body, status=True) == instant_of(at(-60))
    assert owners({"metadata": {}}) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"spec": 3}', '{"spec": {"desiredState": 1}}'])
def test_an_annotation_that_cannot_be_read_says_nothing(text: str) -> None:
    body = {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": text}}}
    assert applied_state(body) is None


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([], Code.DONE),
        ([Code.DONE, Code.DONE], Code.DONE),
        ([Code.DONE, Code.TIMED_OUT, Code.TIMED_OUT], Code.TIMED_OUT),
        ([Code.TIMED_OUT, Code.NOT_FOUND], Code.FAILED),
    ],
)
def test_several_jobs_share_an_exit_code_or_fail(codes: list[Code], code: Code) -> None:
    assert code_of(Result("team", "x", JobOutcome.DONE, "", each) for each in codes) is code


def test_a_listing_shows_the_main_things() -> None:
    ran = observed_job(
        nextRunTime=at(40),
        watermark=at(-3600),
        lastRun=run_ended(),
        conditions=conditions("Running", "waiting " * 20, ready=True),
    )
    new = observed_job(name="new", desired=None, state=None, generation=1, observed=-1, created=-5)
    going = observed_job(name="going", deleting=-5, state="aborting", generation=4, observed=3)
    lines = listing([ran, new, going], NOW, wide=False, namespaces=True)
    assert lines[0].split()[:4] == ["NAMESPACE", "NAME", "ASKED", "STATE"]
    assert "team" in lines[1]
    for words in ("flights", "started", "True", at(-3600), "Completed 30s ago", "in 40s", "60m"):
        assert words in lines[1]
    assert [cell for cell in lines[2].split() if cell != "-"] == ["team", "new", "never", "Unknown", "5s"]
    assert lines[3].split()[2:5] == ["deleted", "aborting", "Unknown"]
    wide = listing([ran], NOW, wide=True, namespaces=False)
    for words in ("Running", "flights/*.parquet", "hourly", "kubectl-rollup", "..."):
        assert words in wide[1]


def test_a_page_shows_everything() -> None:
    body = observed_job(
        manager="argocd-controller",
        spec={"jobId": "Flights by hour"},
        conditions=conditions("StoreNotFound", "no store", since=-600),
        position={"carrier.terms": "WN", "time_hour.date_histogram": 1_388_530_800_000},
        lastRun=run_ended("Failed", "no store"),
        stats={"documentsProcessed": 7, "rollupsIndexed": 3, "pagesProcessed": 2, "triggerCount": 1},
    )
    text = "\n".join(f"{label}: {value}" for label, value in page(body, NOW))
    for words in (
        "Job: team/flights (id Flights by hour)",
        "Asked: started by argocd-controller (Git) 10m ago",
        "Ready: False StoreNotFound, since 10m ago",
        ": no store",
        "Position: time_hour 2013-12-31T23:00:00Z, carrier WN",
        "Last run: Failed 30s ago, took 5s",
        "Watermark: none",
        "Next run: none",
        "7 source documents, 3 rolled up, 2 pages, 1 runs",
    ):
        assert words in text
    lagging = dict(page(observed_job(generation=4, observed=3), NOW))
    assert "the operator has not seen 4 yet" in lagging["State"]
    assert position(None).startswith("none")


def test_progress_is_on_the_page_while_there_is_some() -> None:
    body = observed_job()
    assert "Progress" not in dict(page(body, NOW))
    body["status"]["progress"] = {"percent": 45, "remainingSeconds": 700}
    assert dict(page(body, NOW))["Progress"] == "45 %, about 11m left"
    del body["status"]["progress"]["remainingSeconds"]
    assert dict(page(body, NOW))["Progress"] == "45 %"


PREVIEWED = {
    "preview": [{"_id": "trips$1", "_source": {"_rollup.id": "trips"}}],
    "estimate": {"source_documents": 5000, "buckets": 40, "pages": 1, "time_in_ms": 90_000},
    "range": {"gte": None, "lt": "2024-03-01T00:00:00Z"},
}


def test_a_preview_is_shown_to_people() -> None:
    assert lines(PREVIEWED) == [
        ("Range", "the beginning to 2024-03-01T00:00:00Z"),
        ("Source", "5000 documents"),
        ("Would write", "about 40 documents, in 1 page and 90s"),
        ("Document", "trips$1"),
        ("", "{"),
        ("", '  "_rollup.id": "trips"'),
        ("", "}"),
    ]


def test_a_preview_names_what_one_might_not_expect() -> None:
    assert ("Note", "'n' is rounded") in lines({**PREVIEWED, "notes": ["'n' is rounded"]})


def test_how_a_source_is_read_is_shown_to_people() -> None:
    csv = {"delimiter": "\t", "header": True, "columns": {"t": "TIMESTAMP", "k": "VARCHAR"}}
    source = {"columns": {"t": "TIMESTAMP"}, "csv": [csv]}
    found = lines(PREVIEWED | {"preview": [], "source": source, "notes": ["v.sum is rounded"]})
    assert found[3:] == [
        ("Column", "t  TIMESTAMP"),
        ("CSV", "delimiter tab, a header; t TIMESTAMP, k VARCHAR"),
        ("Note", "v.sum is rounded"),
    ]


@pytest.mark.parametrize("text", ["", "kind: RollupStore", "- 1", "kind: RollupJob\n---\nkind: RollupJob", "\t{"])
def test_a_file_that_holds_no_one_job_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(Failure, match=r"RollupJobs|cannot be read") as failure:
        manifest(str(tmp_path / "job.yaml"))
    assert failure.value.code is Code.USAGE


def test_one_job_among_other_resources_is_found(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("kind: RollupStore\n---\nkind: RollupJob\nspec: {cron: x}\n---\n")
    assert manifest(str(tmp_path / "all.yaml")) == {"kind": "RollupJob", "spec": {"cron": "x"}}
