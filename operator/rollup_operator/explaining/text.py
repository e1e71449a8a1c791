"""Times and durations as text, and durations from text."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rollup_operator.explaining.commands import parts
from rollup_operator.model.counts import counted
from rollup_operator.model.times import duration, instant_of

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


def seconds_of(text: str) -> float:
    """Read a duration: `30s`, `1m30s`, `500ms`, `0`. Raises ValueError saying what is valid."""
    if text == "0":
        return 0.0
    seconds, at = 0.0, 0
    while part := _PART.match(text, at):
        seconds += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if at and at == len(text):
        return seconds
    raise ValueError(f"'{text}' is no duration: write 30s, 1m30s or 500ms, or 0 for one check without waiting")


def spoken(seconds: float) -> str:
    """Write a duration as people say it: `12 seconds`, `3 minutes`, `5 hours`, `12 days`."""
    whole = round(seconds)
    if whole < 1:
        return "less than a second"
    for unit, length, until in (("second", 1, 120), ("minute", 60, 7200), ("hour", 3600, 172_800)):
        if whole < until:
            return counted(round(seconds / length), unit)
    return counted(round(seconds / 86_400), "day")


def about(number: int) -> int:
    """Round a number to three digits."""
    return round(number, min(0, 3 - len(str(number))))


def number_shown(value: Any) -> str:
    """Write a number as people read it, `-` for None; what is no number as it is."""
    if isinstance(value, float):
        return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.2f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)


def ago(when: datetime | None, now: datetime) -> str:
    """Write how long ago something was, `-` if unknown."""
    if when is None:
        return "-"
    seconds = (now - when).total_seconds()
    return f"{spoken(seconds)} ago" if seconds >= 1 else "just now"


def ahead(when: datetime | None, now: datetime) -> str:
    """Write how far ahead something is, `-` if unknown."""
    if when is None:
        return "-"
    seconds = (when - now).total_seconds()
    return f"in {spoken(seconds)}" if seconds > 0 else f"overdue for {spoken(-seconds)}"


def short_age(when: datetime | None, now: datetime) -> str:
    """Write how long ago something was, for a column: `3m12s`."""
    return "-" if when is None else duration((now - when).total_seconds())


def moment(text: str | None) -> str:
    """Write a time of the API server in few characters: `2026-11-30 05:00Z`; `-` if there is none."""
    when = instant_of(text)
    if when is None:
        return "-"
    form = "%Y-%m-%d %H:%MZ" if not when.second else "%Y-%m-%d %H:%M:%SZ"
    return when.astimezone(UTC).strftime(form)


def sentence(text: str) -> str:
    """End a text as a sentence ends, once. A command to copy at its end stays as it is."""
    text = text.strip()
    if text.endswith("..") and not text.endswith("..."):
        text = text[:-1]
    ends = not text or text.endswith((".", "!", "?")) or parts(text)[-1].is_command
    return text if ends else f"{text}."


def capital(text: str) -> str:
    """Begin a sentence with a capital letter, unless it begins with a name such as spec.cron."""
    return text[:1].upper() + text[1:] if text.split(" ", 1)[0].rstrip(".,:;").isalpha() else text


def command(verb: str, namespace: str, name: str) -> str:
    """Write a command of the plugin in a form to copy."""
    return f"kubectl rollup {verb} {name} -n {namespace}"


def event_time(event: Mapping[str, Any]) -> datetime | None:
    """Return when an event was last seen."""
    series = event.get("series") or {}
    for text in (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime")):
        if (when := instant_of(text)) is not None:
            return when
    return instant_of(event["metadata"].get("creationTimestamp"))
