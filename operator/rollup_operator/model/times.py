"""Instants and durations as text."""

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """Write a time as Kubernetes does: UTC, whole seconds."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def micro_time(moment: datetime) -> str:
    """Write a time as Leases and events.k8s.io do: UTC, microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def minute(epoch_ms: int) -> str:
    """Write an instant to the minute, for what a request is about."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")


def rfc3339_ms(epoch_ms: int) -> str:
    """Write an instant; milliseconds only where there are some. Before the year 1 and after 9999: the number."""
    seconds, ms = divmod(epoch_ms, 1000)
    try:
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(epoch_ms)
    return f"{text}.{ms:03d}Z" if ms else f"{text}Z"


def duration(seconds: float) -> str:
    """Write a duration as kubectl does: 12s, 3m12s, 5h3m, 12d."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours, rest = divmod(minutes, 60)
    if hours < 8:
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    return f"{hours}h" if hours < 48 else f"{hours // 24}d"


def instant_of(text: str | None) -> datetime | None:
    """Read a time as Kubernetes writes it; None for what is none."""
    try:
        read = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return read if read is None or read.tzinfo is not None else read.replace(tzinfo=UTC)
