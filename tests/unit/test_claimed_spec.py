"""What of a spec that this version cannot read still says which claim is to be settled."""

from typing import Any

import pytest

from rollup_operator.model.job_view import JobView
from support.bodies import job

WHOLE: dict[str, Any] = job(rollupIndex="hourly")["spec"]


def view(**changes: Any) -> JobView:
    spec = {field: value for field, value in (WHOLE | changes).items() if value is not None}
    return JobView.of({"metadata": {"uid": "u", "namespace": "n", "name": "j", "resourceVersion": "1"}, "spec": spec})


def test_a_spec_that_can_be_read_is_as_it_is() -> None:
    assert view().claimed_spec() == view().spec()


@pytest.mark.parametrize(
    "changes",
    [
        {"pageSize": 20_000},
        {"cron": 5},
        {"cron": None, "indexPattern": None},
        {"groups": None},
        {"groups": {"dateHistogram": {}}},
        {"metrics": [{"field": "distance", "metrics": ["median"]}]},
        {"deletionPolicy": "Archive", "parallelism": "all"},
        {"jobId": "x" * 600},
    ],
)
def test_what_cannot_be_read_hides_no_claim(changes: dict[str, Any]) -> None:
    spec = view(**changes).claimed_spec()
    assert spec is not None
    assert spec.rollup_index == "hourly"


@pytest.mark.parametrize("index", ["x" * 300, "Upper"])
def test_the_rollup_index_is_as_written_even_where_this_version_refuses_it(index: str) -> None:
    spec = view(rollupIndex=index, pageSize=0).claimed_spec()
    assert spec is not None
    assert spec.rollup_index == index


@pytest.mark.parametrize("index", [None, "", 7, ["hourly"]])
def test_without_a_rollup_index_nothing_was_claimed(index: object) -> None:
    assert view(rollupIndex=index).claimed_spec() is None


def test_readable_fields_are_kept() -> None:
    spec = view(pageSize=-1, groups=WHOLE["groups"]).claimed_spec()
    assert spec is not None
    assert spec.groups.date_histogram.field == "time_hour"
