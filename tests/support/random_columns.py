"""Columns of random sources: their types, values for them, and how both are written in SQL and in CSV files."""

import math
import uuid
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

Value = Any

PLACEHOLDER = "__NULL_PLACEHOLDER__830f1de2__"
"""What stands for a missing value where the id of a document is made."""
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
    "$",
    "a$",
    "$b",
    "a$b",
    "a$b$a",
    PLACEHOLDER,
    f"a${PLACEHOLDER}",
]
DAY_NS = 86_400_000_000_000


def text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


@dataclass(frozen=True)
class Kind:
    """A type of column."""

    type: str
    values: st.SearchStrategy[Value] = field(repr=False)
    is_key: bool = False
    is_number: bool = False
    is_time: bool = False
    """Values are nanoseconds since 1970."""
    exact: bool = True
    """Sums of it do not depend on the order."""

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
            return f"{{'a': {value['a']}}}::{self.type}"
        if self.is_time:
            return f"make_timestamp_ns({value})::{self.type}"
        return f"{text(self.written(value))}::{self.type}"

    def written(self, value: Value) -> str:
        """As in a CSV file."""
        if self.is_time:
            return (date(1970, 1, 1) + timedelta(days=value // DAY_NS)).isoformat()
        return ("true" if value else "false") if isinstance(value, bool) else str(value)


def listed(of: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    return st.lists(st.none() | of, max_size=4)


def finite(values: list[Value]) -> list[Value]:
    return [v for v in values if not isinstance(v, float) or math.isfinite(v)]


_SMALL = st.integers(-30, 60)
_LONG = _SMALL | st.integers(-(2**63), 2**63 - 1)
_NOT_NUMBERS = [math.nan, math.inf, -math.inf]
_REAL = st.sampled_from([0.0, -0.0, 1.5, -2.25, 10.0, 1e5, 0.1, *_NOT_NUMBERS]) | st.floats(-1e6, 1e6)
_FLOAT = st.sampled_from([0.0, -0.0, 1.5, *_NOT_NUMBERS]) | st.floats(-1e6, 1e6, width=32)
_CENTS = st.integers(-9999, 9999).map(lambda n: Decimal(n) / 100)
_DAYS = st.integers(-400, 20_000).map(lambda n: n * DAY_NS)
_MICROS = st.integers(-(10**12), 10**15).map(lambda n: n * 1000)
_NANOS = st.integers(-(10**15), 10**18)
_STRUCT = st.just({"a": 1})
_ALL = [
    Kind("VARCHAR", st.sampled_from(TEXTS), is_key=True),
    Kind("TINYINT", _SMALL, is_key=True, is_number=True),
    Kind("INTEGER", _SMALL, is_key=True, is_number=True),
    Kind("UINTEGER", st.integers(0, 2**32 - 1), is_key=True, is_number=True),
    Kind("BIGINT", _LONG, is_key=True, is_number=True),
    Kind("UBIGINT", st.integers(0, 2**64 - 1), is_number=True),
    Kind("HUGEINT", _LONG | st.integers(-(2**126), 2**126), is_number=True),
    Kind("FLOAT", _FLOAT, is_key=True, is_number=True, exact=False),
    Kind("DOUBLE", _REAL, is_key=True, is_number=True, exact=False),
    Kind("DECIMAL(12,2)", _CENTS, is_key=True, is_number=True),
    Kind("DECIMAL(38,0)", (_LONG | st.integers(-(10**38) + 1, 10**38 - 1)).map(Decimal), is_key=True, is_number=True),
    Kind("UUID", st.integers(0, 3).map(lambda n: str(uuid.UUID(int=n))), is_key=True),
    Kind("BOOLEAN", st.booleans()),
    Kind("BLOB", st.just("x")),
    Kind("TIME", st.just("12:00:00")),
    Kind("JSON", st.sampled_from(["1", '"a"'])),
    Kind("DATE", _DAYS, is_time=True),
    Kind("TIMESTAMP", _MICROS, is_time=True),
    Kind("TIMESTAMP_NS", _NANOS, is_time=True),
    Kind("VARCHAR[]", listed(st.sampled_from(TEXTS)), is_key=True),
    Kind("BIGINT[]", listed(_LONG), is_key=True, is_number=True),
    Kind("DOUBLE[]", listed(_REAL), is_key=True, is_number=True, exact=False),
    Kind("DECIMAL(12,2)[]", listed(_CENTS), is_key=True, is_number=True),
    Kind("DATE[]", listed(_DAYS), is_time=True),
    Kind("TIMESTAMP_NS[]", listed(_NANOS), is_time=True),
    Kind("BOOLEAN[]", listed(st.booleans())),
    Kind("BIGINT[][]", st.lists(listed(_SMALL), max_size=2)),
    Kind("STRUCT(a INTEGER)", _STRUCT),
    Kind("STRUCT(a INTEGER)[]", listed(_STRUCT)),
]
KINDS = {kind.type: kind for kind in _ALL}
IN_CSV = ["VARCHAR", "INTEGER", "BIGINT", "UBIGINT", "HUGEINT", "DOUBLE", "BOOLEAN", "DATE"]
"""It has no lists, and no decimals can be said."""
IN_PARQUET = [name for name in KINDS if name != "HUGEINT"]
WIDER = {"TINYINT": ["INTEGER", "BIGINT", "DOUBLE"], "INTEGER": ["TINYINT", "BIGINT", "DOUBLE"]}
"""As what else another file may have whole numbers."""
