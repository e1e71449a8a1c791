"""How the body of `_msearch` is cut into searches."""

import pytest

from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.msearch import MOST_ITEMS, Item, items
from rollup_operator.query.sources import IndexOptions

DEFAULT = IndexOptions()


def of(text: str, *names: str) -> list[Item]:
    return items(text.encode(), names, DEFAULT)


def test_what_grafana_sends() -> None:
    text = '{"ignore_unavailable":true,"index":"flights-*,sensors","search_type":"query_then_fetch"}\n{"size":0}\n'
    assert of(text) == [Item(("flights-*", "sensors"), IndexOptions(ignore_unavailable=True), {"size": 0})]


def test_the_path_counts_where_a_header_is_empty() -> None:
    assert of('{}\n{"size":0}\n\n{"size":1}\n{"index":["a","b"]}\n{}\n', "flights") == [
        Item(("flights",), DEFAULT, {"size": 0}),
        Item(("flights",), DEFAULT, {"size": 1}),
        Item(("a", "b"), DEFAULT, {}),
    ]


def test_an_empty_line_at_the_end_is_no_search() -> None:
    assert len(of("{}\n{}\n\n")) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "terminated by a newline"),
        ("{}\n{}", "terminated by a newline"),
        ("\n", "no requests added"),
        ("{}\n{}\n{}\n", "a header and no body"),
        ("{}\n[]\n", r"\[2:1\] line is no JSON object"),
        ('{}\n{"a":}\n', r"\[2:6\]"),
        ('{"indx":"a"}\n{}\n', r"key \[indx\] is not supported in the metadata section"),
        ('{"index":[1]}\n{}\n', r"key \[index\] in the metadata section must be a name"),
        ('{"ignore_unavailable":"perhaps"}\n{}\n', r"Failed to parse value \[perhaps\]"),
        ("{}\n{}\n" * (MOST_ITEMS + 1), "more than the limit"),
    ],
)
def test_what_cannot_be_cut_is_refused(text: str, why: str) -> None:
    with pytest.raises(SearchRefused, match=why):
        of(text)
