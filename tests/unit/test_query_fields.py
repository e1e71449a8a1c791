"""What clients are shown of fields before they search."""

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.query.fields import field_caps, field_mappings, fields_of, kinds_of, mappings
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.search import FieldKind, Tier

SPEC = RollupJobSpec.model_validate(
    {
        "indexPattern": "flights-*",
        "rollupIndex": "flights",
        "cron": "0 * * * * ?",
        "groups": {
            "dateHistogram": {"field": "at", "fixedInterval": "1h"},
            "terms": {"fields": ["origin", "origin.keyword", "plane.seats"]},
        },
        "metrics": [{"field": "delay", "metrics": ["avg"]}, {"field": "plane.seats", "metrics": ["max"]}],
    }
)
KINDS: dict[str, FieldKind] = {"at": "date", "origin": "keyword", "origin.keyword": "keyword", "plane.seats": "long"}
FLIGHTS = fields_of([Tier(("flights", "f"), SPEC, 0, 0, KINDS)])


def caps(kind: str, **more: object) -> dict[str, object]:
    return {kind: {"type": kind, "metadata_field": False, "searchable": True, "aggregatable": True, **more}}


def test_groups_and_metrics_are_the_fields_under_the_sources_names() -> None:
    assert FLIGHTS == {**KINDS, "delay": "double"}


def test_whole_numbers_are_times_in_the_field_of_time_alone() -> None:
    """A database can take any column of whole numbers for a job's time."""
    number = SourceField(frozenset({"long"}), tells_time=True)
    fields = {"at": number, "code": number, "day": SourceField(frozenset({"date"}), tells_time=True)}
    assert kinds_of(fields, "at") == {"at": "date", "code": "long", "day": "date"}


def test_field_caps_show_the_wanted_fields_by_type() -> None:
    assert field_caps([("flights", FLIGHTS)], ["at", "d*", "none"]) == {
        "indices": ["flights"],
        "fields": {"at": caps("date"), "delay": caps("double")},
    }


def test_field_caps_name_the_indices_where_types_differ() -> None:
    found = field_caps([("a", {"x": "long"}), ("b", {"x": "keyword"}), ("c", {"x": "long"})], ["*"])
    assert found["fields"] == {
        "x": {
            "long": caps("long", indices=["a", "c"])["long"],
            "keyword": caps("keyword", indices=["b"])["keyword"],
        }
    }


def test_a_mapping_has_objects_for_dots_and_fields_below_fields() -> None:
    assert mappings([("flights", FLIGHTS)]) == {
        "flights": {
            "mappings": {
                "properties": {
                    "at": {"type": "date"},
                    "delay": {"type": "double"},
                    "origin": {"type": "keyword", "fields": {"keyword": {"type": "keyword"}}},
                    "plane": {"properties": {"seats": {"type": "long"}}},
                }
            }
        }
    }


def test_field_mappings_are_keyed_by_the_full_name() -> None:
    assert field_mappings([("flights", FLIGHTS), ("other", {})], ["plane.*", "at"]) == {
        "flights": {
            "mappings": {
                "at": {"full_name": "at", "mapping": {"at": {"type": "date"}}},
                "plane.seats": {"full_name": "plane.seats", "mapping": {"seats": {"type": "long"}}},
            }
        },
        "other": {"mappings": {}},
    }
