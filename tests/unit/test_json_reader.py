"""JSON with positions: the same values as the standard library's reader, and the place of what is wrong."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.http.protocol.positioned_json import MOST_VALUES, NotJson, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([None, 1, 3]), st.booleans())
def test_what_json_writes_is_read(value: Any, indent: int | None, ascii_: bool) -> None:
    assert read_json(json.dumps(value, indent=indent, ensure_ascii=ascii_).encode()).plain() == value


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn \n\\u', max_size=20))
def test_any_text_is_read_as_json_reads_it_or_refused(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=float.fromhex)
    except ValueError:
        with pytest.raises(NotJson):
            read_json(text.encode())
        return
    try:
        assert read_json(text.encode()).plain() == expected
    except NotJson as e:
        assert "Duplicate field" in str(e) or "surrogate" in str(e)  # refused here alone  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("", "1:1", "Unexpected end-of-input"),
        ('{\n  "a": 1,\n  "b" 2}', "3:7", "Unexpected character ('2' (code 50)): was expecting a colon"),
        ('{"a": 1 "b": 2}', "1:9", "was expecting comma to separate Object entries"),
        ("[1 2]", "1:4", "was expecting comma to separate Array entries"),
        ('{"a": 1}}', "1:9", "expected end of content"),
        ('{"ä": x}', "1:7", "expected a valid value"),
        ('["a\nb"]', "1:4", "Illegal string value (Invalid control character)"),
        ('["abc', "1:2", "Illegal string value (Unterminated string)"),
        (r'["\ud800"]', "1:2", "half of a surrogate pair"),
        ('{"a": 1,\n "a": 2}', "2:2", "Duplicate field 'a'"),
        ("9" * 500, "1:1", "Numeric value out of range"),
        ("NaN", "1:1", "Unexpected character ('N'"),
        ("[" * 70, "1:66", "Too many levels"),
        ("[" + "0," * MOST_VALUES + "0]", f"1:{2 * MOST_VALUES}", f"Too many values: at most {MOST_VALUES} are read"),
    ],
)
def test_what_is_wrong_and_where(text: str, at: str, message: str) -> None:
    with pytest.raises(NotJson) as caught:
        read_json(text.encode())
    assert str(caught.value.at) == at
    assert message in str(caught.value)


def test_the_largest_job_is_read() -> None:
    names = [f"f{n}" for n in range(256)]
    spec = {
        "groups": {
            "dateHistogram": {"field": "t"},
            "terms": {"fields": names[:64]},
            "histogram": {"fields": names[:64]},
        },
        "metrics": [{"field": name, "metrics": ["min", "max", "sum", "avg", "value_count"]} for name in names],
        "csv": {"columns": [{"name": name, "type": "text", "format": "x"} for name in names]},
    }
    labels = {f"label-{n}": "x" for n in range(1000)}
    whole = {"kind": "RollupJob", "metadata": {"labels": labels, "annotations": labels}, "spec": spec}
    assert read_json(json.dumps(whole).encode()).plain() == whole


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(NotJson) as caught:
        read_json(b'{"a":\n"\xe4"}')
    assert (str(caught.value.at), str(caught.value)) == ("2:2", "Invalid UTF-8")


def test_a_large_number_of_digits_after_the_point_is_a_number() -> None:
    assert read_json(b"[1e400, 0.1]").plain() == [float("inf"), 0.1]
