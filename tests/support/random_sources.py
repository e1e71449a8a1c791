"""Random sources, jobs over them, and what the documents must be: worked out row by row, in Python alone."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from typing import Any

from hypothesis import strategies as st

from support.random_columns import DAY_NS, IN_CSV, IN_PARQUET, KINDS, WIDER, Kind, Value, finite
from support.rounding import DAY, HOUR, MINUTE, ms, round_fixed, round_long_unit, round_short_unit

Key = tuple[Any, ...]

NAMES = ["k", "K 2", "Amount, EUR", "it's", 'q"', "{b}", "💡", "a.b", "n.terms", "key 0", "_count", "温度", "%s", "$1"]
TWINS = ("Twin", "tWIN")
"""Columns whose names differ in case only."""
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York", "Asia/Kathmandu"]
SPANS = [
    ("2024-03-09T00:00", "2024-04-02T00:00"),
    ("2024-10-25T00:00", "2024-11-05T00:00"),
    ("2024-01-01", "2024-01-03"),
]
FIXED = {"90m": 90 * MINUTE, "1h": HOUR, "5h": 5 * HOUR, "1d": DAY, "7d": 7 * DAY}
CALENDAR = ["1h", "1d", "1w", "1M", "1q", "hour", "day"]
LONG_UNITS = {"1d": "day", "day": "day", "1w": "week", "1M": "month", "1q": "quarter"}
METRICS = ["min", "max", "sum", "avg", "value_count"]
TIMES = {
    "TIMESTAMP": 1000,
    "TIMESTAMP_MS": 1_000_000,
    "TIMESTAMP_NS": 1,
    "TIMESTAMPTZ": 1000,
    "DATE": DAY_NS,
    "BIGINT": 1_000_000,
}
"""Types of times, and to how many nanoseconds they are exact."""
_WIDEST = 10**38
SEVERAL = "TIMESTAMP[]"
"""No job takes its time from this."""


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class File:
    """One of the files of a source."""

    rows: list[dict[str, Value]]
    columns: dict[str, str]
    """The types of those that it has."""


@dataclass(frozen=True)
class Example:
    """A source and a job over it."""

    form: str
    """parquet, csv, or files: two Parquet files."""
    time: str
    columns: dict[str, Kind]
    rows: list[dict[str, Value]]
    """`t` in nanoseconds since 1970."""
    files: list[File]
    spec: dict[str, Any]
    runs: int
    late: bool
    """The second file comes after the first run."""

    @property
    def groups(self) -> dict[str, list[str]]:
        groups = self.spec["groups"]
        return {name: groups.get(name, {}).get("fields", []) for name in ("histogram", "terms")}

    @property
    def named(self) -> set[str]:
        """Columns that the job names."""
        return {*chain(*self.groups.values()), *(m["field"] for m in self.spec["metrics"])}

    def refused(self) -> set[str]:
        """Columns that the job cannot use as it says."""
        found = {name for name in self.groups["histogram"] if not self.columns[name].is_number}
        found |= {name for name in self.groups["terms"] if not self.columns[name].is_key}
        for metric in self.spec["metrics"]:
            kind = self.columns[metric["field"]]
            if not (kind.is_number or (kind.is_time and not {"sum", "avg"} & set(metric["metrics"]))):
                found.add(metric["field"])
        return found | self.alike() | ({"t"} if self.time == SEVERAL else set())

    def overflowing(self) -> set[str]:
        """Columns of which sums may be beyond what is summed up exactly."""
        wide = {name for name, kind in self.columns.items() if kind.type in ("HUGEINT", "DECIMAL(38,0)")}
        summed = {m["field"] for m in self.spec["metrics"] if m["field"] in wide and {"sum", "avg"} & {*m["metrics"]}}
        return {
            name
            for values_of in (self.truth().values() if summed else ())
            for name in summed
            if sum(map(abs, values_of[name])) >= _WIDEST
        }

    def untold(self) -> set[str]:
        """Terms with decimals that their keys, which are doubles, do not tell from others."""
        decimals = [name for name in self.groups["terms"] if self.columns[name].type == "DECIMAL(38,0)"]
        counted = [row for row in self.rows if row["t"] is not None and row["t"] >= 0]
        return {
            name
            for name in decimals
            for row in counted
            if (value := row[name]) is not None and Decimal(repr(float(value))) != value
        }

    def alike(self) -> set[str]:
        """Columns that the job names and that cannot be told from others."""
        return self.named & set(TWINS) if set(TWINS) <= self.columns.keys() else set()

    def select(self, file: File) -> str:
        """A file's rows as a query."""
        kinds = {name: self.columns[name] for name in file.columns}
        values = [
            f"({', '.join([self._time(row['t']), *(kind.literal(row[n]) for n, kind in kinds.items())])})"
            for row in file.rows
        ]
        made = [f"c{i}" for i in range(len(kinds))]
        of = [f"{c}::{file.columns[name]} AS {quoted(written(name))}" for c, name in zip(made, kinds, strict=True)]
        return f"SELECT {', '.join(['t', *of])} FROM (VALUES {', '.join(values)}) r({', '.join(['t', *made])})"

    def _time(self, at: int | None) -> str:
        if at is None:
            return f"NULL::{self.time}"
        if self.time == SEVERAL:
            return f"[make_timestamp_ns({at}), NULL]::{SEVERAL}"
        if self.time == "BIGINT":
            return f"{at // 1_000_000}::BIGINT"
        if self.time == "TIMESTAMPTZ":
            return f"make_timestamptz({at // 1000})"
        return f"make_timestamp_ns({at})::{self.time}"

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
        day = (date(1970, 1, 1) + timedelta(days=at // DAY_NS)).isoformat()
        if self.time == "DATE":
            return day
        seconds, rest = divmod(at % DAY_NS, 1_000_000_000)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        digits = f"{rest:09}"[: 9 if self.time == "TIMESTAMP_NS" else 6]
        return f"{day} {clock}.{digits}{'+00' if self.time == 'TIMESTAMPTZ' else ''}"

    def truth(self) -> dict[Key, dict[str, Any]]:
        """Each bucket's key with what its document must say: numbers as fractions, None where there are none."""
        found: dict[Key, list[dict[str, Value]]] = {}
        for row in self.rows:
            if row["t"] is None or row["t"] < 0:
                continue
            for key in self.keys_of(row):
                found.setdefault(key, []).append(row)
        return {key: self._document(rows) for key, rows in found.items()}

    def keys_of(self, row: dict[str, Value]) -> Iterator[Key]:
        keys: list[Key] = [(bucket(self.spec["groups"]["dateHistogram"], row["t"] // 1_000_000),)]
        for name in self.groups["histogram"]:
            interval = self.spec["groups"]["histogram"]["interval"]
            parts = {floored(n, interval) for n in finite(self.values_of(row, name))}
            keys = [(*key, part) for key in keys for part in parts or {None}]
        for name in self.groups["terms"]:
            parts = {_term(v) for v in self.values_of(row, name)} - {None}
            keys = [(*key, part) for key in keys for part in parts or {None}]
        yield from keys

    def values_of(self, row: dict[str, Value], name: str) -> list[Value]:
        value, kind = row[name], self.columns[name]
        if self.form == "csv" and value == "":
            return []  # no text cannot be told from a missing one
        return [v for v in (value or [] if kind.many else [value]) if v is not None]

    def _document(self, rows: Sequence[dict[str, Value]]) -> dict[str, Any]:
        document: dict[str, Any] = {"count": len(rows)}
        for name in {metric["field"] for metric in self.spec["metrics"]}:
            values = [v for row in rows for v in finite(self.values_of(row, name))]
            document[name] = [Fraction(v // 1_000_000 if self.columns[name].is_time else v) for v in values]
        return document


def written(name: str) -> str:
    """What stands in a Parquet file for the name of a column, as long: DuckDB writes no two that differ in case."""
    return TWINS[1][:-1] + "~" if name == TWINS[1] else name


def bucket(group: dict[str, Any], at: int) -> int:
    """Where the bucket of an instant begins, both in milliseconds."""
    zone = group["timeZone"]
    if (fixed := group.get("fixedInterval")) is not None:
        return round_fixed(at, FIXED[fixed], zone)
    unit = group["calendarInterval"]
    return round_long_unit(at, LONG_UNITS[unit], zone) if unit in LONG_UNITS else round_short_unit(at, HOUR, zone)


def floored(value: Value, interval: int) -> float:
    return float(math.floor(float(value) / interval) * interval)


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
    for key, truth_of in expected.items():
        d = found[key]
        assert d["t.date_histogram._count"] == truth_of["count"], key
        for metric in example.spec["metrics"]:
            field, values = metric["field"], truth_of[metric["field"]]
            for name in metric["metrics"]:
                agree_on(d, field, name, values, exact=example.columns[field].exact)


def agree_on(d: dict[str, Any], field: str, name: str, values: list[Fraction], *, exact: bool) -> None:
    """Assert that a document's metric is that of the values."""
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


def times(span: tuple[str, str], exact: int) -> st.SearchStrategy[int | None]:
    """Instants of a span in nanoseconds, its edges often."""
    first, last = (ms(text) * 1_000_000 for text in span)
    edges = [first + day * DAY_NS - 1 for day in range(1, 4)]
    at = st.integers(first, last) | st.sampled_from(edges)
    return st.none() | (st.just(-1) | at).map(lambda t: t // exact * exact)


@st.composite
def examples(draw: Callable[..., Any]) -> Example:
    """Draw one."""
    form = draw(st.sampled_from(["parquet", "files", "csv"]))
    time = draw(st.sampled_from(list(TIMES)))
    if form != "csv" and draw(st.integers(0, 31)) == 0:
        time = SEVERAL
    names = draw(st.lists(st.sampled_from(NAMES), max_size=4, unique_by=str.lower))
    if draw(st.integers(0, 7)) == 0:
        names += TWINS
    types = st.sampled_from(IN_CSV if form == "csv" else IN_PARQUET)
    columns = {name: KINDS[draw(types)] for name in names}
    at = times(draw(st.sampled_from(SPANS)), TIMES.get(time, 1000))
    row = st.fixed_dictionaries({"t": at, **{n: st.none() | k.values for n, k in columns.items()}})
    rows = draw(st.lists(row, min_size=2, max_size=25))
    files, late = draw(_files(columns, rows)) if form == "files" else ([_file(columns, rows)], False)
    groups = draw(all_groups(names))
    wanted = st.lists(st.sampled_from(METRICS), min_size=1, unique=True)
    metrics = [{"field": name, "metrics": draw(wanted)} for name in draw(some(names, 2))]
    spec: dict[str, Any] = {"groups": groups, "metrics": metrics}
    if late:
        spec["lookback"] = "9000d"
    if form == "csv":
        spec["csv"] = {"delimiter": ",", "header": True, "columns": _said(time, columns, groups, metrics)}
    return Example(form, time, columns, rows, files, spec, 2 if late else draw(st.integers(1, 2)), late)


def all_groups(names: list[str], field: str = "t") -> st.SearchStrategy[dict[str, Any]]:
    """Groups by the time field and some of the other ones."""
    interval = st.fixed_dictionaries({"fixedInterval": st.sampled_from(list(FIXED))}) | st.fixed_dictionaries(
        {"calendarInterval": st.sampled_from(CALENDAR)}
    )
    date = st.fixed_dictionaries({"field": st.just(field), "timeZone": st.sampled_from(ZONES)})
    histogram = st.fixed_dictionaries({"fields": some(names, 1), "interval": st.sampled_from([1, 7, 10, 1000])})

    def made(parts: tuple[Any, Any, list[str], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {"dateHistogram": parts[0] | parts[1]}
        if parts[2]:
            found["terms"] = {"fields": parts[2]}
        return found | ({"histogram": parts[3]} if parts[3]["fields"] else {})

    return st.tuples(date, interval, some(names, 3), histogram).map(made)


def some(names: list[str], most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), max_size=most, unique=True) if names else st.just([])


def _file(columns: dict[str, Kind], rows: list[dict[str, Value]]) -> File:
    return File(rows, {name: kind.type for name, kind in columns.items()})


@st.composite
def _files(draw: Callable[..., Any], columns: dict[str, Kind], rows: list[dict[str, Value]]) -> tuple[list[File], bool]:
    """Divide the rows among two files, which need not have the same columns, nor the same types of them."""
    late = draw(st.booleans())
    middle = len(rows) // 2
    files = [_file(columns, rows[middle:]), _file(columns, rows[:middle])]
    for name, kind in columns.items():
        if not late and (lacking := draw(st.sampled_from([None, None, *files]))) is not None:
            del lacking.columns[name]
            for row in lacking.rows:
                row[name] = None
        elif kind.type in WIDER:
            files[draw(st.integers(0, 1))].columns[name] = draw(st.sampled_from(WIDER[kind.type]))
    return files, late


def _said(time: str, columns: dict[str, Kind], groups: dict[str, Any], metrics: list[Any]) -> list[dict[str, str]]:
    """Say what columns hold, but for texts that are terms: these are texts whatever they look like."""
    terms = set(groups.get("terms", {}).get("fields", ()))
    other = {m["field"] for m in metrics} | set(groups.get("histogram", {}).get("fields", ()))
    said = {"t": "TIMESTAMP" if time == "TIMESTAMP_MS" else time}
    for name, kind in columns.items():
        if name in TWINS and name not in terms | other:
            continue
        if kind.type != "VARCHAR" or name not in terms - other:
            said[name] = {"INTEGER": "BIGINT", "UBIGINT": "HUGEINT"}.get(kind.type, kind.type)
    return [{"name": name, "type": type_} for name, type_ in said.items()]
