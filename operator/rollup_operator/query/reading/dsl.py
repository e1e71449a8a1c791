"""Reads the queries of a request: Elasticsearch's query DSL, as far as summaries can answer it. Pure.

Errors are Elasticsearch's, without the line and the column.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from rollup_operator.query.clauses import (
    MATCH_ALL,
    MATCH_NONE,
    BoolClause,
    Clause,
    ExistsClause,
    NotClause,
    PatternClause,
    RangeClause,
    TermClause,
)
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.json_values import (
    NUMBER_FORMAT,
    PARSING,
    X_CONTENT,
    RequestBudget,
    boolean,
    shown,
    text_of,
    token,
)
from rollup_operator.query.reading.matching import at_least
from rollup_operator.query.reading.query_string import QueryStringOptions, read_query_string

DEEPEST: Final = 30
"""Queries within each other."""

LONGEST_TEXT: Final = 8_191
"""Characters of a value or a pattern."""

_EVERYWHERE: Final = frozenset({"boost", "_name"})
_IN_ROLLUP_SEARCH: Final = frozenset(
    {"bool", "boosting", "constant_score", "dis_max", "range", "term", "terms", "match_all"}
)
_UNANSWERABLE: Final = frozenset(
    {
        "combined_fields", "distance_feature", "function_score", "fuzzy", "geo_bounding_box", "geo_distance",
        "geo_grid", "geo_polygon", "geo_shape", "has_child", "has_parent", "ids", "intervals", "knn",
        "match_bool_prefix", "match_phrase_prefix", "more_like_this", "multi_match", "nested", "parent_id",
        "percolate", "pinned", "rank_feature", "regexp", "rule", "script", "script_score", "semantic", "shape",
        "simple_query_string", "span_containing", "span_first", "span_multi", "span_near", "span_not", "span_or",
        "span_term", "span_within", "sparse_vector", "terms_set", "text_expansion", "weighted_tokens", "wrapper",
    }
)  # fmt: skip
"""What Elasticsearch knows and is not answered here."""

_MATCH_OPTIONS: Final = _EVERYWHERE | {
    "auto_generate_synonyms_phrase_query", "cutoff_frequency", "fuzzy_rewrite", "fuzzy_transpositions",
    "max_expansions", "minimum_should_match", "prefix_length", "slop", "zero_terms_query",
}  # fmt: skip
"""Options of `match` and `match_phrase` that change nothing where a field is not cut into words."""


def read_query(given: Any, budget: RequestBudget, *, rollup_search: bool = False) -> Clause:
    """Read a query. Raises SearchRefused."""
    return _Queries(budget, rollup_search).read(given, 0)


class _Queries:
    """Reads the queries of one request."""

    def __init__(self, budget: RequestBudget, rollup_search: bool) -> None:
        self._budget, self._rollup_search = budget, rollup_search
        self._readers: Mapping[str, Callable[[Any, int], Clause]] = {
            "bool": self._bool,
            "boosting": self._boosting,
            "constant_score": self._constant_score,
            "dis_max": self._dis_max,
            "exists": self._exists,
            "match": self._match,
            "match_all": self._match_all,
            "match_none": self._match_none,
            "match_phrase": self._match_phrase,
            "prefix": self._prefix,
            "query_string": self._query_string,
            "range": self._range,
            "term": self._term,
            "terms": self._terms,
            "wildcard": self._wildcard,
        }

    def read(self, given: Any, depth: int) -> Clause:
        """Read a query that stands in so many others."""
        if not isinstance(given, dict):
            raise SearchRefused("[_na] query malformed, must start with start_object", PARSING)
        if not given:
            raise SearchRefused("query malformed, empty clause found")
        if depth > DEEPEST:
            raise SearchRefused(
                "The nested depth of the query exceeds the maximum nested depth for queries set in "
                "[indices.query.bool.max_nested_depth]"
            )
        self._budget.take_clause()
        kind, body = next(iter(given.items()))
        reader = self._readers.get(kind)
        if reader is None and kind not in _UNANSWERABLE:
            raise SearchRefused(f"unknown query [{shown(kind)}]", PARSING)
        if reader is None or (self._rollup_search and kind not in _IN_ROLLUP_SEARCH):
            raise self._unsupported(kind)
        if not isinstance(body, dict):
            raise SearchRefused(f"[{kind}] query malformed, no start_object after query name", PARSING)
        if len(given) > 1:
            raise SearchRefused(f"[{kind}] malformed query, expected [END_OBJECT] but found [FIELD_NAME]", PARSING)
        return reader(body, depth)

    def _unsupported(self, kind: str) -> SearchRefused:
        if self._rollup_search:
            return SearchRefused(f"Unsupported Query in search request: [{kind}]")
        return SearchRefused(
            f"[{kind}] queries cannot be answered over rolled-up data, which keeps the values of a job's groups alone: "
            f"use one of [{', '.join(self._readers)}]"
        )

    def _match_all(self, body: Any, _depth: int) -> Clause:
        _only(body, "match_all", _EVERYWHERE, "[match_all] unknown field [{}]")
        return MATCH_ALL

    def _match_none(self, body: Any, _depth: int) -> Clause:
        _only(body, "match_none", _EVERYWHERE, "[match_none] unknown field [{}]")
        return MATCH_NONE

    def _bool(self, body: Any, depth: int) -> Clause:
        must: list[Clause] = []
        should: list[Clause] = []
        excluded: list[Clause] = []
        minimum: str | None = None
        adjusts = True
        for name, value in body.items():
            match name:
                case "must" | "filter":
                    must += self._list(name, value, depth)
                case "should":
                    should += self._list(name, value, depth)
                case "must_not" | "mustNot":
                    excluded += self._list("must_not", value, depth)
                case "minimum_should_match" if value is not None:
                    minimum = text_of(value)
                case "adjust_pure_negative":
                    adjusts = boolean(value)
                case "minimum_should_match" | "boost" | "_name":
                    pass
                case _:
                    raise SearchRefused(f"[bool] unknown field [{shown(name)}]", X_CONTENT)
        if not must and not should and not excluded:
            return MATCH_ALL
        if not must and not should and not adjusts:
            return MATCH_NONE  # nothing says which documents are left of, once some are excluded
        needed = 0
        if minimum is not None:
            try:
                needed = at_least(len(should), minimum)
            except ValueError as e:
                raise SearchRefused(f"failed to create query: {e}", NUMBER_FORMAT) from e
        if should and not must:
            needed = max(needed, 1)
        parts = (*must, *map(NotClause, excluded))
        if needed == 0:
            return parts[0] if len(parts) == 1 else BoolClause(must=parts)
        if not parts and needed == 1 and len(should) == 1:
            return should[0]
        return BoolClause(must=parts, should=tuple(should), at_least=needed)

    def _list(self, name: str, value: Any, depth: int) -> Iterator[Clause]:
        if value is None:
            return
        if not isinstance(value, dict | list):
            raise SearchRefused(f"[bool] {name} doesn't support values of type: {token(value)}", X_CONTENT)
        for one in value if isinstance(value, list) else [value]:
            yield self.read(one, depth + 1)

    def _boosting(self, body: Any, depth: int) -> Clause:
        _only(body, "boosting", _EVERYWHERE | {"positive", "negative", "negative_boost"})
        for name in ("positive", "negative"):
            if name not in body:
                raise SearchRefused(f"[boosting] query requires '{name}' query to be set'", PARSING)
        if "negative_boost" not in body:
            raise SearchRefused("[boosting] query requires 'negative_boost' to be set to be a positive value'", PARSING)
        self.read(body["negative"], depth + 1)
        return self.read(body["positive"], depth + 1)

    def _constant_score(self, body: Any, depth: int) -> Clause:
        _only(body, "constant_score", _EVERYWHERE | {"filter"})
        if "filter" not in body:
            raise SearchRefused("[constant_score] requires a 'filter' element", PARSING)
        if isinstance(body["filter"], list):
            raise SearchRefused("unexpected token [START_ARRAY]", PARSING)
        return self.read(body["filter"], depth + 1)

    def _dis_max(self, body: Any, depth: int) -> Clause:
        _only(body, "dis_max", _EVERYWHERE | {"queries", "tie_breaker"})
        given = body.get("queries")
        if not given:
            raise SearchRefused("[dis_max] requires 'queries' field with at least one clause", PARSING)
        found = [self.read(one, depth + 1) for one in (given if isinstance(given, list) else [given])]
        return found[0] if len(found) == 1 else BoolClause(should=tuple(found), at_least=1)

    def _exists(self, body: Any, _depth: int) -> Clause:
        field = body.get("field")
        for name, value in body.items():
            if name != "field" and name not in _EVERYWHERE:
                raise SearchRefused(f"[exists] query does not support [{shown(name)}]", PARSING)
            if isinstance(value, dict | list):
                raise SearchRefused(f"[exists] unknown token [{token(value)}] after [{name}]", PARSING)
        if field is None:
            raise SearchRefused("[exists] must be provided with a [field]", PARSING)
        return ExistsClause(self._field(text_of(field)))

    def _term(self, body: Any, _depth: int) -> Clause:
        field, given = self._one_field("term", body)
        if isinstance(given, list):
            raise SearchRefused("[term] query does not support array of values", PARSING)
        options = given if isinstance(given, dict) else {"value": given}
        for name in options:
            if name not in ("value", "term", "case_insensitive") and name not in _EVERYWHERE:
                raise SearchRefused(f"[term] query does not support [{shown(name)}]", PARSING)
        value = _scalar("term", options.get("value", options.get("term")))
        ignores_case = boolean(options.get("case_insensitive", False))
        return TermClause(field, (value,), "term", ignores_case)

    def _terms(self, body: Any, _depth: int) -> Clause:
        field, values = None, None
        for name, value in body.items():
            if name in _EVERYWHERE:
                continue
            if isinstance(value, dict):
                raise SearchRefused(
                    "[terms] queries whose values are looked up in a document cannot be answered over rolled-up data"
                )
            if not isinstance(value, list):
                raise SearchRefused(f"[terms] query does not support [{shown(name)}]", PARSING)
            if field is not None:
                raise SearchRefused("[terms] query does not support multiple fields", PARSING)
            field, values = self._field(name), value
        if field is None or values is None:
            raise SearchRefused(
                "[terms] query requires a field name, followed by array of terms or a document lookup specification",
                PARSING,
            )
        self._budget.take_values(len(values))
        for value in values:
            if value is None:
                raise SearchRefused("No value specified for terms query", PARSING)
            if isinstance(value, dict | list):
                raise SearchRefused(f"[terms] unknown token [{token(value)}] after [{shown(field)}]", PARSING)
            if isinstance(value, str):
                _text(value)
        return TermClause(field, tuple(values), "terms") if values else MATCH_NONE

    def _range(self, body: Any, _depth: int) -> Clause:
        field, given = self._one_field("range", body, names_options=True)
        if not isinstance(given, dict):
            raise SearchRefused(f"[range] query does not support [{shown(field)}]", PARSING)
        low = high = None
        includes_low = includes_high = True
        format_, zone = None, None
        for name, value in given.items():
            if isinstance(value, dict | list):
                raise SearchRefused(f"[range] query does not support [{shown(name)}]", PARSING)
            if isinstance(value, str):
                _text(value)
            match name:
                case "gte" | "ge":
                    low, includes_low = value, True
                case "gt":
                    low, includes_low = value, False
                case "lte" | "le":
                    high, includes_high = value, True
                case "lt":
                    high, includes_high = value, False
                case "from":
                    low = value
                case "to":
                    high = value
                case "include_lower":
                    includes_low = boolean(value)
                case "include_upper":
                    includes_high = boolean(value)
                case "format":
                    format_ = None if value is None else text_of(value)
                case "time_zone":
                    zone = None if value is None else self._budget.zone(text_of(value))
                case "relation":
                    if text_of(value).lower() not in ("intersects", "contains", "within", "disjoint"):
                        raise SearchRefused(f"{shown(text_of(value))} is not a valid relation")
                    if text_of(value).lower() == "disjoint":
                        raise SearchRefused(f"Field [{shown(field)}] does not support DISJOINT ranges")
                case "boost" | "_name":
                    pass
                case _:
                    raise SearchRefused(f"[range] query does not support [{shown(name)}]", PARSING)
        return RangeClause(field, low, high, includes_low, includes_high, format_, zone)

    def _prefix(self, body: Any, _depth: int) -> Clause:
        field, options = self._pattern("prefix", body)
        value = _scalar("prefix", options.get("value", options.get("prefix")))
        return PatternClause(field, text_of(value), "prefix", boolean(options.get("case_insensitive", False)))

    def _wildcard(self, body: Any, _depth: int) -> Clause:
        field, options = self._pattern("wildcard", body)
        value = _scalar("wildcard", options.get("value", options.get("wildcard")))
        return PatternClause(field, text_of(value), "wildcard", boolean(options.get("case_insensitive", False)))

    def _pattern(self, kind: str, body: Any) -> tuple[str, Mapping[str, Any]]:
        field, given = self._one_field(kind, body)
        if isinstance(given, list):
            raise SearchRefused("Expected text but found START_ARRAY")
        options = given if isinstance(given, dict) else {"value": given}
        for name in options:
            if name not in ("value", kind, "case_insensitive", "rewrite") and name not in _EVERYWHERE:
                raise SearchRefused(f"[{kind}] query does not support [{shown(name)}]", PARSING)
        return field, options

    def _match(self, body: Any, _depth: int) -> Clause:
        return self._matching("match", body, {"operator", "fuzziness", "lenient"})

    def _match_phrase(self, body: Any, _depth: int) -> Clause:
        return self._matching("match_phrase", body, set())

    def _matching(self, kind: str, body: Any, more: set[str]) -> Clause:
        field, given = self._one_field(kind, body)
        if isinstance(given, list):
            raise SearchRefused("Expected text but found START_ARRAY")
        options = given if isinstance(given, dict) else {"query": given}
        for name, value in options.items():
            if name == "analyzer":
                raise SearchRefused(
                    f"[{kind}] queries with an [analyzer] cannot be answered over rolled-up data: leave it out"
                )
            if name != "query" and name not in more and name not in _MATCH_OPTIONS:
                raise SearchRefused(f"[{kind}] query does not support [{shown(name)}]", PARSING)
            if isinstance(value, dict | list):
                raise SearchRefused(f"[{kind}] unknown token [{token(value)}] after [{name}]", PARSING)
        if options.get("query") is None:
            raise SearchRefused("No text specified for text query", PARSING)
        operator = text_of(options.get("operator", "or")).upper()
        if operator not in ("OR", "AND"):
            raise SearchRefused(f"No enum constant org.elasticsearch.index.query.Operator.{shown(operator)}")
        if text_of(options.get("fuzziness", 0)) not in ("0", "0.0"):
            raise SearchRefused(
                f"[{kind}] queries with [fuzziness] cannot be answered over rolled-up data: leave it out"
            )
        value = _scalar(kind, options["query"])
        return TermClause(field, (value,), kind, lenient=boolean(options.get("lenient", False)))

    def _query_string(self, body: Any, _depth: int) -> Clause:
        return read_query_string(QueryStringOptions.of(body), self._budget)

    def _one_field(self, kind: str, body: Any, *, names_options: bool = False) -> tuple[str, Any]:
        """Return the one field of a query and what is asked of it."""
        if not body or (len(body) == 1 and next(iter(body.values())) is None and kind in ("term", "range")):
            raise SearchRefused("field name is null or empty")
        items = iter(body.items())
        field, given = next(items)
        if (other := next(items, None)) is not None:
            if isinstance(other[1], dict) or not names_options:
                raise SearchRefused(
                    f"[{kind}] query doesn't support multiple fields, found [{shown(field)}] and [{shown(other[0])}]",
                    PARSING,
                )
            raise SearchRefused(f"[{kind}] query does not support [{shown(other[0])}]", PARSING)
        return self._field(field), given

    def _field(self, name: str) -> str:
        if not name:
            raise SearchRefused("field name is null or empty")
        return self._budget.name(name)


def _only(body: Mapping[str, Any], kind: str, known: frozenset[str], text: str = "") -> None:
    for name in body:
        if name not in known:
            told = text.format(shown(name)) if text else f"[{kind}] query does not support [{shown(name)}]"
            raise SearchRefused(told, PARSING)


def _scalar(kind: str, value: Any) -> Any:
    if value is None:
        raise SearchRefused("value cannot be null")
    if isinstance(value, dict | list):
        raise SearchRefused(f"[{kind}] query does not support array of values", PARSING)
    if isinstance(value, str):
        _text(value)
    return value


def _text(value: str) -> None:
    if len(value) > LONGEST_TEXT:
        raise SearchRefused(f"a value has at most [{LONGEST_TEXT}] characters, this one has [{len(value)}]")
