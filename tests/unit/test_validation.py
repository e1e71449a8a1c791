"""What the operator says of a spec that it cannot use."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.model.conditions import Reason, verdict
from rollup_operator.model.job_view import JobView
from rollup_operator.model.schedule import Schedule
from rollup_operator.model.validation import InvalidSpec, Problem, check, problems
from support import bodies
from support.refusals import BY_BOTH, Refusal, date, metric


def view(spec: Any) -> JobView:
    meta = {"uid": "u", "namespace": "n", "name": "job", "generation": 1, "resourceVersion": "5"}
    return JobView.of({"metadata": meta, "spec": spec})


def test_a_good_spec_gives_spec_and_schedule():
    spec, schedule = check(view(bodies.job(cron="0 0 3 L * ?")["spec"]))
    assert spec.page_size == 5000
    assert schedule == Schedule.parse("0 0 3 L * ?")


@pytest.mark.parametrize("case", BY_BOTH, ids=lambda case: case.name)
def test_what_the_crd_refuses_is_refused_here_too(case: Refusal):
    found = problems(bodies.job(**case.spec)["spec"])
    assert any(p.field == case.field or p.field.startswith((f"{case.field}[", f"{case.field}.")) for p in found), found


ONLY_HERE = {
    "cron": ({"cron": "*/5 * * * *"}, "spec.cron", "expression: '*/5 * * * *' has 5 fields"),
    "cron-part": ({"cron": "0 99 * * * ?"}, "spec.cron", "minutes: '99'"),
    "zone": ({"groups": date(timeZone="Mars/Base")}, "spec.groups.dateHistogram.timeZone", "use an IANA name"),
    "week": ({"groups": date(fixedInterval="1w")}, "spec.groups.dateHistogram.fixedInterval", "set calendarInterval"),
    "interval": ({"groups": date(fixedInterval="40000d")}, "spec.groups.dateHistogram.fixedInterval", "at most 36500d"),
    "delay": ({"groups": date(delay="99999999h")}, "spec.groups.dateHistogram.delay", "at most 36500d"),
    "start-before-1970": ({"start": "1969-12-31T23:59:59Z"}, "spec.start", "use 1970-01-01T00:00:00Z or later"),
    "end-late": ({"end": "3000-01-01T00:00:00Z"}, "spec.end", "use a year up to 2999"),
    "lookback": ({"lookback": "40000d"}, "spec.lookback", "at most 36500d"),
    "verify-cron": ({"verify": {"cron": "0 0 3 32 * ?"}}, "spec.verify.cron", "day of month: '32'"),
    "verify-lookback": (
        {"verify": {"cron": "0 0 3 * * ?", "lookback": "40000d"}},
        "spec.verify.lookback",
        "at most 36500d",
    ),
    "capital": ({"rollupIndex": "tÄglich"}, "spec.rollupIndex", "'täglich' would do"),
    "bytes": ({"rollupIndex": "ä" * 128}, "spec.rollupIndex", "255 bytes"),
    "sum-of-date": (
        {"metrics": metric(field="time_hour", metrics=["max", "sum", "avg"])},
        "spec.metrics[0].metrics",
        "a date has no sum and no avg: of 'time_hour' keep only min, max, value_count",
    ),
}


@pytest.mark.parametrize("name", ONLY_HERE)
def test_what_only_the_operator_can_see(name: str):
    spec, field, text = ONLY_HERE[name]
    found = problems(bodies.job(**spec)["spec"])
    assert [problem.field for problem in found] == [field]
    assert text in found[0].message


def test_every_problem_is_named_at_once():
    spec = bodies.job(
        cron="x", rollupIndex="UP", groups=date(timeZone="Mars", delay="soon") | {"terms": {"fields": ["a", "a"]}}
    )["spec"]
    with pytest.raises(InvalidSpec) as error:
        check(view(spec))
    at = "spec.groups.dateHistogram"
    fields = ["spec.rollupIndex", "spec.cron", f"{at}.delay", f"{at}.timeZone", "spec.groups.terms.fields[1]"]
    assert [problem.field for problem in error.value.problems] == fields
    assert all(f"{field}: " in str(error.value) for field in fields)


def test_a_bad_cron_shows_beside_a_missing_field():
    found = problems(bodies.job(cron="x", rollupIndex=None)["spec"])
    assert [problem.field for problem in found] == ["spec.rollupIndex", "spec.cron"]
    assert found[0].message == "is required"


def test_what_was_given_is_shown_as_in_a_manifest():
    spec = bodies.job(desiredState="Stopped", pageSize=0, groups=7, metrics=[{"field": None, "metrics": ["min"]}])[
        "spec"
    ]
    assert [str(problem) for problem in problems(spec)] == [
        "spec.desiredState: should be 'started' or 'stopped'; it is \"Stopped\"",
        "spec.pageSize: should be greater than or equal to 1; it is 0",
        "spec.groups: must be an object; it is 7",
        "spec.metrics[0].field: should be a valid string; it is null",
    ]


def test_a_message_fits_into_a_condition():
    fields = [f"{'x' * 500}{n}" for n in range(60)]
    spec = bodies.job(groups=date() | {"terms": {"fields": fields + fields[:4]}}, cron="y" * 256)["spec"]
    spec["metrics"] = [{"field": "f", "metrics": ["min", "min"]} for _ in range(200)]
    with pytest.raises(InvalidSpec) as error:
        check(view(spec))
    conditions = verdict(
        ready=False, stalled=True, reason=Reason.INVALID_SPEC, message=str(error.value),
        generation=1, now="2026-01-01T00:00:00Z", before=[],
    )  # fmt: skip
    assert [condition.type for condition in conditions] == ["Ready", "Stalled"]
    assert "more" in str(error.value)


def test_a_problem_reads_as_field_and_cure():
    assert str(Problem("spec.cron", "is wrong")) == "spec.cron: is wrong"


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    *("desiredState", "jobId", "storeRef", "indexPattern", "rollupIndex", "cron", "pageSize", "drainTimeoutSeconds"),
    *("groups", "metrics", "deletionPolicy", "name", "field", "fields", "dateHistogram", "terms", "timeZone", "delay"),
]


@given(junk | st.dictionaries(st.sampled_from(NAMES), junk))
def test_junk_is_refused_and_hides_no_wish(spec: Any):
    assert problems(spec)
    with pytest.raises(InvalidSpec):
        check(view(spec))


@given(st.sampled_from(NAMES), junk, st.sampled_from(["spec", "groups", "dateHistogram"]))
def test_one_junk_field_breaks_nothing(name: str, value: Any, where: str):
    spec = bodies.job()["spec"]
    part = {"spec": spec, "groups": spec["groups"], "dateHistogram": spec["groups"]["dateHistogram"]}[where]
    part[name] = value
    for problem in problems(spec):
        assert problem.field.startswith("spec")
        assert problem.message
