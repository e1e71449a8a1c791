"""Elasticsearch's time values: `90m`, `1h`, `-1`. The grammar is that of Elasticsearch 7.17 and later."""

import re
from dataclasses import dataclass

_UNITS_MS = {
    "nanos": 1e-6,
    "micros": 1e-3,
    "ms": 1.0,
    "s": 1_000.0,
    "m": 60_000.0,
    "h": 3_600_000.0,
    "d": 86_400_000.0,
}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[dDfF]?")
_LONG_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TimeValue:
    """A duration as written. `text` is what Elasticsearch prints back; `milliseconds` may be a fraction."""

    text: str
    milliseconds: float

    @property
    def seconds(self) -> float:
        """The duration in seconds; negative only for the special value -1."""
        return self.milliseconds / 1_000


def parse_time_value(raw: str, name: str) -> TimeValue:
    """Read a time value; `name` is the setting that the error text names.

    Raises ValueError with Elasticsearch's text when `raw` is no time value.
    """
    text = raw.lower().strip()
    for unit in ("nanos", "micros", "ms", "s", "m", "h", "d"):
        # Minutes are `m` alone, in lower case and at the very end: `5M` means months, which is no time value.
        if not (raw.endswith("m") if unit == "m" else text.endswith(unit)):
            continue
        return _with_unit(raw, text.removesuffix(unit).strip(), unit, name)
    if re.fullmatch(r"-0*1", text):
        return TimeValue("-1", -1)
    if re.fullmatch(r"0+", text):
        return TimeValue("0ms", 0)
    raise ValueError(
        f"failed to parse setting [{name}] with value [{raw}] as a time value: unit is missing or unrecognized"
    )


def _with_unit(raw: str, number: str, unit: str, name: str) -> TimeValue:
    if not _INTEGER.fullmatch(number) or abs(int(number)) > _LONG_MAX:
        if _DECIMAL.fullmatch(number):
            raise ValueError(f"failed to parse [{raw}], fractional time values are not supported")
        raise ValueError(f"failed to parse [{raw}]")
    value = int(number)
    if value < -1:
        raise ValueError(
            f"failed to parse setting [{name}] with value [{raw}] as a time value: negative durations are not supported"
        )
    if value == -1:
        return TimeValue("-1", -_UNITS_MS[unit])
    return TimeValue(f"{value}{unit}", value * _UNITS_MS[unit])
