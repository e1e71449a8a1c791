"""The operator's settings, read once from the environment. Those used most have a flag of `rollup-operator run` too."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path

from rollup_operator.model.base import GITOPS_MANAGERS
from rollup_operator.model.names import is_name, is_namespace
from rollup_operator.stores.host_rules import HostRules

_CHOICES = frozenset({"http_port", "metrics_port", "compat_version", "stop_timeout_status", "lease_seconds"})
"""Numbers that have checks of their own."""

_MAY_BE_ZERO = frozenset(
    {
        "allowed_cache_seconds",
        "denied_cache_seconds",
        "duckdb_memory_bytes",
        "duckdb_spill_bytes",
        "duckdb_threads",
        "grace_seconds",
        "memory_bytes",
        "metrics_jobs",
    }
)

_LONGEST_SKEW = 1e9
"""Some thirty years: clocks that differ by more have no date that a job could go by."""


class SettingsError(ValueError):
    """A setting cannot be used; the text names it and says what would do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Frozen for the life of the process. Durations in seconds."""

    data_root: Path = Path("rollup-data")
    """Folder of the embedded stores: each namespace has a folder below it for its users, and the operator keeps its own
    files in `.rollup-operator`."""
    http_host: str = "127.0.0.1"
    """Address of the HTTP endpoint; `*`: all, IPv4 and IPv6. One that others can reach needs TLS."""
    http_port: int = 9400
    """Port of the HTTP endpoint; 0 picks a free one."""
    tls_cert_file: str = ""
    """Certificate of the endpoint with its chain, in PEM; with `tls_key_file` it makes the endpoint speak TLS."""
    tls_key_file: str = ""
    """Its unencrypted key, in PEM. Both are read again when they change."""
    tls_check_seconds: float = 5.0
    """How often to look whether they have."""
    allow_plain_http: bool = False
    """Serve without TLS on an address that others can reach, where something before the endpoint does it."""
    http_connections: int = 12_000
    """Connections at a time, fewer where open files or memory are limited; those above are answered 503."""
    http_waiters_per_caller: int = 10_000
    """Jobs that the calls of one user may wait for at a time, each job of an _all/_stop included. Calls above that are
    answered 429."""
    http_line_bytes: int = 8_192
    """The longest request line."""
    http_header_bytes: int = 16_384
    """The longest header line."""
    http_body_bytes: int = 262_144
    """The largest body, once inflated. The largest configuration of a job that the API server takes is below."""
    http_head_seconds: float = 30.0
    """How long a new connection may take to bring its first request, its TLS handshake before that likewise."""
    http_body_seconds: float = 30.0
    """How long a body may take."""
    http_idle_seconds: float = 75.0
    """How long a connection may stay without a further request."""
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
    stop_timeout_status: int = 500
    """HTTP status of a stop that is not seen in time: 500, or 429 as Elasticsearch 9 has it. Official clients repeat a
    call that is answered 429, so that a wait lasts up to four times its timeout."""
    gitops_managers: tuple[str, ...] = GITOPS_MANAGERS
    """Field managers that set a job's desiredState back to what Git says. Who changes it by the API is warned."""
    metrics_host: str = "127.0.0.1"
    """Address of the second listener, for metrics and probes, or `*`: without TLS and without tokens."""
    metrics_port: int = 0
    """Its port; 0: there is none."""
    metrics_jobs: int = 1_000
    """How many jobs, and how many stores, have series of their own; the totals count all."""
    tracing_endpoint: str = ""
    """URL of an OTLP collector to send traces to, over HTTP: http://collector:4318/v1/traces. Empty: none."""
    cluster: str = "local"
    """Name of this cluster in claims: another name is another owner."""
    leader_election: bool = False
    """Several processes may run: a Lease decides which of them leads, and the others serve the endpoint and wait."""
    lease_namespace: str = ""
    """Namespace of the Lease; empty: that of the pod, or of the kubeconfig's context."""
    lease_name: str = "rollup-operator"
    """Name of the Lease. Processes that watch the same jobs share it."""
    lease_seconds: float = 15.0
    """After so long without a renewal another process leads. More bears a slower API server: it may take a third of it
    for a write."""
    grace_seconds: float = 25.0
    """How long a shutdown waits for runs to drain. Below the pod's grace period."""
    page_seconds: float = 0.5
    """How long a page of an embedded store should take."""
    duckdb_memory_bytes: int = 0
    """Memory that all open databases of embedded stores may take together; 0: three eighths of what the process may."""
    duckdb_threads: int = 0
    """Threads that they work with in all, each with one at least; 0: as many as there are processors."""
    duckdb_spill_bytes: int = 0
    """What they may write to the volume beyond their memory; 0: a quarter of the volume."""
    memory_bytes: int = 0
    """Memory that this process may take, by which it divides what its users' work may hold; 0: the limit of the pod."""
    store_hosts: tuple[str, ...] = ()
    """Hosts of clusters that a RollupStore may name: names, `*.name`, addresses, networks, each perhaps with `:port`.
    Empty: all but this machine, its own network segment and where clouds tell secrets of a machine."""
    store_plain_credentials: bool = False
    """Send logins of stores over plain HTTP too, to others than this machine: anybody on the way can read them."""
    store_aws_namespaces: tuple[str, ...] = ()
    """Namespaces whose RollupStores may sign requests with the operator's own AWS identity; empty: none may."""
    clock_skew_seconds: float = 300.0
    """How far the operator's clock may be ahead of a store's before runs are refused, `ClockSkewed`."""
    store_check_seconds: float = 30.0
    """How often to look at each cluster; three times as often while a store cannot be used."""
    sweep_seconds: float = 60.0
    """How often to list jobs and stores, to find changes and deletions that no event announced."""
    compat_version: int = 8
    """Major version of Elasticsearch whose differences apply in the HTTP API: 6, 7, 8 or 9."""
    events: str = "all"
    """Which Kubernetes Events are posted: all, or warnings alone."""
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

    @property
    def tls(self) -> bool:
        """Whether the endpoint speaks TLS."""
        return bool(self.tls_cert_file)

    def __post_init__(self) -> None:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            missing = "tls_key_file" if self.tls_cert_file else "tls_cert_file"
            raise SettingsError(f"{missing} is not set: TLS needs tls_cert_file and tls_key_file")
        if not (self.tls or self.allow_plain_http or _is_loopback(self.http_host)):
            raise SettingsError(
                f"http_host is {self.http_host!r}, where others could read tokens on their way: set tls_cert_file and "
                "tls_key_file, or use 127.0.0.1; if something before the endpoint speaks TLS for it, set "
                "allow_plain_http=true"
            )
        if self.compat_version not in {6, 7, 8, 9}:
            raise SettingsError(f"compat_version is {self.compat_version}: use 6, 7, 8 or 9")
        if not is_namespace(self.default_namespace):
            raise SettingsError(f"default_namespace is {self.default_namespace!r}: name a namespace, such as default")
        for name, values in (
            ("namespaces", self.namespaces),
            ("store_aws_namespaces", self.store_aws_namespaces),
            ("lease_namespace", filter(None, [self.lease_namespace])),
        ):
            if wrong := [value for value in values if not is_namespace(value)]:
                raise SettingsError(f"{name} has {wrong[0]!r}, which no namespace can be named")
        if not is_name(self.lease_name):
            raise SettingsError(f"lease_name is {self.lease_name!r}: name a Lease, such as rollup-operator")
        if not self.lease_seconds >= 5:
            raise SettingsError(f"lease_seconds is {self.lease_seconds}: use 5 or more")
        if self.clock_skew_seconds > _LONGEST_SKEW:
            raise SettingsError(f"clock_skew_seconds is {self.clock_skew_seconds}: use at most {_LONGEST_SKEW:.0f}")
        for name in ("http_port", "metrics_port"):
            if not 0 <= (port := getattr(self, name)) <= 65_535:
                raise SettingsError(f"{name} is {port}: use 0 to 65535")
        if self.http_host == "*" and not self.http_port:
            raise SettingsError(
                "http_port is 0, which picks a free port, and http_host is '*': name a port or an address"
            )
        if self.metrics_port and self.metrics_port == self.http_port:
            raise SettingsError(
                f"metrics_port is {self.metrics_port}, as http_port is: metrics need a port of their own"
            )
        if self.tracing_endpoint and not self.tracing_endpoint.startswith(("http://", "https://")):
            raise SettingsError(
                f"tracing_endpoint is {self.tracing_endpoint!r}: it takes a URL such as http://collector:4318/v1/traces"
            )
        if self.tracing_endpoint and not _is_installed("opentelemetry.exporter.otlp.proto.http"):
            raise SettingsError(
                "tracing_endpoint is set and OpenTelemetry is not installed: install rollup-operator[tracing], or "
                "leave tracing_endpoint empty"
            )
        if self.store_aws_namespaces and not _is_installed("botocore"):
            raise SettingsError(
                "store_aws_namespaces is set and botocore is not installed: install rollup-operator[aws], or leave "
                "store_aws_namespaces empty"
            )
        try:
            HostRules.read(self.store_hosts)
        except ValueError as e:
            raise SettingsError(f"store_hosts: {e}") from None
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in _CHOICES or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            # Asked so that nan is refused, too.
            if f.name in _MAY_BE_ZERO and not value >= 0:
                raise SettingsError(f"{f.name} is {value}: it must be 0 or greater")
            if f.name not in _MAY_BE_ZERO and not value > 0:
                raise SettingsError(f"{f.name} is {value}: it must be greater than 0")
        if self.stop_timeout_status not in {500, 429}:
            raise SettingsError(f"stop_timeout_status is {self.stop_timeout_status}: use 500 or 429")
        if self.events not in {"all", "warnings"}:
            raise SettingsError(f"events is {self.events!r}: use all or warnings")
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
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(default, int | float):
            return type(default)(text)
    except KeyError:
        raise SettingsError(f"{name} is {text!r}: it takes true or false") from None
    except ValueError:
        raise SettingsError(f"{name} is {text!r}: it takes a number such as {default}") from None
    return text


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
