"""Reads query strings, the language of search boxes: `carrier:AA AND NOT (origin:J* OR delay:>15)`. Pure.

They mean what they do in Elasticsearch, whose operators are Lucene's: AND and OR have no precedence, each says whether
the clauses beside it are needed. `a OR b AND c` is `a` or nothing, and `b` and `c` for sure.

    clause of AND      needed, and so is the one before
    clause of NOT, -   excluded
    other clauses      optional; one of them is needed where nothing else is

Words beside each other without an operator are one value, as they are for Elasticsearch's keyword fields.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from rollup_operator.query.reading.json_values import PARSING, RequestBudget, boolean, shown, text_of, token
from rollup_operator.query.reading.query_tokens import Token, failed, tokens
from rollup_operator.query.reading.regexes import NotSimple, wildcards

LONGEST_QUERY: Final = 10_000
"""Characters of a query string."""

DEEPEST: Final = 30
"""Parentheses within each other."""

_NO_EFFECT: Final = frozenset(
    {
        "_name", "allow_leading_wildcard", "analyze_wildcard", "auto_generate_synonyms_phrase_query", "boost",
        "enable_position_increments", "fuzziness", "fuzzy_max_expansions", "fuzzy_prefix_length", "fuzzy_rewrite",
        "fuzzy_transpositions", "max_determinized_states", "phrase_slop", "rewrite", "tie_breaker", "type",
        # Until Elasticsearch 7.
        "auto_generate_phrase_queries", "locale", "lowercase_expanded_terms", "split_on_whitespace", "use_dis_max",
    }
)  # fmt: skip
"""Options that change nothing for fields that are not cut into words."""

_NOT_ANSWERED: Final = frozenset({"analyzer", "quote_analyzer", "quote_field_suffix", "minimum_should_match", "escape"})

_CLOSES_WORDS: Final = frozenset({":", "*", "~", "^", "AND", "OR"})
"""What may not follow the second of two words, or they are not one value."""


@dataclass(frozen=True, slots=True)
class QueryStringOptions:
    """The options of one query string."""

    query: str
    fields: tuple[str, ...] = ("*",)
    """Where clauses without a field look."""
    listed: bool = False
    """`fields` says so, not `default_field`."""
    needs_all: bool = False
    """default_operator is AND."""
    lenient: bool = False
    time_zone: str | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "QueryStringOptions":
        """Read the body of a query. Raises SearchRefused."""
        query, fields, listed, needs_all, zone = None, ("*",), False, False, None
        lenient: bool | None = None
        for name, value in body.items():
            if name == "fields":
                if not isinstance(value, list) or not all(isinstance(one, str) for one in value) or not value:
                    raise SearchRefused(f"[query_string] query does not support [{name}]", PARSING)
                fields, listed = tuple(one.partition("^")[0] for one in value), True
                continue
            if isinstance(value, dict | list):
                raise SearchRefused(f"[query_string] unknown token [{token(value)}] after [{shown(name)}]", PARSING)
            match name:
                case "query":
                    query = None if value is None else text_of(value)
                case "default_field" if value is not None:
                    fields, listed = (text_of(value),), False
                case "default_operator":
                    operator = text_of(value).upper()
                    if operator not in ("OR", "AND"):
                        raise SearchRefused(
                            f"No enum constant org.elasticsearch.index.query.Operator.{shown(operator)}"
                        )
                    needs_all = operator == "AND"
                case "lenient" if value is not None:
                    lenient = boolean(value)
                case "time_zone" if value is not None:
                    zone = text_of(value)
                case "default_field" | "lenient" | "time_zone":
                    pass
                case _ if name in _NOT_ANSWERED:
                    raise SearchRefused(
                        f"[query_string] queries with [{name}] cannot be answered over rolled-up data: leave it out"
                    )
                case _ if name not in _NO_EFFECT:
                    raise SearchRefused(f"[query_string] query does not support [{shown(name)}]", PARSING)
        if query is None:
            raise SearchRefused("[query_string] must be provided with a [query]", PARSING)
        return cls(query, fields, listed, needs_all, fields == ("*",) if lenient is None else lenient, zone)


def read_query_string(options: QueryStringOptions, budget: RequestBudget) -> Clause:
    """Read a query string. Raises SearchRefused."""
    if len(options.query) > LONGEST_QUERY:
        raise SearchRefused(
            f"a query string has at most [{LONGEST_QUERY}] characters, this one has [{len(options.query)}]"
        )
    budget.take_query_string(options.query)
    if options.time_zone is not None:
        budget.zone(options.time_zone)
    for name in options.fields:
        budget.name(name)
    if not options.query.strip():
        return MATCH_NONE
    return _QueryReader(options, budget).read()


@dataclass(slots=True)
class _QueryPart:
    """A clause and what it is for."""

    clause: Clause
    use: str
    """may, must, not."""


class _QueryReader:
    """A recursive descent over one query string."""

    def __init__(self, options: QueryStringOptions, budget: RequestBudget) -> None:
        self._options, self._budget = options, budget
        self._tokens = tokens(options.query)
        self._at = 0

    def read(self) -> Clause:
        clause = self._query(self._options.fields, 0)
        if self._next.kind != "END":
            raise self._unexpected()
        return clause

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _kind(self, ahead: int) -> str:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)].kind

    def _unexpected(self) -> SearchRefused:
        return failed(self._options.query, self._next.at, f'Encountered "{shown(self._next.text)}"')

    def _query(self, fields: tuple[str, ...], depth: int) -> Clause:
        """Read clauses up to a closing parenthesis or the end."""
        if depth > DEEPEST:
            raise SearchRefused(f"a query string has at most [{DEEPEST}] parentheses within each other")
        parts: list[_QueryPart] = []
        while True:
            if self._kind(0) == self._kind(1) == "TERM" and self._kind(2) not in _CLOSES_WORDS:
                self._add(parts, "", "", self._words(fields))
            else:
                joint = self._take("AND", "OR") if parts else ""
                sign = {"+": "must", "-": "not", "NOT": "not"}.get(self._take("+", "-", "NOT"), "")
                self._add(parts, joint, sign, self._clause(fields, depth))
            if self._next.kind in ("END", ")"):
                break
        return _joined(parts)

    def _take(self, *kinds: str) -> str:
        kind = self._next.kind
        if kind not in kinds:
            return ""
        self._at += 1
        return kind

    def _add(self, parts: list[_QueryPart], joint: str, sign: str, clause: Clause) -> None:
        if parts and parts[-1].use != "not":
            if joint == "AND":
                parts[-1].use = "must"
            elif joint == "OR" and self._options.needs_all:
                parts[-1].use = "may"
        if self._options.needs_all:
            use = sign if sign == "not" else "may" if joint == "OR" else "must"
        else:
            use = sign or ("must" if joint == "AND" else "may")
        parts.append(_QueryPart(clause, use))

    def _words(self, fields: tuple[str, ...]) -> Clause:
        """Read words beside each other: one value."""
        words = [_plain(self._next.text)]
        self._at += 1
        while self._kind(0) == "TERM" and self._kind(1) not in _CLOSES_WORDS:
            words.append(_plain(self._next.text))
            self._at += 1
        return self._text(fields, " ".join(words))

    def _clause(self, fields: tuple[str, ...], depth: int) -> Clause:
        if self._kind(0) in ("TERM", "*") and self._kind(1) == ":":
            name = _plain(self._next.text)
            self._at += 2
            if name == "_exists_":
                return self._exists()
            if name == "*" and self._kind(0) == "*":
                self._at += 1
                return self._boosted(MATCH_ALL)
            fields = (self._budget.name(name),)
        if self._take("("):
            clause = self._query(fields, depth + 1)
            if not self._take(")"):
                raise self._unexpected()
            return self._boosted(clause)
        return self._boosted(self._term(fields))

    def _boosted(self, clause: Clause) -> Clause:
        if self._next.kind == "~":
            raise SearchRefused(
                f"fuzzy searches ([~] in [{shown(self._options.query)}]) cannot be answered over rolled-up data"
            )
        self._take("^")
        return clause

    def _exists(self) -> Clause:
        found = self._next
        self._at += 1
        if found.kind in ("PREFIX", "WILD"):  # a pattern for values of a field of this name: there is none
            return self._boosted(MATCH_NONE)
        if found.kind not in ("TERM", "QUOTED"):
            self._at -= 1
            raise self._unexpected()
        return self._boosted(ExistsClause(self._budget.name(_plain(found.text)), "query_string"))

    def _term(self, fields: tuple[str, ...]) -> Clause:
        found = self._next
        self._at += 1
        match found.kind:
            case "TERM":
                return self._text(fields, _plain(found.text))
            case "BARE":
                return self._in_each(fields, lambda field: self._value(field, found.text))
            case "QUOTED":
                if self._kind(0) == "~":  # how far words may be apart: there is one
                    self._at += 1
                return self._in_each(fields, lambda field: self._value(field, _plain(found.text)))
            case "*":
                if fields == ("*",):
                    return MATCH_ALL
                return self._in_each(fields, lambda field: ExistsClause(field, "query_string"))
            case "PREFIX":
                return self._in_each(fields, lambda field: self._pattern(field, found.text + "*"))
            case "WILD":
                return self._in_each(fields, lambda field: self._pattern(field, found.text))
            case "REGEX":
                return self._in_each(fields, lambda field: self._regex(field, found.text))
            case "RANGE":
                return self._in_each(fields, lambda field: self._range(field, found))
        self._at -= 1
        raise self._unexpected()

    def _in_each(self, fields: tuple[str, ...], make: Callable[[str], Clause]) -> Clause:
        found = []
        for field in fields:
            self._budget.take_clause()
            found.append(make(field))
        return found[0] if len(found) == 1 else BoolClause(should=tuple(found), at_least=1)

    def _value(self, field: str, text: str) -> Clause:
        return TermClause(field, (text,), "query_string", lenient=self._options.lenient)

    def _text(self, fields: tuple[str, ...], text: str) -> Clause:
        """Return the clause of a text without quotes, which may begin with < or >."""
        if len(text) < 2 or text[0] not in "<>":
            return self._in_each(fields, lambda field: self._value(field, text))
        if self._options.listed and fields is self._options.fields:
            # Elasticsearch finds nothing here, which nobody means.
            raise SearchRefused(
                f"[{shown(text)}] in [query_string] query finds nothing where [fields] are listed: name its field"
            )
        return self._in_each(fields, lambda field: self._comparison(field, text))

    def _comparison(self, field: str, text: str) -> Clause:
        inclusive = len(text) > 2 and text[1] == "="
        bound = text[2 if inclusive else 1 :]
        zone, lenient = self._options.time_zone, self._options.lenient
        if text[0] == ">":
            return RangeClause(field, bound, None, inclusive, True, None, zone, "query_string", lenient)
        return RangeClause(field, None, bound, True, inclusive, None, zone, "query_string", lenient)

    def _range(self, field: str, found: Token) -> Clause:
        low = None if found.text == "*" and not found.quoted[0] else _plain(found.text)
        high = None if found.other == "*" and not found.quoted[1] else _plain(found.other)
        return RangeClause(
            field,
            low,
            high,
            found.edges[0] == "[",
            found.edges[1] == "]",
            None,
            self._options.time_zone,
            "query_string",
            self._options.lenient,
        )

    def _pattern(self, field: str, pattern: str) -> Clause:
        return PatternClause(field, pattern, "query_string", lenient=self._options.lenient)

    def _regex(self, field: str, regex: str) -> Clause:
        self._budget.take_expression()
        try:
            found = wildcards(regex)
        except NotSimple as e:
            raise SearchRefused(f"the regular expression [/{shown(regex)}/] cannot be answered here: {e}") from e
        self._budget.take_values(len(found))
        texts = tuple(one.text for one in found if one.text is not None)
        clauses: list[Clause] = [self._pattern(field, one.pattern) for one in found if one.text is None]
        if texts:
            clauses.append(TermClause(field, texts, "query_string", lenient=True))
        return clauses[0] if len(clauses) == 1 else BoolClause(should=tuple(clauses), at_least=1)


def _joined(parts: list[_QueryPart]) -> Clause:
    must = [part.clause for part in parts if part.use == "must"]
    may = [part.clause for part in parts if part.use == "may"]
    excluded = [NotClause(part.clause) for part in parts if part.use == "not"]
    if len(parts) == 1 and not excluded:
        return parts[0].clause
    return BoolClause(must=(*must, *excluded), should=tuple(may), at_least=1 if may and not must else 0)


def _plain(text: str) -> str:
    """Take the backslashes out."""
    if "\\" not in text:
        return text
    out: list[str] = []
    at = 0
    while at < len(text):
        if text[at] != "\\" or at + 1 == len(text):
            out.append(text[at])
            at += 1
        elif text[at + 1] == "u" and _is_hex(text[at + 2 : at + 6]):
            out.append(chr(int(text[at + 2 : at + 6], 16)))
            at += 6
        else:
            out.append(text[at + 1])
            at += 2
    return "".join(out)


def _is_hex(text: str) -> bool:
    return len(text) == 4 and all(c in "0123456789abcdefABCDEF" for c in text) and not 0xD800 <= int(text, 16) < 0xE000
