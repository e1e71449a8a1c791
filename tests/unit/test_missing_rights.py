"""What the log tells of rights and resources that the operator lacks."""

import pytest
from structlog.testing import capture_logs

from rollup_operator.kube.forbidden import LOG_EVERY, MissingRights

ONE = (
    'rollupjobs.rollup-operator.dev "{name}" is forbidden: User "system:serviceaccount:ops:operator" cannot update '
    'resource "rollupjobs/status" in API group "rollup-operator.dev" in the namespace "team-a"'
)
EVERYWHERE = (
    'rollupjobs.rollup-operator.dev is forbidden: User "system:serviceaccount:ops:operator" cannot list '
    'resource "rollupjobs" in API group "rollup-operator.dev" at the cluster scope'
)
QUOTA = 'rollupjobs.rollup-operator.dev "a" is forbidden: exceeded quota: jobs, requested: 1, used: 10, limited: 10'


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (
            ONE.format(name="a"),
            {"verb": "update", "resource": "rollupjobs/status", "group": "rollup-operator.dev", "namespace": "team-a"},
        ),
        (EVERYWHERE, {"verb": "list", "resource": "rollupjobs", "group": "rollup-operator.dev"}),
    ],
)
def test_a_missing_right_is_named(message: str, named: dict[str, str]) -> None:
    with capture_logs() as logs:
        MissingRights().log_refusal(message)
    [line] = logs
    assert line["event"] == "a right is missing"
    assert "docs/rights.md" in line["cure"]
    assert {key: line.get(key) for key in ("verb", "resource", "group", "namespace") if key in line} == named


def test_what_is_forbidden_for_another_reason_is_reported_as_the_server_says_it() -> None:
    with capture_logs() as logs:
        MissingRights().log_refusal(QUOTA)
    assert [(line["event"], line["problem"]) for line in logs] == [("the API server forbids it", QUOTA)]


def test_a_right_missing_for_many_objects_is_reported_once_a_minute() -> None:
    clock = Clock()
    missing = MissingRights(clock)
    with capture_logs() as logs:
        for number in range(100):
            missing.log_refusal(ONE.format(name=number))
        missing.log_refusal(EVERYWHERE)
        clock.now += LOG_EVERY
        missing.log_refusal(ONE.format(name="a"))
    assert [line["verb"] for line in logs] == ["update", "list", "update"]
