"""Random indices, jobs over them, and what the documents must be: worked out row by row, in Python alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import chain
from typing import Any

from hypothesis import strategies as st

from support.random_columns import TEXTS
from support.random_sources import METRICS, SPANS, agree_on, all_groups, bucket, floored, some
from support.rounding import ms

Value = Any
Written = tuple[Any, list[Value]]
"""What stands in a document, and what an aggregation sees of it."""

_NO_ALIAS = ("object", "nested")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANOS = 1_000_000
_FACTOR = 100
NAMES = ["k", "Amount, EUR", "it's", 'q"', "{b}", "💡", "a.b", "n.terms", "_count", "温度", "%s", "$1"]


@dataclass(frozen=True)
class Kind:
    """How an index maps a field."""

    mapping: Mapping[str, Any]
    values: st.SearchStrategy[Written] = field(repr=False)
    type: str
    """As the cluster names it."""
    is_key: bool = False
    is_number: bool = False
    is_time: bool = False
    hidden: bool = False
    """No aggregation sees it."""
    null: list[Value] = field(default_factory=list)
    """What an explicit null stands for."""
    inner: str = ""
    """The part of it that jobs name."""

    @property
    def term(self) -> str:
        """What terms of it are."""
        return (
            "keyword" if not self.is_number else "double" if "float" in self.type or "double" in self.type else "long"
        )


def _pairs(values: st.SearchStrategy[Value]) -> st.SearchStrategy[Written]:
    return values.map(lambda v: (v, [v]))


def _utf16(value: str) -> int:
    return len(value.encode("utf-16-le")) // 2


def _iso(at_ms: int, digits: str = "") -> str:
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}{digits}Z"


_TEXT = st.sampled_from(TEXTS)
_SMALL = st.integers(-30, 60)
_LONG = _SMALL | st.integers(-(2**63), 2**63 - 1)
_COERCED = st.sampled_from([("7", [7]), (7.9, [7]), ("-3", [-3])])
_QUARTERS = st.integers(-200, 400).map(lambda n: n / 4)
# A cluster takes -0.0 for another key than 0.0, be they rolled up or not.
_REAL = st.sampled_from([0.0, 1e300, 0.1]) | st.floats(-1e6, 1e6).map(lambda v: v + 0.0)
_FLOAT = st.floats(-1e6, 1e6, width=32).map(lambda v: v + 0.0)
_TIMES = st.integers(-(10**10), 2 * 10**12)

KEYWORDS = {
    "keyword": Kind({"type": "keyword"}, _pairs(_TEXT), "keyword", is_key=True),
    "short": Kind(
        {"type": "keyword", "ignore_above": 3},
        _TEXT.map(lambda t: (t, [t] if _utf16(t) <= 3 else [])),
        "keyword",
        is_key=True,
    ),
    "no null": Kind({"type": "keyword", "null_value": "none"}, _pairs(_TEXT), "keyword", is_key=True, null=["none"]),
    "lower": Kind(
        {"type": "keyword", "normalizer": "lowercase"}, _TEXT.map(lambda t: (t, [t.lower()])), "keyword", is_key=True
    ),
    "sub-field": Kind(
        {"type": "text", "fields": {"raw": {"type": "keyword"}}}, _pairs(_TEXT), "keyword", is_key=True, inner="raw"
    ),
    "text": Kind({"type": "text"}, _pairs(_TEXT), "text", is_key=True, hidden=True),
    "neither": Kind(
        {"type": "keyword", "doc_values": False, "index": False}, _pairs(_TEXT), "keyword", is_key=True, hidden=True
    ),
}
NUMBERS = {
    "long": Kind({"type": "long"}, _pairs(_LONG) | _COERCED, "long", is_key=True, is_number=True),
    "integer": Kind({"type": "integer"}, _pairs(_SMALL) | _COERCED, "integer", is_key=True, is_number=True),
    "not indexed": Kind({"type": "short", "index": False}, _pairs(_SMALL), "short", is_key=True, is_number=True),
    "no number": Kind({"type": "byte", "null_value": 5}, _pairs(_SMALL), "byte", is_key=True, is_number=True, null=[5]),
    "no doc values": Kind({"type": "long", "doc_values": False}, _pairs(_SMALL), "long", True, True, hidden=True),
    "unsigned": Kind({"type": "unsigned_long"}, _pairs(st.integers(0, 2**64 - 1)), "unsigned_long", is_number=True),
    "double": Kind({"type": "double"}, _pairs(_REAL), "double", is_key=True, is_number=True),
    "float": Kind({"type": "float"}, _pairs(_FLOAT), "float", is_key=True, is_number=True),
    "half": Kind({"type": "half_float"}, _pairs(_QUARTERS), "half_float", is_key=True, is_number=True),
    "scaled": Kind(
        {"type": "scaled_float", "scaling_factor": _FACTOR},
        st.integers(-9999, 9999).map(lambda n: (n / _FACTOR, [n * (1 / _FACTOR)])),
        "scaled_float",
        is_key=True,
        is_number=True,
    ),
}
DATES = {
    "date": Kind({"type": "date"}, _TIMES.map(lambda t: (_iso(t), [t])), "date", is_time=True),
    "seconds": Kind(
        {"type": "date", "format": "epoch_second"}, st.integers(0, 2 * 10**9).map(lambda s: (s, [s * 1000])), "date",
        is_time=True,
    ),
    "days": Kind(
        {"type": "date", "format": "yyyy/MM/dd||epoch_millis"},
        st.integers(0, 20000).map(lambda d: (f"{_EPOCH + timedelta(days=d):%Y/%m/%d}", [d * 86_400_000])),
        "date",
        is_time=True,
    ),
}  # fmt: skip
OTHERS = {
    "nanos": Kind(
        {"type": "date_nanos"}, st.integers(0, 2 * 10**12).map(lambda t: (_iso(t, "999999"), [t])), "date_nanos",
        is_time=True,
    ),
    "boolean": Kind({"type": "boolean"}, _pairs(st.booleans()), "boolean"),
    "ip": Kind({"type": "ip"}, _pairs(st.just("10.0.0.1")), "ip"),
    "object": Kind({"properties": {"x": {"type": "long"}}}, st.just(({"x": 1}, [])), "object"),
    "nested": Kind(
        {"type": "nested", "properties": {"x": {"type": "keyword"}}}, st.just(({"x": "a"}, [])), "nested", inner="x"
    ),
}  # fmt: skip
FAMILIES: list[Mapping[str, Kind]] = [KEYWORDS, NUMBERS, NUMBERS, DATES, OTHERS]
T_KINDS: Mapping[str, tuple[Mapping[str, Any], Callable[[int], Any], int]] = {
    "date": ({"type": "date"}, lambda ns: ns // _NANOS, _NANOS),
    "iso": ({"type": "date", "format": "strict_date_optional_time"}, lambda ns: _iso(ns // _NANOS), _NANOS),
    "text": ({"type": "date", "format": "yyyy-MM-dd HH:mm:ss"}, lambda ns: _iso(ns // _NANOS)[:19].replace("T", " "),
             _NANOS * 1000),
    "nanos": ({"type": "date_nanos"}, lambda ns: _iso(ns // _NANOS, f"{ns % _NANOS:06}"), 1),
    "not indexed": ({"type": "date", "index": False}, lambda ns: ns // _NANOS, _NANOS),
}  # fmt: skip


@dataclass(frozen=True)
class Index:
    """One of the indices of a source."""

    kinds: Mapping[str, Kind]
    time: str
    """Of `T_KINDS`; empty: it has none."""
    rows: Sequence[Mapping[str, Any]]
    """`t` in nanoseconds; of each field nothing, None for a null, or what was written."""
    shards: int

    def properties(self, alias: Mapping[str, str]) -> dict[str, Any]:
        """Its mapping; `alias`: other names of fields, each with the field."""
        found = {name: dict(kind.mapping) for name, kind in self.kinds.items()}
        found |= {other: {"type": "alias", "path": of} for other, of in alias.items() if _path(of, self.kinds)}
        return found | ({"t": dict(T_KINDS[self.time][0])} if self.time else {})

    def documents(self) -> Iterator[dict[str, Any]]:
        """The rows as they are indexed."""
        for row in self.rows:
            document = {name: _json(row[name]) for name in self.kinds if name in row}
            if self.time and row["t"] is not None:
                document["t"] = T_KINDS[self.time][1](row["t"])
            yield document

    def values(self, row: Mapping[str, Any], name: str) -> list[Value]:
        """What an aggregation sees of a field that a job names."""
        outer = next((n for n, kind in self.kinds.items() if name == _named(n, kind)), None)
        if outer is None or outer not in row:
            return []
        kind, given = self.kinds[outer], row[outer]
        parts = given if isinstance(given, list) else [given]
        return [v for part in parts for v in (kind.null if part is None else part[1])]


def _json(given: Any) -> Any:
    if isinstance(given, list):
        return [None if part is None else part[0] for part in given]
    return None if given is None else given[0]


def _named(name: str, kind: Kind) -> str:
    return f"{name}.{kind.inner}" if kind.inner else name


def _as_named(name: str, kind: Kind, of: str) -> Kind | None:
    """What a job finds that names `of`: no objects, which a cluster does not tell of."""
    if of == _named(name, kind):
        return kind if kind.type != "object" else None
    return KEYWORDS["text"] if of == name and kind.inner == "raw" else None


def _path(name: str, kinds: Mapping[str, Kind]) -> bool:
    """Whether an alias may stand for that field."""
    return any(name == _named(n, kind) and kind.type not in _NO_ALIAS for n, kind in kinds.items())


@dataclass(frozen=True)
class Source:
    """Indices that one pattern matches, and jobs over them."""

    indices: Sequence[Index]
    alias: Mapping[str, str]
    jobs: Sequence[Mapping[str, Any]]

    def found(self, name: str) -> list[Kind]:
        """How the indices map a field; nothing: none has it."""
        of = self.alias.get(name, name)
        found = [_as_named(n, kind, of) for index in self.indices for n, kind in index.kinds.items()]
        return [kind for kind in found if kind is not None and (name == of or kind.type not in _NO_ALIAS)]

    def refused(self, job: Mapping[str, Any]) -> set[str]:
        """Fields that a job cannot use as it says."""
        groups, wrong = job["groups"], set()
        for name in groups.get("histogram", {}).get("fields", ()):
            if not all(kind.is_number for kind in self.found(name)):
                wrong.add(name)
        for name in groups.get("terms", {}).get("fields", ()):
            found = self.found(name)
            if not all(kind.is_key for kind in found) or len({kind.term for kind in found}) > 1:
                wrong.add(name)
        for metric in job["metrics"]:
            found = self.found(metric["field"])
            if not all(kind.is_number or kind.is_time for kind in found) or (
                any(kind.is_time for kind in found) and {"sum", "avg"} & set(metric["metrics"])
            ):
                wrong.add(metric["field"])
        return wrong | {name for name in named(job) if not self.found(name) or any(k.hidden for k in self.found(name))}

    def truth(self, job: Mapping[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Each bucket's key with its rows' number and the values of its metrics."""
        found: dict[tuple[Any, ...], list[tuple[Index, Mapping[str, Any]]]] = {}
        for index in self.indices:
            for row in index.rows:
                if index.time and row["t"] is not None and row["t"] >= 0:
                    for key in self._keys(index, row, job):
                        found.setdefault(key, []).append((index, row))
        fields = {metric["field"] for metric in job["metrics"]}
        return {
            key: {"count": len(rows)}
            | {name: [Fraction(v) for i, row in rows for v in i.values(row, self._of(name))] for name in fields}
            for key, rows in found.items()
        }

    def _keys(self, index: Index, row: Mapping[str, Any], job: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        groups = job["groups"]
        keys: list[tuple[Any, ...]] = [(bucket(groups["dateHistogram"], row["t"] // _NANOS),)]
        for name in groups.get("histogram", {}).get("fields", ()):
            interval = groups["histogram"]["interval"]
            parts: set[Any] = {floored(v, interval) for v in index.values(row, self._of(name))}
            keys = [(*key, part) for key in keys for part in parts or {None}]
        for name in groups.get("terms", {}).get("fields", ()):
            parts = set(index.values(row, self._of(name)))
            keys = [(*key, part) for key in keys for part in parts or {None}]
        yield from keys

    def _of(self, name: str) -> str:
        return self.alias.get(name, name)


def named(job: Mapping[str, Any]) -> set[str]:
    """The fields that a job names, but for the time."""
    groups = [job["groups"].get(name, {}).get("fields", []) for name in ("histogram", "terms")]
    return {*chain(*groups), *(metric["field"] for metric in job["metrics"])}


def agree(source: Source, job: Mapping[str, Any], documents: Sequence[Mapping[str, Any]]) -> None:
    """Assert that the documents are what they must be, nothing more."""
    groups = job["groups"]
    names = ["t.date_histogram.timestamp"]
    names += [f"{f}.histogram.value" for f in groups.get("histogram", {}).get("fields", ())]
    names += [f"{f}.terms.value" for f in groups.get("terms", {}).get("fields", ())]
    found = {tuple(d[name] for name in names): dict(d) for d in documents}
    expected = source.truth(job)
    assert len(found) == len(documents), sorted(map(str, documents))
    assert found.keys() == expected.keys()
    for key, truth_of in expected.items():
        d = found[key]
        assert d["t.date_histogram._count"] == truth_of["count"], key
        for metric in job["metrics"]:
            for name in metric["metrics"]:
                agree_on(d, metric["field"], name, truth_of[metric["field"]], exact=False)


@st.composite
def sources(draw: Callable[..., Any]) -> Source:
    """Draw one."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    families = {name: draw(st.sampled_from(FAMILIES)) for name in names}
    usual = {name: draw(st.sampled_from(list(family.values()))) for name, family in families.items()}
    span = draw(st.sampled_from(SPANS))
    count = draw(st.integers(1, 3))
    indices = [draw(_index(usual, families, span, needs_time=i == 0)) for i in range(count)]
    known = sorted({_named(n, kind) for index in indices for n, kind in index.kinds.items()})
    plain = [
        of for of in known if all(_path(of, i.kinds) for i in indices if any(of == _named(*p) for p in i.kinds.items()))
    ]
    alias = {"other": draw(st.sampled_from(plain))} if plain and draw(st.booleans()) else {}
    jobs = draw(st.lists(_job([*known, *alias]), min_size=JOBS, max_size=JOBS))
    return Source(indices, alias, jobs)


JOBS = 6


@st.composite
def _index(
    draw: Callable[..., Any],
    usual: Mapping[str, Kind],
    families: Mapping[str, Mapping[str, Kind]],
    span: tuple[str, str],
    *,
    needs_time: bool,
) -> Index:
    kinds: dict[str, Kind] = {}
    for name, kind in usual.items():
        match draw(st.integers(0, 9)):
            case 0:
                continue
            case 1:
                kinds[name] = draw(st.sampled_from(list(families[name].values())))
            case _:
                kinds[name] = kind
    time = draw(st.sampled_from([*T_KINDS, *([] if needs_time else [""])]))
    first, last = (ms(text) * _NANOS for text in span)
    exact = T_KINDS[time][2] if time else 1
    at: st.SearchStrategy[Any] = st.integers(first, last).map(lambda t: t // exact * exact)
    if time != "nanos":  # which cannot tell of times before 1970
        at |= st.just(-exact)
    row = st.fixed_dictionaries(
        {"t": at | st.none()},
        optional={name: kind.values | st.none() | _several(kind) for name, kind in kinds.items()},
    )
    return Index(kinds, time, draw(st.lists(row, max_size=12)), draw(st.sampled_from([1, 1, 1, 2])))


def _several(kind: Kind) -> st.SearchStrategy[list[Written | None]]:
    return st.lists(kind.values | st.none(), max_size=4)


def _job(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    wanted = st.lists(st.sampled_from(METRICS), min_size=1, unique=True)

    def metrics(fields: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
        return st.tuples(*(st.fixed_dictionaries({"field": st.just(f), "metrics": wanted}) for f in fields)).map(list)

    return st.fixed_dictionaries(
        {
            "groups": all_groups(names),
            "metrics": some(names, 2).flatmap(metrics),
            "pageSize": st.sampled_from([3, 10, 1000]),
        }
    )
