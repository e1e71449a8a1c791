"""The parts of a cluster's claims, gates and rollup indices that need no cluster."""

import re
import time
from dataclasses import replace
from typing import Any

import pytest

from rollup_operator.model.job import RollupIndexSettings
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.opensearch import records
from rollup_operator.stores.opensearch.quiet import is_of, opaque_id
from rollup_operator.stores.opensearch.target import gate, mapping
from rollup_operator.stores.opensearch.tiers import readable_spec
from rollup_operator.stores.opensearch.transport.answers import Value
from support.embedded import config, spec

JOB = config(spec())


def test_no_two_jobs_share_a_record_or_a_gate() -> None:
    keys = [("a", "b/c"), ("a", "b"), ("ab", "c"), ("a", "x" * 600), ("a", "x" * 599 + "y"), ("a", "ü" * 300)]
    ids = {records.document_id(key) for key in keys}
    assert len(ids) == len(keys)
    assert all(len(id_.encode()) <= 512 for id_ in ids)
    assert len({gate.gate_name(key, 1) for key in keys}) == len(keys)


@pytest.mark.parametrize(
    ("date", "read"),
    [
        ({"fixed_interval": "1h"}, ("1h", None)),
        ({"interval": "60m", "time_zone": "Europe/Berlin"}, ("60m", None)),
        ({"interval": "1M"}, (None, "1M")),
        ({"interval": "hour"}, (None, "hour")),  # until Elasticsearch 7.2
        ({"fixed_interval": "hour"}, None),
        ({"fixed_interval": "0s"}, None),
        ({"fixed_interval": "99999999999d"}, None),
        ({"fixed_interval": "1h", "time_zone": "Mars"}, None),
        ({"fixed_interval": "1h", "delay": "x"}, None),
        ({"interval": 5}, None),
        ({}, None),
    ],
)
def test_what_an_index_says_of_its_jobs_is_read_or_left_out(
    date: dict[str, object], read: tuple[str | None, str | None] | None
) -> None:
    """Whoever may write to the cluster wrote it, and all jobs of the index are searched together."""
    told = {"index_pattern": "logs", "groups": {"date_histogram": {"field": "at", **date}}, "metrics": []}
    found = readable_spec({"_meta": {"_rollup": {"old": told}}}, "rolled", "old", None)
    group = None if found is None else found.groups.date_histogram
    assert (None if group is None else (group.fixed_interval, group.calendar_interval)) == read


def test_a_gate_is_closed_by_later_epochs_only() -> None:
    key, other = ("a", "b"), ("a", "c")
    mine = [gate.gate_name(key, epoch) for epoch in (9, 10, 11)]
    aliases = [*mine, gate.gate_name(other, 9), "logs", f"{mine[0]}x", ""]
    assert gate.earlier(key, aliases, 11) == mine[:2]
    assert gate.earlier(key, aliases, 9) == []


def test_an_epoch_is_the_time_or_higher() -> None:
    record = records.claimed(records.first(JOB, 1000.9), JOB, "me", 1000.9)
    assert record.claim.epoch == 1000
    assert records.next_epoch(record, "me", 1000.0).claim.epoch == 1001
    assert records.next_epoch(record, "me", 5.0).claim.epoch == 1001
    assert records.next_epoch(record, "me", 2000.0).claim.epoch == 2000


def test_whoever_held_a_claim_is_awaited_until_a_record_says_otherwise() -> None:
    one = records.claimed(records.first(config(uid="1"), 1), config(uid="1"), "one", 1)
    two = records.claimed(one, config(uid="2"), "two", 1)
    three = records.claimed(two, config(uid="3"), "three", 1)
    assert (one.awaited, two.awaited, three.awaited) == ((), ("1",), ("1", "2"))
    free = replace(two, claim=replace(two.claim, holder=""), awaited=())
    assert records.claimed(free, config(uid="3"), "three", 1).awaited == ()


def test_a_claim_that_is_taken_in_order_to_settle_stays_its_owners() -> None:
    held = records.claimed(records.first(JOB, 0), JOB, "dead", 1)
    settled = records.next_epoch(held, "settler", 1)
    assert (settled.claim.holder, settled.claim.epoch, settled.awaited) == ("settler", 2, (JOB.owner.uid,))
    same = replace(held, claim=settled.claim, awaited=settled.awaited)
    assert settled == same


def test_a_record_is_read_as_it_was_written() -> None:
    record = replace(records.first(JOB, 1), target="t", gate="g", awaited=("1", "2"), seq_no=5, primary_term=2)
    claim = replace(record.claim, position={"ts.date_histogram": 1, "size.histogram": 1.0, "term.terms": None})
    record = replace(record, claim=claim)
    hit = {"_source": records.to_document(record), "_seq_no": 5, "_primary_term": 2}
    assert records.from_document(Value(hit, "looking")) == record


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        ({"epoch": "7"}, "_source.epoch is no whole number"),
        ({"owner": {"cluster": "c"}}, "_source.owner has no namespace"),
        ({"position": {"ts.date_histogram": [1]}}, r"_source.position.\* is no part of a bucket's key"),
        ({"spec": []}, "_source.spec is no object"),
    ],
)
def test_a_record_that_no_operator_wrote_says_which_document_and_what_to_do(
    spoilt: dict[str, object], why: str
) -> None:
    source = records.to_document(records.first(JOB, 1)) | spoilt
    with pytest.raises(records.ForeignRecord) as caught:
        records.from_document(Value({"_id": records.document_id(JOB.key), "_source": source}, "looking"))
    assert re.search(
        rf"^no operator wrote document 'claim/out/job' of {records.ALIAS}: {why}: restore it; or ", str(caught.value)
    )
    assert "delete it" in str(caught.value)


