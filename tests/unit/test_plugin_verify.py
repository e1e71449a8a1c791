"""What the plugin says of a verification."""

from typing import Any

import pytest

from rollup_operator.explaining.findings import described, progress_of, remarks, verdict
from rollup_operator.model.job_view import JobView
from rollup_operator.plugin.outcome import Code, Failure
from rollup_operator.plugin.tables import Styled
from rollup_operator.plugin.verify import VerifyOptions, row, same

FOUND: dict[str, Any] = {
    "range": {"gte": "2013-06-01T00:00:00Z", "lt": "2013-07-01T00:00:00Z"},
    "rolled_up_to": "2014-01-01T00:00:00Z",
    "full": True,
    "days": {"total": 30, "compared": 30, "with_findings": 0},
    "buckets": {"compared": 3391, "differs": 0, "missing": 0, "extra": 0, "duplicate": 0},
}


def test_options_become_a_request() -> None:
    assert VerifyOptions().body() == {}
    whole = VerifyOptions("2013-06-01", "now", ["distance"], full=False).body()
    assert whole == {"from": "2013-06-01", "to": "now", "fields": ["distance"], "full": False}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "3,391 buckets of 30 days are equal"),
        (
            {"buckets": FOUND["buckets"] | {"differs": 1, "missing": 2, "duplicate": 1}},
            "of 3,391 buckets compared, 1 differs, 2 are missing, 1 is stored twice",
        ),
        ({"days": {"total": 30, "compared": 0, "with_findings": 0}}, "the counts of 30 days are equal"),
    ],
)
def test_a_sentence_says_what_was_found(changes: dict[str, Any], said: str) -> None:
    assert verdict(FOUND | changes) == f"{said} (from 2013-06-01T00:00:00Z to 2013-07-01T00:00:00Z)"


@pytest.mark.parametrize(
    ("until", "said"),
    [(None, "nothing is rolled up yet"), ("2013-01-01T00:00:00Z", "nothing of that time is rolled up")],
)
def test_what_is_not_rolled_up_has_nothing_to_compare(until: str | None, said: str) -> None:
    assert verdict(FOUND | {"range": {"gte": None, "lt": None}, "rolled_up_to": until}) == said


def test_what_counts_do_not_see_is_said() -> None:
    assert remarks(FOUND, "--full") == []
    counted = FOUND | {"full": False, "days": {"total": 30, "compared": 1, "with_findings": 1}}
    (said,) = remarks(counted, "--full")
    assert said.startswith("of 29 days only the number of rows was compared")
    assert remarks(FOUND | {"buckets": FOUND["buckets"] | {"extra": 1}}, "--full")[0].startswith(
        "extra: the source has fewer"
    )


def test_a_finding_names_its_bucket_and_both_numbers() -> None:
    example = {
        "kind": "differs",
        "_id": "flights$1",
        "key": {"at.date_histogram": "2013-06-03T05:00:00Z", "carrier.terms": "UA", "origin.terms": None},
        "fields": [{"field": f"{name}.max.value", "stored": 2454.0, "recomputed": None} for name in "abcd"],
    }
    assert described(example) == (
        "differs: 2013-06-03T05:00:00Z carrier=UA origin=missing: a.max is 2,454, the source gives none; "
        "b.max is 2,454, the source gives none; c.max is 2,454, the source gives none; and 1 more number"
    )


def test_a_repair_does_not_act_on_a_job_that_has_taken_the_name() -> None:
    verified, newer, other = (body(uid, version) for uid, version in (("u", 1), ("u", 2), ("v", 3)))
    assert same(verified, newer) is newer
    with pytest.raises(Failure, match="the job was replaced meanwhile, and no run is requested of it") as failed:
        same(verified, other)
    assert failed.value.code is Code.NOT_FOUND


def body(uid: str, version: int) -> JobView:
    meta = {"uid": uid, "namespace": "n", "name": "j", "generation": version, "resourceVersion": str(version)}
    return JobView.of({"metadata": meta})


def test_a_day_is_a_line() -> None:
    day = {"gte": "2013-06-03T00:00:00Z", "lt": "2013-06-04T00:00:00Z", "source_documents": 988}
    day |= {"rolled_up_documents": 987, "differs": 1, "missing": 0, "extra": 0, "duplicate": 0}
    shown = [(cell.text, cell.colour) if isinstance(cell, Styled) else cell for cell in row(day)]
    assert shown == ["2013-06-03", "988", "987", ("1", "red"), *[("0", None)] * 3]


def test_progress_is_a_line() -> None:
    progress = {"doing": "comparing buckets", "percent": 51, "days": 2, "buckets": 1200, "findings": 1}
    assert progress_of(progress) == ("comparing buckets  1,200 buckets  1 finding", 51)
    assert progress_of(progress | {"buckets": 0, "findings": 0})[0] == "comparing buckets"
