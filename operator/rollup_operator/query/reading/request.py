"""A search request, read: what it asks for, in the source's field names. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from rollup_operator.model.time_values import parse_time_value
from rollup_operator.query.aggregations import Aggregation
from rollup_operator.query.clauses import MATCH_ALL, Clause
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.aggregation_reader import read_aggregations
from rollup_operator.query.reading.dsl import read_query
from rollup_operator.query.reading.json_values import PARSING, RequestBudget, boolean, integer, shown, token

Door = Literal["rollup_search", "search"]
"""`rollup_search` keeps Elasticsearch's limits and texts; `search` is what Grafana and scripts send."""

COUNTED_BY_DEFAULT = 10_000
"""Up to how many documents Elasticsearch counts where a request does not say."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
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


_TOKENS: Final[Mapping[str, str]] = {
    "_source": "VOA", "aggregations": "O", "aggs": "O", "collapse": "O", "docvalue_fields": "A", "explain": "V",
    "ext": "O", "fields": "A", "from": "V", "highlight": "O", "indices_boost": "OA", "knn": "OA", "min_score": "V",
    "pit": "O", "post_filter": "O", "profile": "V", "query": "O", "rank": "O", "rescore": "OA", "retriever": "O",
    "runtime_mappings": "O", "script_fields": "O", "search_after": "A", "seq_no_primary_term": "V", "size": "V",
    "slice": "O", "sort": "VOA", "stats": "A", "stored_fields": "VA", "sub_searches": "A", "suggest": "O",
    "terminate_after": "V", "timeout": "V", "track_scores": "V", "track_total_hits": "V", "version": "V",
}  # fmt: skip
"""What Elasticsearch takes, and as what: a scalar value, an object, an array."""

_NOT_ANSWERED: Final[Mapping[str, str]] = {
    "post_filter": "put the condition into [query]",
    "suggest": "summaries keep no words",
    "knn": "summaries keep no vectors",
    "rank": "summaries keep no documents to rank",
    "retriever": "summaries keep no documents to rank",
    "sub_searches": "send them as items of [_msearch]",
    "slice": "summaries are not read in slices",
    "pit": "name an index",
}
"""What would change an answer and cannot be answered, and what to do instead. The rest is about hits alone."""

_ROLLUP_REFUSES: Final[Mapping[str, str]] = {
    "post_filter": "Rollup search does not support post filtering.",
    "suggest": "Rollup search does not support suggestors.",
    "highlight": "Rollup search does not support highlighting.",
    "profile": "Rollup search does not support profiling at the moment.",
    "explain": "Rollup search does not support explaining.",
}

_MOST_COUNTED: Final = 2**31 - 1


def parse_request(body: Any, door: Door = "search", *, total_hits_as_int: bool = False) -> SearchRequest:
    """Read the body of a search. Raises SearchRefused.

    `total_hits_as_int` is the parameter `rest_total_hits_as_int`, which wants all documents counted.
    """
    if not isinstance(body, dict):
        raise SearchRefused(f"Expected [START_OBJECT] but found [{token(body)}]", PARSING)
    for name, value in body.items():
        kind = token(value)
        short = {"START_OBJECT": "O", "START_ARRAY": "A", "VALUE_NULL": "-"}.get(kind, "V")
        if short not in _TOKENS.get(name, ""):
            raise SearchRefused(f"Unknown key for a {kind} in [{shown(name)}].", PARSING)
    size = _size(body)
    counts_up_to = _counts_up_to(body, total_hits_as_int)
    timeout_ms = _timeout(body)
    asked = body.get("aggregations", body.get("aggs", {}))
    budget = RequestBudget()
    if door == "rollup_search":
        _check_rollup_search(body, size)
    query = read_query(body["query"], budget, rollup_search=door == "rollup_search") if "query" in body else MATCH_ALL
    aggregations = read_aggregations(asked, budget, rollup_search=door == "rollup_search")
    for_annotations = False
    if door == "search":
        _check_search(body, budget)
        for_annotations = _wants_hits(body, size, bool(aggregations))
    return SearchRequest(door, query, aggregations, counts_up_to, for_annotations, timeout_ms)


def with_parameters(body: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return a body with what the parameters of its URL say, which count more: `q`, `size`, `timeout` and such."""
    found = dict(body)
    if "q" in parameters:
        query: dict[str, Any] = {"query": parameters["q"]}
        for name, option in (
            ("df", "default_field"),
            ("default_operator", "default_operator"),
            ("lenient", "lenient"),
            ("analyzer", "analyzer"),
        ):
            if name in parameters:
                query[option] = parameters[name]
        found["query"] = {"query_string": query}
    for name in ("size", "from", "timeout", "terminate_after", "track_total_hits", "explain", "sort"):
        if name in parameters:
            found[name] = parameters[name]
    return found


