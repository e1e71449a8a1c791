"""How the oracle of searches compares: totals, which a node tells as its segments are, and times that are rounded."""

from typing import Any

import pytest

from rollup_operator.rollup.bounds import Bounds
from support.embedded import spec
from support.rounding import ms
from support.search_comparing import Answered, as_answered, counted, counting_all
from support.search_oracle import shrunk


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


def test_a_time_is_rounded_where_documents_answer_and_not_where_rows_are_read() -> None:
    begin, end, later = (ms(f"2024-01-01T{at}") for at in ("08:00", "10:30", "11:00"))
    report = {"rounded": [{"time": "2024-01-01T10:30:00.000Z"}]}
    sources = {("rolled",): [(begin, end)], ("live",): [], ("rolled up to ten",): [(begin, ms("2024-01-01T10:00"))]}
    how = Answered((), report, Bounds.of(spec().groups.date_histogram), sources)
    found = as_answered({"query": {"range": {"ts": {"lt": end}}}}, how)
    assert found is not None
    ends = {
        names: ends["range"]["ts"]["lt"]
        for each in found["query"]["bool"]["should"]
        for (names,), ends in [(each["bool"]["filter"][0]["terms"]["_index"], each["bool"]["filter"][1])]
    }
    assert ends == {"rolled": later, "live": end, "rolled up to ten": end}


async def test_a_request_is_made_as_small_as_the_difference_allows() -> None:
    async def differs(body: dict[str, Any]) -> list[str]:
        if "aggs" not in body:
            raise KeyError("no request any more")
        return [".aggregations.a.value: 1 / 2"] if "a" in body["aggs"] else [".hits.total.value: 1 / 2"]

    body = {"size": 0, "query": {"match_all": {}}, "aggs": {"b": {"sum": {}}, "a": {"avg": {"field": "delay"}}}}
    small, found = await shrunk(body, await differs(body), differs)
    assert (small, found) == ({"size": 0, "aggs": {"a": {}}}, [".aggregations.a.value: 1 / 2"])
