import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.rollup.comparison import bucket_of
from rollup_operator.rollup.documents import Layout, document, document_id

LAYOUT = Layout(
    job_id="sensor",
    date_field="timestamp",
    interval="1h",
    time_zone="UTC",
    histogram_fields=("load",),
    histogram_interval=5,
    terms_fields=("node",),
    metrics=(("temperature", ("min", "max", "sum", "avg", "value_count")), ("voltage", ("avg", "max"))),
)
VALUES = {
    "temperature.min.value": 1.0,
    "temperature.max.value": 3.0,
    "temperature.sum.value": 4.0,
    "temperature.avg.value": 4.0,
    "temperature.avg._count": 2,
    "temperature.value_count.value": 2,
    "voltage.avg.value": 0.0,
    "voltage.avg._count": 0,
    "voltage.max.value": None,
}


def test_the_id_is_elasticsearchs() -> None:
    keys = [("timestamp.date_histogram", 1483246800000), ("node.terms", "a")]
    assert document_id("sensor", keys) == "sensor$Yv8jA60Iiz8B9LqkarEl1w"
    assert document_id("sensor", reversed(keys)) == "sensor$Yv8jA60Iiz8B9LqkarEl1w"


def test_ids_tell_types_jobs_and_nulls_apart() -> None:
    keys = [1, 1.0, "1", None, "__NULL_PLACEHOLDER__", ""]
    ids = {document_id(job, [("t.date_histogram", 0), ("x.terms", k)]) for k in keys for job in ("a", "b")}
    assert len(ids) == 2 * len(keys)


PLACEHOLDER = "__NULL_PLACEHOLDER__830f1de2__"
"""What Elasticsearch hashes for a missing value."""
odd_texts = st.one_of(st.none(), st.sampled_from(["$", "", "a", "a$", "$a", PLACEHOLDER]), st.text("a$", max_size=5))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Outer$Inner", "run"), ("Outer", "Inner$run")),
        (("a", None), ("a", PLACEHOLDER)),
        ((None, "a"), (PLACEHOLDER, "a")),
        (("", "$"), ("$", "")),
        (("a", "b$job"), ("a$b", "job")),
    ],
)
def test_no_two_buckets_have_one_id(one: tuple[str | None, str | None], other: tuple[str | None, str | None]) -> None:
    def id_of(values: tuple[str | None, str | None]) -> str:
        return document_id("job", [("t.date_histogram", 0), *zip(("x.terms", "y.terms"), values, strict=True)])

    assert id_of(one) != id_of(other)


@given(st.lists(st.tuples(odd_texts, odd_texts, st.one_of(st.none(), st.integers(0, 9))), unique=True, max_size=60))
def test_ids_of_odd_texts_are_as_many_as_the_buckets(buckets: list[tuple[str | None, str | None, int | None]]) -> None:
    names = ("x.terms", "a.terms", "n.terms")
    ids = {document_id("j$", [("t.date_histogram", 0), *zip(names, keys, strict=True)]) for keys in buckets}
    assert len(ids) == len(buckets)


def test_an_id_is_elasticsearchs_wherever_that_is_the_only_one() -> None:
    """Pinned: an id that changed would write each document a second time."""
    keys = [("t.date_histogram", 1483246800000), ("n.terms", 7), ("x.terms", "ünï"), ("y.terms", None)]
    assert document_id("a$b", keys) == "a$b$t6fROn0IHG3gDaNYO_04sA"


@pytest.mark.parametrize(
    ("begin", "written"), [(-3_600_000, "1969-12-31T23:00:00Z"), (-1, "1969-12-31T23:59:59.999Z"), (0, 0)]
)
def test_a_cluster_would_take_a_negative_time_for_a_year(begin: int, written: str | int) -> None:
    _, source = document(LAYOUT, [begin, 5.0, None], 7, VALUES)
    assert source["timestamp.date_histogram.timestamp"] == written
    assert bucket_of(LAYOUT, source).key == (begin, 5.0, None)


def test_a_document_has_elasticsearchs_keys() -> None:
    identity, source = document(LAYOUT, [1483246800000, 5.0, None], 7, VALUES)
    assert identity.startswith("sensor$")
    assert source == {
        "timestamp.date_histogram.timestamp": 1483246800000,
        "timestamp.date_histogram.interval": "1h",
        "timestamp.date_histogram.time_zone": "UTC",
        "timestamp.date_histogram._count": 7,
        "load.histogram.value": 5.0,
        "load.histogram.interval": 5,
        "load.histogram._count": 7,
        "node.terms.value": None,
        "node.terms._count": 7,
        "temperature.min.value": 1.0,
        "temperature.max.value": 3.0,
        "temperature.sum.value": 4.0,
        "temperature.avg.value": 4.0,
        "temperature.avg._count": 2.0,
        "temperature.value_count.value": 2.0,
        "_rollup.id": "sensor",
        "_rollup.version": 2,
    }


def test_numbers_that_are_infinite_are_left_out() -> None:
    endless = {"temperature.sum.value": math.inf, "temperature.avg.value": math.inf, "voltage.max.value": -math.inf}
    _, source = document(LAYOUT, [1483246800000, 5.0, None], 7, VALUES | endless)
    assert {k for k in source if k.startswith(("temperature", "voltage"))} == {
        "temperature.min.value", "temperature.max.value", "temperature.value_count.value"
    }  # fmt: skip


def test_a_layout_survives_its_description() -> None:
    assert Layout.from_json(LAYOUT.to_json()) == LAYOUT


@pytest.mark.parametrize("broken", [{}, {"version": 1}, {**LAYOUT.to_json(), "terms": None}])
def test_a_description_that_cannot_be_read_says_so(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"version|incomplete"):
        Layout.from_json(broken)
