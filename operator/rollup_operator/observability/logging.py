"""Structured logs: one line an occurrence, JSON for machines, readable on a terminal.

The operator's own lines take a short way to stderr, since a storm of stops writes thousands; those of libraries come
through the standard library's logging.
"""

import io
import json
import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, TextIO

import orjson
import structlog

from rollup_operator.escaping import escaped, escaped_json

FIRST_KEYS = ("timestamp", "level", "event", "namespace", "job")
"""What each line begins with, as far as it has them; what a line says of its own follows."""

RETRIES = re.compile(r"^Request attempt #(?P<attempt>\d+)(/\d+)? failed; will retry")
"""How kopf logs, as an error, a request that it retries at once."""

PATIENCE = 5
"""From that many attempts on it is a warning: kopf makes ten in a second."""


def configure(form: str, level: str) -> None:
    """Send structlog's and the standard library's records to stderr. `form`: json, console, or auto."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.types.Processor] = (
        [_ordered, _escape, _text()]
        if console
        else [structlog.processors.format_exc_info, _ordered, structlog.processors.JSONRenderer(serializer=_dumps)]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        logger_factory=_Line,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Retries(getattr(logging, level.upper())))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # kopf logs each event that it hands over; the actor logs the result.
    logging.getLogger("kopf").setLevel(max(logging.WARNING, root.level))


class _Line(structlog.WriteLogger):
    """Writes lines to stderr. `name` is the module that logs."""

    def __init__(self, name: str = "") -> None:
        super().__init__(sys.stderr)
        self.name = name

    def msg(self, message: str) -> None:
        """Write a line. One that cannot be written, as on a full volume, ends nothing of what it tells."""
        with suppress(OSError, ValueError):
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


class _Retries(logging.Filter):
    """Lowers kopf's errors about requests that it retries: to info, and to a warning if that continues.

    A warning comes at the fifth attempt, the tenth, the twentieth and so on: an API server that is away for a minute
    would otherwise be logged hundreds of times.
    """

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("kopf") or (found := RETRIES.match(record.getMessage())) is None:
            return True
        rounds, rest = divmod(int(found["attempt"]), PATIENCE)
        if rounds:
            is_warning = rest == 0 and rounds & (rounds - 1) == 0
            record.levelno, record.levelname = (logging.WARNING, "WARNING") if is_warning else (logging.DEBUG, "DEBUG")
        else:
            record.levelno, record.levelname = logging.INFO, "INFO"
        return record.levelno >= self._level


def _text() -> structlog.dev.ConsoleRenderer:
    """Return the renderer for terminals. The name of the logger stays where `_ordered` has put it: at the end."""
    renderer = structlog.dev.ConsoleRenderer(
        exception_formatter=_traceback, colors=sys.stderr.isatty(), sort_keys=False, pad_event_to=0
    )
    renderer.columns = [column for column in renderer.columns if column.key not in ("logger", "logger_name")]
    return renderer


def _ordered(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put first what one looks for first, and the name of the logger last."""
    last = {"logger": event.pop("logger")} if "logger" in event else {}
    return {key: event.pop(key) for key in FIRST_KEYS if key in event} | dict(event) | last


def _dumps(value: Any, *, default: Callable[[Any], Any]) -> str:
    try:
        return escaped_json(orjson.dumps(value, default=default, option=orjson.OPT_NON_STR_KEYS).decode())
    except TypeError:  # half a character, or a number beyond 64 bits
        return json.dumps(value, default=default)


def _escape(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape all texts of a line that a terminal will show; what is not a text is written as Python writes it."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _indented(value) if key == "stack" else escaped(value)
    return event


def _traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    out.write(f"\n{_indented(text.getvalue().strip())}")


def _indented(text: str) -> str:
    """Escape a text of several lines, so that none looks like the beginning of another log line."""
    return "\n".join(f"    {escaped(line)}" for line in text.split("\n"))
