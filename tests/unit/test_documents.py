import math

import pytest

from rollup_operator.indexer.documents import Layout, document, document_id

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
