"""A search's answer, cut into pieces, holds what it holds when it is parsed at a stroke."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.stores.opensearch.source import buckets
from rollup_operator.stores.opensearch.source.buckets import PageBuckets

texts = st.text(max_size=8) | st.sampled_from(
    ['},{"key":{', '"buckets":[', '"buckets":[{"key":{', "]}}}", "]", "[", "\\", '"', '\\"},{"key":{', "\u2028ü"]
)
keys = st.fixed_dictionaries({"0": st.integers(-(2**53), 2**53), "1": st.none() | texts | st.floats(-1e9, 1e9)})
rows = st.fixed_dictionaries(
    {
        "key": keys,
        "doc_count": st.integers(1, 9),
        "m0": st.fixed_dictionaries({"value": st.none() | st.just("Infinity")}),
    }
)


def answer(found: list[dict[str, Any]], **more: Any) -> bytes:
    after = {"after_key": found[-1]["key"]} if found else {}
    return orjson.dumps({"took": 1, **more, "aggregations": {"rollup": {**after, "buckets": found}}})


def parsed(raw: bytes) -> PageBuckets:
    found: PageBuckets = buckets.parse(raw)["aggregations"]["rollup"]["buckets"]
    return found


@given(st.lists(rows, max_size=30), st.integers(1, 300))
def test_the_pieces_are_the_whole(found: list[dict[str, Any]], piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "PIECE", piece)
        cut = parsed(answer(found, note='"buckets":[]'))
        assert cut.count == len(found)
        assert [bucket for part in cut.pieces() for bucket in part] == found
        if found:
            assert (cut.first, cut.last) == (found[0], found[-1])
            cuts = len(found) > 1 and piece == 1 and all(next(iter(bucket)) == "key" for bucket in found)
            assert not cuts or len(cut.parts) == len(found)
        times = sorted(bucket["key"]["0"] for bucket in found)
        begin, end = (times[0] + 1, times[-1]) if times else (0, 0)
        within = PageBuckets.of(sorted(found, key=lambda b: b["key"]["0"])).within(begin, end)
        assert [b for part in within.pieces() for b in part] == [
            b for b in sorted(found, key=lambda b: b["key"]["0"]) if begin <= b["key"]["0"] < end
        ]


@pytest.mark.parametrize("option", [0, orjson.OPT_INDENT_2])
def test_an_answer_that_is_written_otherwise_is_understood(option: int) -> None:
    found = [{"key": {"0": i}, "doc_count": 1} for i in range(3)]
    raw = orjson.dumps({"aggregations": {"rollup": {"buckets": found}}, "notes": ["a", "b"]}, option=option)
    assert [b for part in parsed(raw).pieces() for b in part] == found


@pytest.mark.parametrize("raw", [b'{"hits":{"total":{"value":0}}}', b'{"_shards":{"total":0}}', b"[]", b"7"])
def test_what_has_no_page_is_left_as_it_is(raw: bytes) -> None:
    assert buckets.parse(raw) == orjson.loads(raw)


def test_an_answer_that_breaks_off_is_no_json() -> None:
    whole = answer([{"key": {"0": i}, "doc_count": 1} for i in range(3)])
    for end in range(1, len(whole)):
        with pytest.raises(orjson.JSONDecodeError):
            buckets.parse(whole[:end])


def test_what_is_broken_in_the_middle_is_said_when_its_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "PIECE", 1)
    raw = answer([{"key": {"0": i}, "doc_count": i} for i in range(9)]).replace(b'"doc_count":5', b'"doc_count":}')
    with pytest.raises(orjson.JSONDecodeError):
        list(parsed(raw).pieces())
