"""A search request, read: what it asks for, in the source's field names. Pure."""

from dataclasses import dataclass
from typing import Literal

from rollup_operator.query.aggregations import Aggregation
from rollup_operator.query.clauses import MATCH_ALL, Clause

Door = Literal["rollup_search", "search"]
"""`rollup_search` keeps Elasticsearch's limits and texts; `search` is what Grafana and scripts send."""

COUNTED_BY_DEFAULT = 10_000
"""Up to how many documents Elasticsearch counts where a request does not say."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a search asks for."""

    door: Door = "search"
    query: Clause = MATCH_ALL
    aggregations: tuple[Aggregation, ...] = ()
    """In the request's order; names are unlike each other at each level."""
    counts_up_to: int | None = COUNTED_BY_DEFAULT
    """`track_total_hits`: up to which number documents are counted; None: all of them; -1: the answer has no total."""
    for_annotations: bool = False
    """Grafana asks for documents to mark on a chart: the answer has none of them, and nothing needs to be read."""
    timeout_ms: int | None = None
    """How long the search may take, where the request says."""
