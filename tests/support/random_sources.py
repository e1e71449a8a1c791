"""Random sources, jobs over them, and what the documents must be: worked out row by row, in Python alone."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from support.rounding import DAY, HOUR, MINUTE, ms, round_fixed, round_long_unit, round_short_unit

Value = Any
Key = tuple[Any, ...]

TEXTS = [
    "a",
    "b",
    "",
    "1.1",
    "1.10",
    "1e5",
    "100000",
    "007",
    "7",
    "nan",
    "inf",
    "true",
    "NULL",
    "it's",
    'q"',
    "é",
    "💡",
    "x,y",
]
NAMES = ["k", "K 2", "Amount, EUR", "it's", 'q"', "{b}", "💡", "a.b", "n.terms", "key 0", "_count", "温度", "%s", "$1"]
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York", "Asia/Kathmandu"]
SPANS = [
    ("2024-03-09T00:00", "2024-04-02T00:00"),
    ("2024-10-25T00:00", "2024-11-05T00:00"),
    ("2024-01-01", "2024-01-03"),
]
FIXED = {"90m": 90 * MINUTE, "1h": HOUR, "5h": 5 * HOUR, "1d": DAY, "7d": 7 * DAY}
CALENDAR = ["1h", "1d", "1w", "1M", "1q", "hour", "day"]
LONG_UNITS = {"1d": "day", "day": "day", "1w": "week", "1M": "month", "1q": "quarter"}
HISTOGRAM = 10


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Kind:
    """A type of column."""

    type: str
    values: st.SearchStrategy[Value]
    is_key: bool = False
    is_number: bool = False
    is_time: bool = False

    @property
    def many(self) -> bool:
        return self.type.endswith("[]")

    def literal(self, value: Value) -> str:
        if value is None:
            return f"NULL::{self.type}"
        if isinstance(value, list):
            one = KINDS[self.type[:-2]]
            return f"[{', '.join(map(one.literal, value))}]::{self.type}"
        if isinstance(value, dict):
            return f"{{'a': {value['a']}}}"
        return f"{_text(self.written(value))}::{self.type}"

    @staticmethod
    def written(value: Value) -> str:
        """As in a CSV file."""
        return ("true" if value else "false") if isinstance(value, bool) else str(value)


def listed(of: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    return st.lists(st.none() | of, max_size=4)


_SMALL = st.integers(-30, 60)
_LONG = _SMALL | st.integers(-(2**63), 2**63 - 1)
_REAL = st.sampled_from([0.0, -0.0, 1.5, -2.25, 10.0, 1e5, 0.1, math.nan, math.inf, -math.inf]) | st.floats(-1e6, 1e6)
_ALL = [
    Kind("VARCHAR", st.sampled_from(TEXTS), is_key=True),
    Kind("INTEGER", _SMALL, is_key=True, is_number=True),
    Kind("BIGINT", _LONG, is_key=True, is_number=True),
    Kind("UBIGINT", st.integers(0, 2**64 - 1), is_number=True),
    Kind("HUGEINT", st.integers(-(2**100), 2**100), is_number=True),
    Kind("DOUBLE", _REAL, is_key=True, is_number=True),
    Kind("DECIMAL(12,2)", st.integers(-9999, 9999).map(lambda n: Decimal(n) / 100), is_key=True, is_number=True),
    Kind("BOOLEAN", st.booleans()),
    Kind("DATE", st.integers(0, 20_000).map(lambda n: date(1970, 1, 1) + timedelta(days=n)), is_time=True),
    Kind("VARCHAR[]", listed(st.sampled_from(TEXTS)), is_key=True),
    Kind("BIGINT[]", listed(_LONG), is_key=True, is_number=True),
    Kind("DOUBLE[]", listed(_REAL), is_key=True, is_number=True),
    Kind("STRUCT(a INTEGER)", st.just({"a": 1})),
]
KINDS = {kind.type: kind for kind in _ALL}

TIMES = {
    "TIMESTAMP": 1000,
    "TIMESTAMP_MS": 1_000_000,
    "TIMESTAMP_NS": 1,
    "TIMESTAMPTZ": 1000,
    "DATE": 86_400_000_000_000,
    "BIGINT": 1_000_000,
}
"""Types of times, and to how many nanoseconds they are exact."""


@dataclass(frozen=True)
class Example:
    """A source and a job over it."""

    form: str
    """parquet, csv, or files: two Parquet files."""
    time: str
    columns: dict[str, Kind]
    rows: list[dict[str, Value]]
    """`t` in nanoseconds since 1970."""
    spec: dict[str, Any]
    runs: int

    @property
    def groups(self) -> dict[str, list[str]]:
        groups = self.spec["groups"]
        return {name: groups.get(name, {}).get("fields", []) for name in ("histogram", "terms")}

    def refused(self) -> set[str]:
        """Columns that the job cannot use as it says."""
        found = {name for name in self.groups["histogram"] if not self.columns[name].is_number}
        found |= {name for name in self.groups["terms"] if not self.columns[name].is_key}
        for metric in self.spec["metrics"]:
            kind = self.columns[metric["field"]]
            if not (kind.is_number or (kind.is_time and not {"sum", "avg"} & set(metric["metrics"]))):
                found.add(metric["field"])
        return found

    def select(self, rows: Sequence[dict[str, Value]]) -> str:
        """Rows as a query."""
        names = [f"{quoted(name)}" for name in ("t", *self.columns)]
        if not rows:
            types = [f"NULL::{type_} AS {name}" for type_, name in zip(self._types(), names, strict=True)]
            return f"SELECT {', '.join(types)} WHERE false"
        values = [
            f"({', '.join([self._time(row['t']), *(k.literal(row[n]) for n, k in self.columns.items())])})"
            for row in rows
        ]
        return f"SELECT * FROM (VALUES {', '.join(values)}) r({', '.join(names)})"

    def _types(self) -> Iterator[str]:
        yield self.time
        for kind in self.columns.values():
            yield kind.type

    def _time(self, at: int | None) -> str:
        if at is None:
            return f"NULL::{self.time}"
        if self.time == "BIGINT":
            return f"{at // 1_000_000}::BIGINT"
        return (
            f"make_timestamp_ns({at})::{self.time}" if self.time != "TIMESTAMPTZ" else f"make_timestamptz({at // 1000})"
        )

    def text(self) -> str:
        """The rows as a CSV file."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["t", *self.columns])
        for row in self.rows:
            cells = ["" if row[n] is None else kind.written(row[n]) for n, kind in self.columns.items()]
            writer.writerow(["" if row["t"] is None else self._time_text(row["t"]), *cells])
        return out.getvalue()

    def _time_text(self, at: int) -> str:
        if self.time == "BIGINT":
            return str(at // 1_000_000)
        day = (date(1970, 1, 1) + timedelta(days=at // 86_400_000_000_000)).isoformat()
        if self.time == "DATE":
            return day
        seconds, rest = divmod(at % 86_400_000_000_000, 1_000_000_000)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        digits = f"{rest:09}"[: 9 if self.time == "TIMESTAMP_NS" else 6]
        return f"{day} {clock}.{digits}{'+00' if self.time == 'TIMESTAMPTZ' else ''}"

    def truth(self) -> dict[Key, dict[str, Any]]:
        """Each bucket's key with what its document must say: numbers as fractions, None where there are none."""
        found: dict[Key, list[dict[str, Value]]] = {}
        for row in self.rows:
            if row["t"] is None or row["t"] < 0:
                continue
            for key in self._keys(row):
                found.setdefault(key, []).append(row)
        return {key: self._document(rows) for key, rows in found.items()}

    def _keys(self, row: dict[str, Value]) -> Iterator[Key]:
        keys: list[Key] = [(self._bucket(row["t"] // 1_000_000),)]
        for name in self.groups["histogram"]:
            parts = {_floor(n) for n in _finite(self._values(row, name))}
            keys = [(*key, part) for key in keys for part in parts or {None}]
        for name in self.groups["terms"]:
            parts = {_term(v) for v in self._values(row, name)} - {None}
            keys = [(*key, part) for key in keys for part in parts or {None}]
        yield from keys

    def _values(self, row: dict[str, Value], name: str) -> list[Value]:
        value, kind = row[name], self.columns[name]
        if self.form == "csv" and value == "":
            return []  # no text cannot be told from a missing one
        return [v for v in (value or [] if kind.many else [value]) if v is not None]

    def _bucket(self, at: int) -> int:
        group = self.spec["groups"]["dateHistogram"]
        zone = group["timeZone"]
        if (fixed := group.get("fixedInterval")) is not None:
            return round_fixed(at, FIXED[fixed], zone)
        unit = group["calendarInterval"]
        return round_long_unit(at, LONG_UNITS[unit], zone) if unit in LONG_UNITS else round_short_unit(at, HOUR, zone)

    def _document(self, rows: Sequence[dict[str, Value]]) -> dict[str, Any]:
        told: dict[str, Any] = {"count": len(rows)}
        for metric in self.spec["metrics"]:
            name = metric["field"]
            if self.columns[name].is_time:
                values = [Fraction((v - date(1970, 1, 1)).days * DAY) for row in rows for v in self._values(row, name)]
            else:
                values = [Fraction(v) for row in rows for v in _finite(self._values(row, name))]
            told[name] = values
        return told


def _finite(values: Sequence[Value]) -> list[Value]:
    return [v for v in values if not isinstance(v, float) or math.isfinite(v)]


def _floor(value: Value) -> float:
    return float(math.floor(float(value) / HISTOGRAM) * HISTOGRAM)


def _term(value: Value) -> Value:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float):
        return value + 0.0 if math.isfinite(value) else None
    return value


def agree(example: Example, documents: Sequence[dict[str, Any]]) -> None:
    """Assert that the documents are what they must be, nothing more."""
    groups = example.groups
    names = ["t.date_histogram.timestamp", *(f"{f}.histogram.value" for f in groups["histogram"])]
    names += [f"{f}.terms.value" for f in groups["terms"]]
    found = {tuple(d[name] for name in names): d for d in documents}
    expected = example.truth()
    assert len(found) == len(documents)
    assert found.keys() == expected.keys()
    for key, told in expected.items():
        d = found[key]
        assert d["t.date_histogram._count"] == told["count"], key
        for metric in example.spec["metrics"]:
            field, values = metric["field"], told[metric["field"]]
            for name in metric["metrics"]:
                _agree_on(d, field, name, values, exact=not example.columns[field].type.startswith("DOUBLE"))


def _agree_on(d: dict[str, Any], field: str, name: str, values: list[Fraction], *, exact: bool) -> None:
    at = f"{field}.{name}.value"
    if name == "value_count":
        assert d[at] == len(values)
    elif not values and name != "sum":
        assert at not in d
    elif name in ("min", "max"):
        assert d[at] == float(min(values) if name == "min" else max(values))
    else:
        total = sum(values, Fraction(0))
        if exact:
            assert d[at] == float(total)
        else:
            assert math.isclose(d[at], float(total), rel_tol=1e-9, abs_tol=1e-9 * float(sum(map(abs, values))))
        if name == "avg":
            assert d[f"{field}.avg._count"] == len(values)


def _times(span: tuple[str, str], exact: int) -> st.SearchStrategy[int | None]:
    first, last = (ms(text) * 1_000_000 for text in span)
    edges = [first + day * 86_400_000_000_000 - 1 for day in range(1, 4)]
    at = st.integers(first, last) | st.sampled_from(edges)
    return st.none() | (st.just(-1) | at).map(lambda t: t // exact * exact)


@st.composite
def examples(draw: Callable[..., Any]) -> Example:
    """Draw one."""
    form = draw(st.sampled_from(["parquet", "files", "csv"]))
    time = draw(st.sampled_from(list(TIMES)))
    # CSV has no lists, and no decimals can be said; Parquet has no whole numbers of 128 bits.
    csv_lacks = ("[]", "STRUCT(a INTEGER)", "DECIMAL(12,2)")
    kinds = [k for k in _ALL if not (k.type.endswith(csv_lacks) if form == "csv" else k.type == "HUGEINT")]
    names = draw(st.lists(st.sampled_from(NAMES), max_size=4, unique_by=str.lower))
    columns = {name: draw(st.sampled_from(kinds)) for name in names}
    times = _times(draw(st.sampled_from(SPANS)), TIMES[time])
    row = st.fixed_dictionaries({"t": times, **{n: st.none() | k.values for n, k in columns.items()}})
    rows = draw(st.lists(row, min_size=1, max_size=25))
    group: dict[str, Any] = {"field": "t", "timeZone": draw(st.sampled_from(ZONES))}
    if draw(st.booleans()):
        group["fixedInterval"] = draw(st.sampled_from(list(FIXED)))
    else:
        group["calendarInterval"] = draw(st.sampled_from(CALENDAR))
    groups: dict[str, Any] = {"dateHistogram": group}
    used = st.lists(st.sampled_from(names), max_size=2, unique=True) if names else st.just([])
    if fields := draw(used):
        groups["terms"] = {"fields": fields}
    if fields := draw(used.map(lambda f: f[:1])):
        groups["histogram"] = {"fields": fields, "interval": HISTOGRAM}
    wanted = st.lists(st.sampled_from(["min", "max", "sum", "avg", "value_count"]), min_size=1, unique=True)
    metrics = [{"field": name, "metrics": draw(wanted)} for name in draw(used)]
    spec: dict[str, Any] = {"groups": groups, "metrics": metrics}
    if form == "csv":
        spec["csv"] = {"delimiter": ",", "header": True, "columns": _types(time, columns, groups, metrics)}
    return Example(form, time, columns, rows, spec, runs=draw(st.integers(1, 2)))


def _types(time: str, columns: dict[str, Kind], groups: dict[str, Any], metrics: list[Any]) -> list[dict[str, str]]:
    """Say what columns hold, but for texts that are terms: these are texts whatever they look like."""
    terms = set(groups.get("terms", {}).get("fields", ()))
    other = {m["field"] for m in metrics} | set(groups.get("histogram", {}).get("fields", ()))
    said = {"t": "TIMESTAMP" if time == "TIMESTAMP_MS" else time}
    for name, kind in columns.items():
        if kind.type != "VARCHAR" or name not in terms - other:
            said[name] = {"INTEGER": "BIGINT", "UBIGINT": "HUGEINT"}.get(kind.type, kind.type)
    return [{"name": name, "type": type_} for name, type_ in said.items()]
