"""The operator's settings, read once from the environment. Every one has a flag of `rollup-operator run` too."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path


class SettingsError(ValueError):
    """A setting cannot be used; the text names it and says what would do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Frozen for the life of the process. Durations in seconds."""

    data_root: Path = Path("rollup-data")
    """Folder of the embedded stores: each namespace has a folder of its own below it."""
    http_host: str = "127.0.0.1"
    """Address of the HTTP endpoint. Loopback only: the endpoint does not authenticate its callers."""
    http_port: int = 9400
    """Port of the HTTP endpoint; 0 picks a free one."""
    token_audiences: tuple[str, ...] = ()
    """Audiences of which a caller's token must be for one; empty: those of the API server."""
    allowed_cache_seconds: float = 10.0
    """How long a token that was good, or a right that was there, is believed in without asking again."""
    denied_cache_seconds: float = 2.0
    """How long a bad token or a missing right is."""
    default_namespace: str = "default"
    """Namespace that the paths without /namespaces/{ns} mean."""
    namespaces: tuple[str, ...] = ()
    """Namespaces to watch; empty: all."""
    cluster: str = "local"
    """Name of this cluster in claims: another name is another owner."""
    grace_seconds: float = 25.0
    """How long a shutdown waits for runs to drain. Below the pod's grace period."""
    page_seconds: float = 0.5
    """How long a page of an embedded store should take."""
    sweep_seconds: float = 60.0
    """How often to look for deletions that no event announced."""
    log_format: str = "auto"
    """json, console, or auto: console on a terminal."""
    log_level: str = "info"
    """debug, info, warning or error."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **overrides: object) -> "Settings":
        """Read ROLLUP_<NAME> for each setting; `overrides` that are not None win.

        Raises SettingsError naming the variable and what it takes.
        """
        values: dict[str, object] = {}
        for f in fields(cls):
            name = f"ROLLUP_{f.name.upper()}"
            if overrides.get(f.name) is not None:
                values[f.name] = overrides[f.name]
            elif (text := environment.get(name)) is not None:
                values[f.name] = _read(name, f.default, text)
        return cls(**values)  # type: ignore[arg-type]  # each value has the type of its default

    def __post_init__(self) -> None:
        if self.http_host not in {"127.0.0.1", "::1", "localhost"}:
            raise SettingsError(
                f"http_host is {self.http_host!r}, but the endpoint has no authentication yet and so binds to "
                "loopback only: use 127.0.0.1, ::1 or localhost"
            )
        if self.log_format not in {"auto", "json", "console"}:
            raise SettingsError(f"log_format is {self.log_format!r}: use auto, json or console")
        if self.log_level not in {"debug", "info", "warning", "error"}:
            raise SettingsError(f"log_level is {self.log_level!r}: use debug, info, warning or error")


def _read(name: str, default: object, text: str) -> object:
    try:
        if isinstance(default, Path):
            return Path(text)
        if isinstance(default, tuple):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if isinstance(default, int | float):
            return type(default)(text)
    except ValueError:
        raise SettingsError(f"{name} is {text!r}: it takes a number such as {default}") from None
    return text