@pytest.mark.parametrize(
    ("task", "is_ours"),
    [
        (opaque_id("a", 4), True),
        (opaque_id("a", 0), True),
        (opaque_id("a", 5), False),
        (opaque_id("b", 4), False),
        (opaque_id("a/b", 4), False),
        ("rollup/a/", False),
        ("rollup/a/x", False),
        ("rollup-operator", False),
        ("other/a/4", False),
    ],
)
def test_what_counts_as_a_request_of_an_earlier_epoch(task: str, is_ours: bool) -> None:
    assert is_of(task, {"a", "c"}, 5) is is_ours


@pytest.mark.parametrize(
    ("types", "kept"),
    [
        ({"keyword"}, "keyword"),
        ({"text", "keyword"}, "keyword"),
        ({"byte", "integer"}, "long"),
        ({"scaled_float"}, "double"),
        ({"long", "keyword"}, None),
        (set(), None),
    ],
)
def test_terms_are_kept_as_their_sources_have_them(types: set[str], kept: str | None) -> None:
    found = mapping.expected(JOB, {"term": SourceField(frozenset(types))})
    assert found.get("term.terms.value") == kept


def test_what_an_index_lacks_and_what_it_keeps_otherwise() -> None:
    found = {
        "properties": {
            "a": {"properties": {"b": {"type": "long"}, "c": {"properties": {"d": {"type": "float"}}}}},
            "leaf": {"type": "date"},
        }
    }
    types = {"a.b": "long", "a.c.d": "double", "a.c.e": "long", "leaf.x": "long", "a": "keyword", "new": "date"}
    assert mapping.unlike(found, types) == {"a.c.d": "float", "leaf.x": "date", "a": "object"}
    assert mapping.lacking(found, types) == {"a.c.e": "long", "new": "date"}


@pytest.mark.parametrize(
    ("source", "lost"),
    [
        ({}, False),
        ({"enabled": False}, True),
        ({"enabled": "false"}, True),
        ({"excludes": ["secret", "*.secret", "v.su", "v.sum.value.x", "[v]*", "?.sum.value"]}, False),
        ({"excludes": ["secret", "v"]}, True),
        ({"excludes": "v.*"}, True),
        ({"excludes": ["*.value"]}, True),
        ({"excludes": ["*"]}, True),
        ({"includes": ["*"]}, False),
        ({"includes": ["v", "ts.*"]}, False),
        ({"includes": ["v.sum"]}, True),
        ({"includes": ["*"], "excludes": ["ts*count"]}, True),
        ({"excludes": ["*".join("v" * 100)]}, False),
    ],
)
def test_a_source_that_leaves_out_other_fields_leaves_out_nothing(source: dict[str, Any], lost: bool) -> None:
    found = mapping.unreadable({"_source": source}, ["v.sum.value", "ts.date_histogram._count"])
    assert found == ("_source, which leaves out what documents say" if lost else "")


@pytest.mark.parametrize(
    "excludes", [[f"p{n}*x" for n in range(50_000)], ["v*" * 500_000], ["p"] * (mapping.MOST_PATTERNS + 1)]
)
def test_a_source_of_more_patterns_than_can_be_compared_is_refused_at_once(excludes: list[str]) -> None:
    """The answer of a cluster may have megabytes of them, and all of this process waits for the comparison."""
    began = time.thread_time()
    found = mapping.unreadable({"_source": {"excludes": excludes}}, [f"f{n}.sum.value" for n in range(100)])
    assert found == "_source, with more than 100 includes or excludes, or longer ones than can be compared"
    assert time.thread_time() - began < 1.0


def test_other_entries_of_meta_stay() -> None:
    found = {"_meta": {"rollup-version": "", "mine": 1, "_rollup": {"x": {"id": "x"}, "job": {"id": "old"}}}}
    assert mapping.with_entry(found, "job", {"id": "job"}) == {
        "rollup-version": "", "mine": 1, "_rollup": {"x": {"id": "x"}, "job": {"id": "job"}},
    }  # fmt: skip
    assert mapping.with_entry(found, "job", None)["_rollup"] == {"x": {"id": "x"}}
    assert mapping.entries({}) is None
    assert mapping.entries({"_meta": {"_rollup": 5}}) is None


def test_what_makes_other_documents() -> None:
    entry = mapping.entry(JOB)
    date = {**entry["groups"]["date_histogram"], "delay": "1h"}
    same = {**entry, "cron": "x", "page_size": 5, "groups": {**entry["groups"], "date_histogram": date}}
    assert mapping.same_documents(entry, same)
    fewer = {**entry, "metrics": [{"field": "value", "metrics": ["max"]}]}
    assert not mapping.same_documents(entry, fewer)
    assert not mapping.same_documents(entry, {"id": "job"})
    assert not mapping.same_documents(entry, {"id": "job", "groups": None, "metrics": "?"})


def test_settings_are_the_jobs_where_it_has_any() -> None:
    types = mapping.expected(JOB, {})
    ours = {
        "index.translog.durability": "request",
        "index.refresh_interval": "30s",
        "index.default_pipeline": "_none",
        "index.final_pipeline": "_none",
    }
    assert mapping.settings(None, JOB, types) == ours
    given = RollupIndexSettings(number_of_replicas=0, codec="best_compression")
    assert mapping.settings(given, JOB, types) == {
        **ours,
        "index.number_of_replicas": 0,
        "index.codec": "best_compression",
    }
    assert mapping.settings(RollupIndexSettings(refresh_interval="1s"), JOB, types)["index.refresh_interval"] == "1s"
