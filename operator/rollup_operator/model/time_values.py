"""Elasticsearch's time values, `90m`, `1h`, `-1`, in the grammar of 7.17 and later; time zones and instants."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache, lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

from rollup_operator.model.hints import near

_UNITS_MS = {
    "nanos": 1e-6,
    "micros": 1e-3,
    "ms": 1.0,
    "s": 1_000.0,
    "m": 60_000.0,
    "h": 3_600_000.0,
    "d": 86_400_000.0,
}
_INTEGER = re.compile(r"[+-]?0*(?P<digits>[0-9]{1,19})")
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?[dDfF]?")
_LONG_MAX = 2**63 - 1
_OFFSET = re.compile(
    r"(?:UTC|GMT|UT)?(?P<sign>[+-])(?P<h>[0-9]{1,2})(?::(?P<m>[0-9]{2})(?::(?P<s>[0-9]{2}))?)?"
    r"|(?P<sign2>[+-])(?P<h2>[0-9]{2})(?P<m2>[0-9]{2})(?P<s2>[0-9]{2})?"
)
_REGION = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_YEAR = 2999
_NO_REGIONS = ("localtime", "posixrules", "Factory", "posix/", "right/")


@dataclass(frozen=True, slots=True)
class TimeValue:
    """A duration as written. `text` is what Elasticsearch prints back; `milliseconds` may be a fraction."""

    text: str
    milliseconds: float

    @property
    def seconds(self) -> float:
        """The duration in seconds; negative for the special value -1, and for what 6.x takes beside it."""
        return self.milliseconds / 1_000


def parse_time_value(raw: str, name: str, *, negative: bool = False) -> TimeValue:
    """Read a time value; `name` is the setting that the error text names. `negative`: as 6.x, take those below -1, too.

    Raises ValueError with Elasticsearch's text when `raw` is no time value.
    """
    text = raw.lower().strip()
    for unit in ("nanos", "micros", "ms", "s", "m", "h", "d"):
        # Minutes are `m` alone, in lower case and at the very end: `5M` means months, which is no time value.
        if not (raw.endswith("m") if unit == "m" else text.endswith(unit)):
            continue
        return _with_unit(raw, text.removesuffix(unit).strip(), unit, name, negative)
    if re.fullmatch(r"-0*1", text):
        return TimeValue("-1", -1)
    if re.fullmatch(r"0+", text):
        return TimeValue("0ms", 0)
    raise ValueError(
        f"failed to parse setting [{name}] with value [{raw}] as a time value: unit is missing or unrecognized"
    )


def _with_unit(raw: str, number: str, unit: str, name: str, negative: bool) -> TimeValue:
    match = _INTEGER.fullmatch(number)
    if match is None or int(match["digits"]) > _LONG_MAX:
        if _DECIMAL.fullmatch(number):
            raise ValueError(f"failed to parse [{raw}], fractional time values are not supported")
        raise ValueError(f"failed to parse [{raw}]")
    value = int(match["digits"]) * (-1 if number.startswith("-") else 1)
    if value < -1 and not negative:
        raise ValueError(
            f"failed to parse setting [{name}] with value [{raw}] as a time value: negative durations are not supported"
        )
    if value < 0:
        return TimeValue(str(value), value * _UNITS_MS[unit])
    return TimeValue(f"{value}{unit}", value * _UNITS_MS[unit])


class UnknownZone(ValueError):
    """There is no zone of that name."""

    def __init__(self, zone: str) -> None:
        super().__init__(f"'{zone}' is no time zone: {_A_ZONE}")
        self.zone = zone


_A_ZONE = "use an IANA name such as Europe/Berlin, or an offset such as +05:30"


@lru_cache(maxsize=256)
def parse_time_zone(text: str) -> tzinfo:
    """Read a zone as Java does: `Europe/Berlin`, `UTC`, `Z`, `+05:30`, `+0530`, `-3`, `GMT+1`, `UTC-08:00`.

    An offset gives a `datetime.timezone`, a region a `ZoneInfo`. Raises ValueError when `text` is no zone.
    """
    if text in ("Z", "UTC", "GMT", "UT"):
        return UTC
    if match := _OFFSET.fullmatch(text):
        part = match.groupdict(default="0")
        signs, numbers = ("sign", "h", "m", "s"), ("sign2", "h2", "m2", "s2")
        sign, hours, minutes, seconds = (part[name] for name in (signs if match["sign"] else numbers))
        if int(minutes) > 59 or int(seconds) > 59:
            raise ValueError(f"'{text}' is no time zone: minutes and seconds of an offset end at 59")
        offset = timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds))
        if offset > timedelta(hours=18):
            raise ValueError(f"'{text}' is no time zone: an offset is at most 18 hours")
        return timezone(-offset if sign == "-" else offset) if offset else UTC
    if _REGION.fullmatch(text) and not text.startswith(_NO_REGIONS):
        try:
            return ZoneInfo(text)
        except (KeyError, ValueError, OSError):  # OSError: a folder of zones, such as Europe
            pass
    raise UnknownZone(text)


@lru_cache(maxsize=256)
def unknown_zone(text: str) -> str:
    """Say of a name that no zone has which zone it may mean: the end of a sentence about it. Takes milliseconds."""
    meant = near(text, _zones())
    return f"did you mean {meant[0]}? Otherwise {_A_ZONE}" if meant else _A_ZONE


@cache
def _zones() -> Sequence[str]:
    return (resources.files("tzdata") / "zones").read_text().split()


def epoch_ms(moment: datetime) -> int:
    """Return an aware time in milliseconds since 1970, rounded down."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def parse_instant(text: str, field: str) -> int:
    """Read an instant as RFC 3339 writes it, in epoch milliseconds; a part of one counts as the next whole one.

    Raises ValueError that names the field.
    """
    if not _INSTANT.fullmatch(text):
        raise ValueError(f"{field}: '{text}' is no instant: write it as in 2024-01-31T00:00:00Z")
    try:
        at = datetime.fromisoformat(text.upper())
        since = at - _EPOCH
    except (ValueError, OverflowError) as e:
        raise ValueError(f"{field}: '{text}' is no instant: there is no such date or time") from e
    ms = -(-since // timedelta(milliseconds=1))
    if ms < 0:
        raise ValueError(f"{field}: '{text}' is before 1970: use 1970-01-01T00:00:00Z or later")
    if at.year > _LAST_YEAR:
        raise ValueError(f"{field}: '{text}' is too late: use a year up to {_LAST_YEAR}")
    return ms
