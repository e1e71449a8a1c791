"""What is shown of a store: the status of a RollupStore, and what its jobs are told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollup_operator.lifecycle.stores.status import store_status, trouble_of
from rollup_operator.model.conditions import Reason
from rollup_operator.stores.base import Checkup
from rollup_operator.stores.errors import SecretInvalid, StoreError, StoreUnavailable, StoreUnsuitable
from rollup_operator.stores.opensearch.store import version_of
from rollup_operator.stores.opensearch.transport.answers import Value

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def status(
    shown: dict[str, Any] | None = None,
    found: Checkup | None = None,
    problem: StoreError | None = None,
    *,
    distribution: str | None = "opensearch",
    later: int = 0,
) -> dict[str, Any]:
    now = NOW + timedelta(seconds=later)
    return store_status(shown or {}, generation=3, distribution=distribution, found=found, problem=problem, now=now)


def words(of: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in of["conditions"]}


GOOD = status(found=Checkup("3.8.0", "green"))


def test_a_store_that_can_be_used():
    assert words(GOOD) == {"Ready": ("True", "Available", "connected to OpenSearch 3.8.0")}
    assert (GOOD["distribution"], GOOD["version"], GOOD["health"]) == ("opensearch", "3.8.0", "green")
    assert GOOD["observedGeneration"] == 3
    embedded = status(found=Checkup("2.0"), distribution="duckdb")
    assert "health" not in embedded
    assert words(embedded) == {"Ready": ("True", "Available", "the database can be used")}


def test_nothing_changes_while_nothing_changes():
    assert status(GOOD, Checkup("3.8.0", "green"), later=30) == GOOD


def test_a_store_that_does_not_answer_keeps_its_version_and_not_its_health():
    bad = status(GOOD, problem=StoreUnavailable("gone"), later=30)
    assert words(bad) == {
        "Ready": ("False", "StoreUnavailable", "gone"),
        "Reconciling": ("True", "StoreUnavailable", "gone"),
    }
    assert (bad["distribution"], bad["version"]) == ("opensearch", "3.8.0")
    assert "health" not in bad
    assert bad["conditions"][0]["lastTransitionTime"] == "2026-01-02T03:04:35Z"


def test_a_version_of_something_else_is_not_kept():
    assert "version" not in status(GOOD, problem=StoreUnavailable("gone"), distribution="elasticsearch")


def test_what_only_a_person_can_mend_is_stalled():
    bad = status(problem=StoreUnsuitable("spec.opensearch.hosts[0]: no"))
    assert set(words(bad)) == {"Ready", "Stalled"}
    assert words(bad)["Stalled"] == ("True", "InvalidSpec", "spec.opensearch.hosts[0]: no")


def test_numbers_alone_are_no_change():
    first = status(problem=StoreUnavailable("data would be [123/1.5kb], larger than [100/1kb]"))
    again = status(first, problem=StoreUnavailable("data would be [99/9.5kb], larger than [100/1kb]"), later=10)
    assert again == first
    other = status(first, problem=StoreUnavailable("no answer within 10 s"), later=10)
    assert words(other)["Ready"][2] == "no answer within 10 s"
    mended = status(first, problem=SecretInvalid("data would be [99/9.5kb], larger than [100/1kb]"), later=10)
    assert words(mended)["Ready"][1] == "SecretInvalid"


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (StoreUnavailable("x"), Reason.STORE_UNAVAILABLE),
        (SecretInvalid("x"), Reason.SECRET_INVALID),
        (StoreUnsuitable("x"), Reason.STORE_UNAVAILABLE),
    ],
)
def test_a_job_reports_the_trouble_of_its_store_and_never_stalls_by_it(problem: StoreError, reason: Reason):
    trouble = trouble_of("search", problem)
    assert (trouble.reason, trouble.message, trouble.transient) == (reason, "RollupStore 'search': x", True)


def about(number: object, **more: str) -> dict[str, Any]:
    return {"version": {"number": number, **more}, "tagline": "You Know, for Search"}


OPENSEARCH = {"distribution": "opensearch"}


@pytest.mark.parametrize(
    ("kind", "first_page"),
    [
        ("opensearch", about("1.0.0", **OPENSEARCH)),
        ("opensearch", about("3.8.0", **OPENSEARCH)),
        ("opensearch", about("7.10.2", **OPENSEARCH)),  # as some say for the sake of old clients
        ("elasticsearch", about("7.10.2", build_flavor="oss")),
        ("elasticsearch", about("9.2.0", build_flavor="default")),
    ],
)
def test_a_version_that_can_be_used(kind: Any, first_page: dict[str, Any]):
    assert version_of(Value(first_page, "asking"), kind) == first_page["version"]["number"]


@pytest.mark.parametrize(
    ("kind", "first_page", "text"),
    [
        (
            "opensearch",
            about("7.17.1"),
            "lead to Elasticsearch 7.17.1: .* spec.elasticsearch in place of spec.opensearch",
        ),
        ("elasticsearch", about("2.19.1", **OPENSEARCH), "lead to OpenSearch 2.19.1"),
        ("elasticsearch", about("7.9.3"), "is Elasticsearch 7.9.3: 7.10 or newer is needed"),
        ("elasticsearch", about("6.8.23"), "is Elasticsearch 6.8.23: 7.10 or newer is needed"),
    ],
)
def test_a_cluster_that_cannot_be_used(kind: Any, first_page: dict[str, Any], text: str):
    with pytest.raises(StoreUnsuitable, match=text):
        version_of(Value(first_page, "asking"), kind)


@pytest.mark.parametrize(
    "first_page",
    [
        None,
        [],
        {},
        {"version": "1"},
        about(None),
        about("soon"),
        about(7),
        about("2.1" + 500 * "1"),
        about("2.1\x1b[31m"),
    ],
)
def test_what_is_no_cluster_may_become_one(first_page: object):
    with pytest.raises(StoreUnavailable, match=r"does it lead to a cluster|is not the answer of a cluster"):
        version_of(Value(first_page, "asking"), "opensearch")
