"""How an answer writes times and numbers as texts: Java's patterns, as Elasticsearch takes them. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache

from rollup_operator.model.time_values import parse_time_zone
from rollup_operator.query.errors import SearchRefused

LONGEST_PATTERN = 256
DEFAULT_DATE_FORMAT = "strict_date_optional_time"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ISO = "yyyy-MM-dd'T'HH:mm:ss.SSSXXX"

_NAMED = {
    "date_optional_time": _ISO,
    "date_optional_time_nanos": _ISO,
    "date_time": _ISO,
    "date_time_no_millis": "yyyy-MM-dd'T'HH:mm:ssXXX",
    "iso8601": _ISO,
    "date": "yyyy-MM-dd",
    "year_month_day": "yyyy-MM-dd",
    "year_month": "yyyy-MM",
    "year": "yyyy",
    "date_hour": "yyyy-MM-dd'T'HH",
    "date_hour_minute": "yyyy-MM-dd'T'HH:mm",
    "date_hour_minute_second": "yyyy-MM-dd'T'HH:mm:ss",
    "date_hour_minute_second_millis": "yyyy-MM-dd'T'HH:mm:ss.SSS",
    "date_hour_minute_second_fraction": "yyyy-MM-dd'T'HH:mm:ss.SSS",
    "hour": "HH",
    "hour_minute": "HH:mm",
    "hour_minute_second": "HH:mm:ss",
    "basic_date": "yyyyMMdd",
    "basic_date_time": "yyyyMMdd'T'HHmmss.SSSXX",
    "basic_date_time_no_millis": "yyyyMMdd'T'HHmmssXX",
}
"""Elasticsearch's names of formats, with what they print; `strict_` before a name makes no difference to that."""

Piece = str | Callable[[datetime], str]


def iso(ms: int) -> str:
    """Return a time as in 2017-05-14T00:00:00.000Z."""
    return date_printer(None, "UTC")(ms)


def interval_text(ms: int) -> str:
    """Return a length of time in its largest whole unit, as in 2h."""
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if ms % length == 0:
            return f"{ms // length}{unit}"
    return f"{ms}ms"


@lru_cache(maxsize=256)
def date_printer(format: str | None, zone: str) -> Callable[[float], str]:  # the request's word
    """Return what writes epoch milliseconds as a text. Raises SearchRefused where the format is not known."""
    pattern = (format or DEFAULT_DATE_FORMAT).split("||", 1)[0]
    if pattern == "epoch_millis":
        return lambda ms: str(int(ms))
    if pattern == "epoch_second":
        return _epoch_second
    written = _NAMED.get(pattern.removeprefix("strict_"), pattern)
    pieces, clock = _pieces(written), _zone(zone)

    def read(ms: float) -> datetime:
        try:
            return (_EPOCH + timedelta(milliseconds=ms)).astimezone(clock)
        except OverflowError as e:
            raise SearchRefused(f"the time [{ms}] cannot be written as [{pattern}]") from e

    if written == _ISO and clock is UTC:  # most times of an answer are written like this, and here at once
        return lambda ms: f"{read(ms).isoformat(timespec='milliseconds')[:-6]}Z"

    def print_date(ms: float) -> str:
        at = read(ms)
        return "".join([p if isinstance(p, str) else p(at) for p in pieces])

    return print_date


def _epoch_second(ms: float) -> str:
    seconds, rest = divmod(int(ms), 1000)
    return f"{seconds}.{rest:03}".rstrip("0") if rest else str(seconds)


def _zone(text: str) -> tzinfo:
    try:
        return parse_time_zone(text)
    except ValueError as e:
        raise SearchRefused(str(e)) from e


def _pieces(pattern: str) -> list[Piece]:
    """Read a pattern of Java's DateTimeFormatter: letters in runs, texts in quotes, anything else as it is."""
    if len(pattern) > LONGEST_PATTERN:
        raise SearchRefused(f"the format is longer than {LONGEST_PATTERN} characters")
    pieces: list[Piece] = []
    i = 0
    while i < len(pattern):
        c = pattern[i]
        if c == "'":
            end = pattern.find("'", i + 1)
            if end < 0:
                raise SearchRefused(f"Invalid format: [{pattern}]: Pattern ends with an incomplete string literal")
            pieces.append(pattern[i + 1 : end] if end > i + 1 else "'")
            i = end + 1
        elif c.isascii() and c.isalpha():
            n = len(pattern) - i - len(pattern[i:].lstrip(c))
            pieces.append(_letters(c, n, pattern))
            i += n
        else:
            pieces.append(c)
            i += 1
    return pieces


