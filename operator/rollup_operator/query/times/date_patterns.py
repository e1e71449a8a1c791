"""The formats in which a request writes dates: Elasticsearch's named ones, and patterns such as `dd/MM/yyyy`. Pure.

A format is compiled to a list of small steps. Each reads what it needs at its place and never goes back, so that the
time to read a date grows with its length alone. A part in brackets that does not fit is left out as a whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from rollup_operator.query.errors import SearchRefused

LONGEST_FORMAT = 256
"""Characters of a format."""

MONTHS: Final = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
                 "November", "December")  # fmt: skip
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_TIME: Final = "HH:mm:ss"
_NAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "date": ("y-M-d",),
    "strict_date": ("yyyy-MM-dd",),
    "basic_date": ("yyyyMMdd",),
    "year": ("y",),
    "strict_year": ("yyyy",),
    "year_month": ("y-M",),
    "strict_year_month": ("yyyy-MM",),
    "year_month_day": ("y-M-d",),
    "strict_year_month_day": ("yyyy-MM-dd",),
    "date_hour": ("y-M-d'T'H",),
    "strict_date_hour": ("yyyy-MM-dd'T'HH",),
    "date_hour_minute": ("y-M-d'T'H:m",),
    "strict_date_hour_minute": ("yyyy-MM-dd'T'HH:mm",),
    "date_hour_minute_second": ("y-M-d'T'H:m:s",),
    "strict_date_hour_minute_second": (f"yyyy-MM-dd'T'{_TIME}",),
    "date_hour_minute_second_fraction": ("y-M-d'T'H:m:s.f",),
    "strict_date_hour_minute_second_fraction": (f"yyyy-MM-dd'T'{_TIME}.f",),
    "date_hour_minute_second_millis": ("y-M-d'T'H:m:s.f",),
    "strict_date_hour_minute_second_millis": (f"yyyy-MM-dd'T'{_TIME}.f",),
    "date_time": ("y-M-d'T'H:m:s.fo",),
    "strict_date_time": (f"yyyy-MM-dd'T'{_TIME}.fo",),
    "date_time_no_millis": ("y-M-d'T'H:m:so",),
    "strict_date_time_no_millis": (f"yyyy-MM-dd'T'{_TIME}o",),
    "basic_date_time": ("yyyyMMdd'T'HHmmss.fo",),
    "basic_date_time_no_millis": ("yyyyMMdd'T'HHmmsso",),
    "strict_date_optional_time": ("yyyy[-MM[-dd['T'[HH[:mm[:ss[.f][,f]]]][o]]]]",),
    "strict_date_optional_time_nanos": ("yyyy[-MM[-dd['T'[HH[:mm[:ss[.f][,f]]]][o]]]]",),
    "date_optional_time": ("y[-M[-d['T'[H[:m[:s[.f][,f]]]][o]]]]",),
    "iso8601": ("yyyy[-MM[-dd['T'[HH[:mm[:ss[.f][,f]]]][o]]]]",),
}
"""The named formats in the letters of patterns, of which `f` (digits of a fraction) and `o` (an offset) are ours."""

_NOT_READ: Final = frozenset(
    {
        "basic_ordinal_date", "basic_ordinal_date_time", "basic_ordinal_date_time_no_millis", "basic_t_time",
        "basic_t_time_no_millis", "basic_time", "basic_time_no_millis", "basic_week_date", "basic_week_date_time",
        "basic_week_date_time_no_millis", "hour", "hour_minute", "hour_minute_second", "hour_minute_second_fraction",
        "hour_minute_second_millis", "ordinal_date", "ordinal_date_time", "ordinal_date_time_no_millis", "t_time",
        "t_time_no_millis", "time", "time_no_millis", "week_date", "week_date_time", "week_date_time_no_millis",
        "weekyear", "weekyear_week", "weekyear_week_day", "week_year",
    }
)  # fmt: skip
"""What Elasticsearch reads, too: weeks, days of the year, and times without a date."""

EPOCHS: Final[Mapping[str, int]] = {"epoch_millis": 1, "epoch_second": 1_000}
"""Formats that are numbers, and how many milliseconds one is."""

_TWO: Final = {"M": "month", "d": "day", "H": "hour", "h": "hour12", "m": "minute", "s": "second"}
_KNOWN: Final = frozenset("yuMdHhmsSaEZXxzVfo")
_DEEPEST: Final = 16


class NoMatch(Exception):
    """The text is no date of this format."""


@dataclass(slots=True)
class DateParts:
    """What was read of a date; None: it does not say."""

    numbers: dict[str, int] = field(default_factory=dict)
    nanos: int | None = None
    offset_ms: int | None = None
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class PatternStep:
    """One thing to read."""

    kind: str
    """literal, number, fraction, offset, name, half, zone, optional."""
    text: str = ""
    """The literal, or which part it is."""
    least: int = 1
    most: int = 1
    """Digits."""
    inner: tuple["PatternStep", ...] = ()


@dataclass(frozen=True, slots=True)
class DateFormat:
    """One format."""

    steps: tuple[PatternStep, ...]
    unit_ms: int = 0
    """Where the date is a number: of how many milliseconds one is."""

    def read(self, text: str) -> DateParts:
        """Read a whole text. Raises NoMatch."""
        parts = DateParts()
        if _read(self.steps, text, 0, parts) != len(text):
            raise NoMatch
        return parts


@lru_cache(maxsize=256)
def compiled(text: str) -> tuple[DateFormat, ...]:
    """Return the formats that `text` names, with `||` between them. Raises SearchRefused."""
    if len(text) > LONGEST_FORMAT:
        raise SearchRefused(f"a date format has at most [{LONGEST_FORMAT}] characters, this one has [{len(text)}]")
    if not text:
        raise SearchRefused("No date pattern provided")
    formats: list[DateFormat] = []
    for one in text.split("||"):
        name = one.strip()
        if not name:
            raise SearchRefused("No date pattern provided")
        if name in EPOCHS:
            formats.append(DateFormat((), EPOCHS[name]))
            continue
        if name.removeprefix("strict_") in _NOT_READ:
            raise SearchRefused(f"the date format [{name}] is not read here: use one with year, month and day")
        formats += [DateFormat(_steps(pattern, one)) for pattern in _NAMED.get(name, (name.removeprefix("8"),))]
    return tuple(formats)


def _steps(pattern: str, name: str) -> tuple[PatternStep, ...]:
    ours = name.strip() in _NAMED
    open_parts: list[list[PatternStep]] = [[]]
    at = 0
    while at < len(pattern):
        letter, begin = pattern[at], at
        at += 1
        if letter == "'":
            end = pattern.find("'", at)
            if end < 0:
                raise SearchRefused(f"Invalid format: [{name}]: Pattern ends with an incomplete string literal")
            open_parts[-1].append(PatternStep("literal", pattern[at:end] or "'"))
            at = end + 1
        elif letter == "[":
            open_parts.append([])
            if len(open_parts) > _DEEPEST:
                raise SearchRefused(f"Invalid format: [{name}]: at most [{_DEEPEST}] brackets within each other")
        elif letter == "]":
            if len(open_parts) == 1:
                raise SearchRefused(f"Invalid format: [{name}]: Pattern invalid as it contains ] without previous [")
            open_parts[-2].append(PatternStep("optional", inner=tuple(open_parts.pop())))
        elif letter.isascii() and letter.isalpha():
            while at < len(pattern) and pattern[at] == letter:
                at += 1
            if letter not in _KNOWN or (letter in "fo" and not ours):
                raise SearchRefused(f"Invalid format: [{name}]: Unknown pattern letter: {letter}")
            open_parts[-1].append(_field(letter, at - begin))
        else:
            open_parts[-1].append(PatternStep("literal", letter))
    while len(open_parts) > 1:
        open_parts[-2].append(PatternStep("optional", inner=tuple(open_parts.pop())))
    return tuple(_with_neighbours(open_parts[0]))


def _field(letter: str, count: int) -> PatternStep:
    if letter in "yu":
        if count == 2:
            return PatternStep("number", "year_of_century", 2, 2)
        return PatternStep("number", "year", count if count > 2 else 1, count if count > 2 else 9)
    if letter == "M" and count > 2:
        return PatternStep("name", "month", most=0 if count > 3 else 3)
    if letter in _TWO:
        return PatternStep("number", _TWO[letter], min(count, 2), 2)
    match letter:
        case "S":
            return PatternStep("fraction", least=count, most=count)
        case "f":
            return PatternStep("fraction", least=1, most=9)
        case "a":
            return PatternStep("half")
        case "E":
            return PatternStep("name", "weekday", most=0 if count > 3 else 3)
        case "z" | "V":
            return PatternStep("zone")
        case "Z":
            return PatternStep("offset", "colon" if count == 5 else "plain")
        case "X" | "x":
            return PatternStep("offset", "short" if count == 1 else "plain" if count in (2, 4) else "colon")
    return PatternStep("offset", "any")


def _with_neighbours(steps: list[PatternStep]) -> list[PatternStep]:
    """Let a year of any length leave their digits to the fields that follow it without a separator."""
    for i in range(len(steps) - 1):
        if steps[i].kind == steps[i + 1].kind == "number" and steps[i].text == "year" and steps[i].most == 9:
            steps[i] = PatternStep("number", "year", 4, 4)
    return steps


def _read(steps: tuple[PatternStep, ...], text: str, at: int, parts: DateParts) -> int:
    """Read the steps from `at` on; return where that ends."""
    for step in steps:
        match step.kind:
            case "literal":
                if not text.startswith(step.text, at):
                    raise NoMatch
                at += len(step.text)
            case "number":
                at = _number(step, text, at, parts)
            case "optional":
                before = dict(parts.numbers), parts.nanos, parts.offset_ms, parts.zone
                try:
                    at = _read(step.inner, text, at, parts)
                except NoMatch:
                    parts.numbers, parts.nanos, parts.offset_ms, parts.zone = before
            case "fraction":
                end = _digits(text, at, step.most)
                if end - at < step.least:
                    raise NoMatch
                parts.nanos = int(text[at:end][:9].ljust(9, "0"))
                at = end
            case "offset":
                at = _offset(step.text, text, at, parts)
            case "name":
                at = _name(step, text, at, parts)
            case "half":
                if text[at : at + 2].upper() not in ("AM", "PM"):
                    raise NoMatch
                parts.numbers["half"] = int(text[at : at + 2].upper() == "PM")
                at += 2
            case _:
                end = at
                while end < len(text) and text[end].isascii() and (text[end].isalnum() or text[end] in "/_+-:"):
                    end += 1
                if end == at:
                    raise NoMatch
                parts.zone = text[at:end]
                at = end
    return at


def _digits(text: str, at: int, most: int) -> int:
    end = at
    while end < len(text) and end - at < most and "0" <= text[end] <= "9":
        end += 1
    return end


def _number(step: PatternStep, text: str, at: int, parts: DateParts) -> int:
    negative = step.text == "year" and text.startswith("-", at)
    begin = at + negative
    end = _digits(text, begin, step.most)
    if end - begin < step.least:
        raise NoMatch
    value = int(text[begin:end])
    if step.text == "year_of_century":
        parts.numbers["year"] = 2000 + value
    else:
        parts.numbers[step.text] = -value if negative else value
    return end


def _offset(form: str, text: str, at: int, parts: DateParts) -> int:
    if form != "plain" and text.startswith("Z", at):
        parts.offset_ms = 0
        return at + 1
    if text[at : at + 1] not in ("+", "-") or at >= len(text):
        raise NoMatch
    sign = -1 if text[at] == "-" else 1
    hours_end = _digits(text, at + 1, 2)
    if hours_end != at + 3:
        raise NoMatch
    colon = text.startswith(":", hours_end)
    minutes_begin = hours_end + colon
    minutes_end = _digits(text, minutes_begin, 2)
    minutes = 0
    if minutes_end == minutes_begin + 2 and (form in ("any", "short") or colon == (form == "colon")):
        minutes, end = int(text[minutes_begin:minutes_end]), minutes_end
    elif form in ("any", "short") and not colon:
        end = hours_end
    else:
        raise NoMatch
    hours = int(text[at + 1 : hours_end])
    if hours * 60 + minutes > 18 * 60 or minutes > 59:
        raise NoMatch
    parts.offset_ms = sign * (hours * 60 + minutes) * 60_000
    return end


def _name(step: PatternStep, text: str, at: int, parts: DateParts) -> int:
    names = MONTHS if step.text == "month" else WEEKDAYS
    for i, name in enumerate(names):
        shown = name[: step.most] if step.most else name
        if text.startswith(shown, at):
            parts.numbers[step.text] = i + 1
            return at + len(shown)
    raise NoMatch