def _size(body: Mapping[str, Any]) -> int | None:
    """Return how many documents are asked for; None: the request does not say."""
    if "from" in body and (begin := integer(body["from"])) < 0:
        raise SearchRefused(f"[from] parameter cannot be negative but was [{begin}]")
    if "size" not in body:
        return None
    if (size := integer(body["size"])) < 0:
        raise SearchRefused(f"[size] parameter cannot be negative, found [{size}]")
    return size


def _counts_up_to(body: Mapping[str, Any], as_int: bool) -> int | None:
    given = body.get("track_total_hits")
    if given is None:
        return None if as_int else COUNTED_BY_DEFAULT
    if given in (True, "true"):
        return None
    if given is False or given == "false":
        most = -1
    elif (most := integer(given)) < -1:
        raise SearchRefused(f"[track_total_hits] parameter must be positive or equals to -1, got {most}")
    if as_int and most != -1:
        raise SearchRefused(
            f"[rest_total_hits_as_int] cannot be used if the tracking of total hits is not accurate, got {most}"
        )
    return None if most >= _MOST_COUNTED else most


def _timeout(body: Mapping[str, Any]) -> int | None:
    if "timeout" not in body:
        return None
    try:
        ms = parse_time_value(str(body["timeout"])[:64], "timeout").milliseconds
    except ValueError as e:
        raise SearchRefused(str(e)) from e
    return None if ms < 0 else int(ms)


def _check_rollup_search(body: Mapping[str, Any], size: int | None) -> None:
    if size != 0:
        raise SearchRefused("Rollup does not support returning search hits, please try again with [size: 0].")
    for name, reason in _ROLLUP_REFUSES.items():
        if name in body and (name not in ("profile", "explain") or boolean(body[name])):
            raise SearchRefused(reason)
    _check_answerable(body)


def _check_search(body: Mapping[str, Any], budget: RequestBudget) -> None:
    _check_answerable(body)
    for name in ("profile", "explain", "version", "track_scores", "seq_no_primary_term"):
        if name in body:
            boolean(body[name])
    for field in body.get("runtime_mappings", ()):
        if field in budget.fields:
            raise SearchRefused(
                f"field [{shown(field)}] is computed by [runtime_mappings], which rolled-up data cannot answer"
            )


def _check_answerable(body: Mapping[str, Any]) -> None:
    for name, instead in _NOT_ANSWERED.items():
        if body.get(name):
            raise SearchRefused(f"[{name}] cannot be answered over rolled-up data: {instead}")
    if "min_score" in body:
        raise SearchRefused("[min_score] cannot be answered over rolled-up data, whose documents have no score")
    if integer(body.get("terminate_after", 0)) != 0:
        raise SearchRefused("[terminate_after] cannot be answered over rolled-up data: leave it out")


def _wants_hits(body: Mapping[str, Any], size: int | None, aggregates: bool) -> bool:
    """Whether Grafana asks for annotations. Raises SearchRefused where anything else asks for documents.

    A request that aggregates and does not say how many documents it wants gets none.
    """
    if size == 0 or (size is None and aggregates):
        return False
    if not aggregates and "sort" not in body and _is_of_annotations(body.get("query")):
        return True
    raise SearchRefused(
        "rolled-up data has no single documents to return: ask with [size: 0] for aggregations or for the total"
    )


def _is_of_annotations(query: Any) -> bool:
    """Whether it is Grafana's: a filter whose first part is a choice of ranges of time."""
    try:
        first = query["bool"]["filter"]
        first = first[0] if isinstance(first, list) else first
        choices = first["bool"]["should"]
    except (TypeError, KeyError, IndexError):
        return False
    return isinstance(choices, list) and bool(choices) and all(isinstance(c, dict) and "range" in c for c in choices)