def _letters(c: str, n: int, pattern: str) -> Piece:
    match c:
        case "y" | "u":
            return (lambda at: f"{at.year % 100:02}") if n == 2 else (lambda at: f"{at.year:0{n}}")
        case "M" | "L" if n <= 4:
            return (
                (lambda at: _MONTHS[at.month - 1][: 3 if n == 3 else None])
                if n > 2
                else (lambda at: f"{at.month:0{n}}")
            )
        case "E" if n <= 4:
            return lambda at: _DAYS[at.weekday()][: 3 if n < 4 else None]
        case "Q" | "q" if n <= 2:
            return lambda at: f"{(at.month + 2) // 3:0{n}}"
        case "d" | "H" | "m" | "s" | "h" | "k" | "D" if n <= 3:
            return _two(c, n)
        case "S" if n <= 9:
            return lambda at: f"{at.microsecond * 1000:09}"[:n]
        case "a" if n == 1:
            return lambda at: "AM" if at.hour < 12 else "PM"
        case "X" | "x" | "Z" if n <= 5:
            return _offset(c, n)
        case "V" if n == 2:
            return lambda at: getattr(at.tzinfo, "key", None) or ("Z" if not at.utcoffset() else at.strftime("%:z"))
    raise SearchRefused(f"Invalid format: [{pattern}]: [{c * n}] is not supported here")


def _two(c: str, n: int) -> Piece:
    def read(at: datetime) -> int:
        match c:
            case "d":
                return at.day
            case "H":
                return at.hour
            case "m":
                return at.minute
            case "s":
                return at.second
            case "h":
                return at.hour % 12 or 12
            case "k":
                return at.hour or 24
            case _:
                return at.timetuple().tm_yday

    return lambda at: f"{read(at):0{n}}"


def _offset(c: str, n: int) -> Piece:
    def write(at: datetime) -> str:
        seconds = int((at.utcoffset() or timedelta()).total_seconds())
        if seconds == 0 and (c == "X" or (c == "Z" and n == 5)):
            return "Z"
        if c == "Z" and n == 4:
            return "GMT" + (_hours(seconds, ":", True) if seconds else "")
        colon = n in (3, 5) if c != "Z" else n == 5
        return _hours(seconds, ":" if colon else "", n > 1 or c == "Z" or seconds % 3600 != 0)

    return write


def _hours(seconds: int, between: str, minutes: bool) -> str:
    sign, rest = "-" if seconds < 0 else "+", abs(seconds)
    text = f"{sign}{rest // 3600:02}"
    if minutes:
        text += f"{between}{rest // 60 % 60:02}"
    return text + (f"{between}{rest % 60:02}" if rest % 60 else "")


_EXACTLY = Context(prec=2_000, rounding=ROUND_HALF_EVEN)
"""Has place for all digits of any number: 309 before the point, and those of a format behind it."""


@dataclass(frozen=True, slots=True)
class DecimalFormat:
    """Writes numbers as Java's DecimalFormat does, in the forms that charts ask for: 0.00, #,##0.#, 0.0%, $0."""

    prefix: str
    suffix: str
    group: int
    whole: int
    fewest: int
    most: int
    scale: int

    @classmethod
    def of(cls, pattern: str) -> "DecimalFormat":
        """Read a pattern. Raises SearchRefused where it is another form."""
        if len(pattern) > LONGEST_PATTERN:
            raise SearchRefused(f"the format is longer than {LONGEST_PATTERN} characters")
        body = pattern.split(";", 1)[0]
        inner = body.strip("".join(set(body) - set("#0,.")))
        begin = body.find(inner) if inner else -1
        prefix, suffix = body[:begin], body[begin + len(inner) :]
        whole, _, part = inner.partition(".")
        digits, shown = whole.replace(",", ""), part.rstrip("#")
        if not inner or set(inner) - set("#0,.") or "#" in digits.lstrip("#") or "#" in shown or "," in part:
            raise SearchRefused(f"Invalid format: [{pattern}] is not supported here")
        scale = 2 if "%" in prefix + suffix else 0
        group = len(whole) - whole.rfind(",") - 1 if "," in whole else 0
        before, after = (text.replace("'", "") for text in (prefix, suffix))
        return cls(before, after, group, digits.count("0"), len(shown), len(part), scale)

    def __call__(self, value: float) -> str:
        """Return the number as a text."""
        exact = _EXACTLY.quantize(Decimal(value).scaleb(self.scale, _EXACTLY), Decimal(1).scaleb(-self.most))
        whole, _, part = f"{abs(exact):f}".partition(".")
        part = part.rstrip("0").ljust(self.fewest, "0")
        whole = whole.lstrip("0").rjust(self.whole, "0")
        if self.group:
            first = len(whole) % self.group
            parts = [whole[:first]] if first else []
            whole = ",".join(parts + [whole[i : i + self.group] for i in range(first, len(whole), self.group)])
        sign = "-" if value < 0 else ""
        text = f"{whole}.{part}" if part else whole or "0"
        return f"{sign}{self.prefix}{text}{self.suffix}"


@lru_cache(maxsize=256)
def number_printer(pattern: str) -> Callable[[float], str]:
    """Return what writes numbers as texts. Raises SearchRefused."""
    return DecimalFormat.of(pattern)
