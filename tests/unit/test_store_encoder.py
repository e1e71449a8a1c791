"""The quick encoder against the one text that says what a document is."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.documents import document
from rollup_operator.stores.opensearch.query import Query
from rollup_operator.stores.opensearch.target import encoder
from rollup_operator.stores.opensearch.target.encoder import Batch, Encoder

EPOCH = 1764020000
METRICS = [
    {"field": "load%", "metrics": ["min", "max", "sum", "avg", "value_count"]},
    {"field": 'te"mp', "metrics": ["avg"]},
    {"field": "só", "metrics": ["max"]},
    {"field": "n", "metrics": ["value_count"]},
    {"field": "o", "metrics": ["avg", "value_count"]},
]
SPEC = RollupJobSpec.model_validate(
    {
        "indexPattern": "events-*",
        "rollupIndex": "out",
        "cron": "0 * * * * ?",
        "groups": {
            "dateHistogram": {"field": "ts", "calendarInterval": "1h", "timeZone": "Europe/Berlin"},
            "histogram": {"fields": ["size"], "interval": 10},
            "terms": {"fields": ["a host", "node"]},
        },
        "metrics": METRICS,
    }
)
JOB = 'sens"or %s'
QUERY = Query.of(JOB, SPEC, {})

doubles = st.floats(allow_nan=False, allow_infinity=False)
huge = st.sampled_from([1e308, -1e308, 5e-324, -0.0, 0.0, 1e16, 1e-7, 9007199254740993.0])
odd_texts = st.sampled_from(["$", "a$b", "__NULL_PLACEHOLDER__830f1de2__"])
terms = st.one_of(
    st.none(),
    st.text(),
    odd_texts,
    st.integers(-(2**63), 2**63 - 1),
    doubles,
    huge,
    st.sampled_from([0, 1, 1.0, -0.0, 0.0, "1"]),
)
Numbers = tuple[int, float | None, float | None, float | str]


@st.composite
def numbers(draw: st.DrawFn) -> Numbers:
    """Count, min, max, sum of a bucket; nothing where the count is 0; a sum too large for a double comes as a text."""
    if (count := draw(st.integers(0, 10**12))) == 0 or draw(st.booleans()):
        return 0, None, None, 0.0
    value = st.one_of(doubles, huge)
    return count, draw(value), draw(value), draw(st.one_of(value, st.sampled_from(["Infinity", "-Infinity", "NaN"])))


buckets = st.tuples(
    st.integers(-(10**9), 10**14), st.one_of(st.none(), doubles, huge), terms, terms, st.integers(1, 10**12),
    st.lists(numbers(), min_size=5, max_size=5),
)  # fmt: skip


def answered(row: tuple[Any, ...]) -> dict[str, Any]:
    """Return the bucket as a cluster writes it."""
    time, size, host, node, rows, of = row
    (n, low, high, total), (n1, _, _, total1), (_, _, high2, _), (n3, *_), (n4, _, _, total4) = of
    return {
        "key": {"0": time, "1": size, "2": host, "3": node},
        "doc_count": rows,
        "m0": {"count": n, "min": low, "max": high, "avg": None, "sum": total},
        "m1": {"count": n1, "min": None, "max": None, "avg": None, "sum": total1},
        "m2": {"value": high2},
        "m3": {"value": n3},
        "m4": {"count": n4, "min": None, "max": None, "avg": None, "sum": total4},
    }


def expected(row: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
    time, size, host, node, rows, of = row
    (n, low, high, total), (n1, _, _, total1), (_, _, high2, _), (n3, *_), (n4, _, _, total4) = of
    total, total1, total4 = (None if isinstance(t, str) else t for t in (total, total1, total4))
    values = {
        "load%.min.value": low, "load%.max.value": high, "load%.sum.value": total, "load%.avg.value": total,
        "load%.avg._count": n, "load%.value_count.value": n, 'te"mp.avg.value': total1, 'te"mp.avg._count': n1,
        "só.max.value": high2, "n.value_count.value": n3, "o.avg.value": total4, "o.avg._count": n4,
        "o.value_count.value": n4,
    }  # fmt: skip
    return document(QUERY.layout, [time, size, host, node], rows, values)


def read(items: list[bytes]) -> list[tuple[str, dict[str, Any]]]:
    """Return ids and documents of what is to be written, the actions checked."""
    batch = Batch.of(items)
    found = []
    for i, item in enumerate(items):
        identity = batch.id(i)
        action, source, nothing = item.split(b"\n")
        assert nothing == b""
        assert json.loads(action) == {"index": {"_id": identity, "version": EPOCH, "version_type": "external_gte"}}
        pairs = json.loads(source, object_pairs_hook=lambda pairs: pairs)
        assert len(dict(pairs)) == len(pairs)
        found.append((identity, dict(pairs)))
        assert batch.source(i) == dict(pairs)
    return found


def exactly(documents: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Tell 1 from 1.0, and 0.0 from -0.0."""
    return [(identity, sorted((k, repr(v)) for k, v in source.items())) for identity, source in documents]


@given(st.lists(buckets, min_size=1, max_size=12))
@example([(0, 0.0, 1, -0.0, 1, [(0, None, None, 0.0)] * 5), (0, -0.0, 1.0, 0.0, 1, [(0, None, None, 0.0)] * 5)])
@settings(deadline=None)
def test_the_quick_way_makes_the_same_documents(rows: list[tuple[Any, ...]]) -> None:
    own = Encoder(QUERY, EPOCH)
    whole = read(own.encode([answered(row) for row in rows]))
    assert exactly(whole) == exactly([expected(row) for row in rows])
    parts = [item for row in rows for item in own.encode([answered(row)])]
    assert exactly(read(parts)) == exactly(whole)


def test_more_values_than_are_remembered_stay_distinct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_REMEMBERED", 100)
    own = Encoder(QUERY, EPOCH)
    row = (0, 0.0, None, "a", 1, [(0, None, None, 0.0)] * 5)
    for begin in (0, 80, 160, 0):
        rows = [(*row[:2], f"term {i}", *row[3:]) for i in range(begin, begin + 80)]
        assert exactly(read(own.encode([answered(r) for r in rows]))) == exactly([expected(r) for r in rows])
