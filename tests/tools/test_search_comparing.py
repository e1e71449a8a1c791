"""How the oracle of searches compares totals, which a node tells as its segments are."""

import pytest

from support.search_comparing import counted, counting_all


@pytest.mark.parametrize(
    ("most", "found", "total"),
    [
        (5, 4, {"value": 4, "relation": "eq"}),
        (5, 5, {"value": 5, "relation": "eq"}),
        (5, 6, {"value": 5, "relation": "gte"}),
        (True, 6, {"value": 6, "relation": "eq"}),
    ],
)
def test_hits_are_counted_up_to_a_number(most: int | bool, found: int, total: object) -> None:
    body = {"track_total_hits": most}
    assert counting_all(body) == {"track_total_hits": True}
    assert counted(body, {"total": {"value": found, "relation": "eq"}}) == {"total": total}
