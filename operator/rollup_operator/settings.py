"""The operator's settings, read once from the environment. Those used most have a flag of `rollup-operator run` too."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path

from rollup_operator.model.base import GITOPS_MANAGERS
from rollup_operator.model.names import is_name, is_namespace
from rollup_operator.net.hosts import is_loopback
from rollup_operator.stores.host_rules import HostRules

CHOICES: Mapping[str, tuple[int | str, ...]] = {
    "compat_version": (6, 7, 8, 9),
    "stop_timeout_status": (500, 429),
    "events": ("all", "warnings"),
    "log_format": ("auto", "json", "console"),
    "log_level": ("debug", "info", "warning", "error"),
}
"""All values of settings that have few."""

_CHECKED = frozenset({"http_port", "metrics_port", "lease_seconds", *CHOICES})
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
    """A setting cannot be used. The text names the setting and the values that it takes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Frozen for the life of the process. Durations in seconds."""

    data_root: Path = Path("rollup-data")
    """Folder of the embedded stores: each namespace has a folder below it for its users, and the operator keeps its own
    files in `.rollup-operator`."""
    http_host: str = "127.0.0.1"
    """Address that the HTTP endpoint listens on; `*`: all, IPv4 and IPv6. An address that others can reach needs
    TLS."""
    http_port: int = 9400
    """Port of the HTTP endpoint; 0 picks a free one."""
    tls_cert_file: str = ""
    """Certificate of the endpoint with its chain, in PEM. Set it together with `tls_key_file` to serve TLS."""
    tls_key_file: str = ""
    """Unencrypted key of that certificate, in PEM. Both files are read again when they change."""
    tls_check_seconds: float = 5.0
    """How often to check both files for changes."""
    allow_plain_http: bool = False
    """Serve without TLS on an address that others can reach: for an endpoint behind a proxy that terminates TLS."""
    http_connections: int = 12_000
    """Maximum number of concurrent connections, lower where open files or memory are limited. Connections above it are
    answered 503."""
    http_waiters_per_caller: int = 10_000
    """Maximum number of jobs that the calls of one user may wait for at a time; each job of an _all/_stop counts. Calls
    above it are answered 429."""
    http_line_bytes: int = 8_192
    """Maximum length of the request line."""
    http_header_bytes: int = 16_384
    """Maximum length of a header line."""
    http_body_bytes: int = 262_144
    """Maximum size of a request body after decompression. The API server accepts only job configurations that are
    smaller."""
    http_head_seconds: float = 30.0
    """How long a new connection may take to send its first request, and before that for its TLS handshake."""
    http_body_seconds: float = 30.0
    """How long a request body may take to arrive."""
    http_idle_seconds: float = 75.0
    """How long a connection may stay idle between requests."""
    token_audiences: tuple[str, ...] = ()
    """Accepted audiences: a caller's token must be for one of them. Empty: those of the API server."""
    allowed_cache_seconds: float = 10.0
    """How long a valid token, or a right that was granted, is cached."""
    denied_cache_seconds: float = 2.0
    """How long an invalid token, or a right that was denied, is cached."""
    default_namespace: str = "default"
    """Namespace of the paths without /namespaces/{ns}."""
    namespaces: tuple[str, ...] = ()
    """Namespaces to watch; empty: all."""
    stop_timeout_status: int = 500
    """HTTP status of a stop that times out: 500, or 429 as in Elasticsearch 9. Official clients retry a call that is
    answered 429, so a wait lasts up to four times its timeout."""
    ui: bool = True
    """Serve the page to browsers, under `/ui/` of the endpoint."""
    gitops_managers: tuple[str, ...] = GITOPS_MANAGERS
    """Field managers that set a job's desiredState back to the value in Git. Callers that change it through the API get
    a warning."""
    metrics_host: str = "127.0.0.1"
    """Address of the second listener, which serves metrics and probes without TLS and without tokens; `*`: all."""
    metrics_port: int = 0
    """Port of the second listener; 0: no second listener."""
    metrics_jobs: int = 1_000
    """How many jobs, and how many stores, have time series of their own. The totals count all."""
    tracing_endpoint: str = ""
    """URL of an OTLP collector that receives traces over HTTP, such as http://collector:4318/v1/traces. Empty: no
    traces."""
    cluster: str = "local"
    """Name of this cluster in claims. Claims under another name belong to another owner."""
    leader_election: bool = True
    """Elect a leader among several processes by a Lease. The others serve the endpoint and stand by."""
    lease_namespace: str = ""
    """Namespace of the Lease. Empty: that of the pod, or of the kubeconfig's context."""
    lease_name: str = "rollup-operator"
    """Name of the Lease. Processes that watch the same jobs share it."""
    lease_seconds: float = 15.0
    """Without a renewal for this long, another process takes the lead. Raise it for a slow API server: one write may
    take up to a third of it."""
    grace_seconds: float = 25.0
    """How long a shutdown waits for runs to drain. Keep it below the pod's grace period."""
    page_seconds: float = 0.5
    """How long a page of an embedded store should take."""
    duckdb_memory_bytes: int = 0
    """Memory that all open databases of embedded stores may use together; 0: three eighths of what the process may
    use."""
    duckdb_threads: int = 0
    """Threads of all open databases together, at least one for each; 0: as many as there are processors."""
    duckdb_spill_bytes: int = 0
    """How much all open databases together may spill to the volume; 0: a quarter of the volume."""
    memory_bytes: int = 0
    """Memory that this process may use. The shares of its users' work follow from it. 0: the limit of the pod."""
    store_hosts: tuple[str, ...] = ()
    """Hosts of clusters that a RollupStore may name: names, `*.name`, addresses, networks, each with or without
    `:port`. Empty: all except this machine, its own network segment and the metadata services of clouds."""
    store_plain_credentials: bool = False
    """Allow logins of stores over plain HTTP to other machines. Anybody on the network path can read them."""
    store_aws_namespaces: tuple[str, ...] = ()
    """Namespaces whose RollupStores may sign requests with the operator's own AWS identity; empty: none may."""
    clock_skew_seconds: float = 300.0
    """How far the operator's clock may be ahead of a store's. Beyond that runs are refused with reason
    `ClockSkewed`."""
    store_check_seconds: float = 30.0
    """How often to check each cluster; three times as often while a store cannot be used."""
    sweep_seconds: float = 60.0
    """How often to list jobs and stores, to find changes and deletions that the watch missed."""
    compat_version: int = 8
    """Major version of Elasticsearch whose differences apply in the HTTP API: 6, 7, 8 or 9."""
    events: str = "all"
    """Which Kubernetes Events to post: all, or warnings only."""
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
        if not (self.tls or self.allow_plain_http or is_loopback(self.http_host)):
            raise SettingsError(
                f"http_host is {self.http_host!r}, where others can read tokens in transit: set tls_cert_file and "
                "tls_key_file, or use 127.0.0.1; if a proxy before the endpoint terminates TLS, set "
                "allow_plain_http=true"
            )
        for name, choices in CHOICES.items():
            if (chosen := getattr(self, name)) not in choices:
                *others, last = map(str, choices)
                raise SettingsError(f"{name} is {chosen!r}: use {', '.join(others)} or {last}")
        if not is_namespace(self.default_namespace):
            raise SettingsError(f"default_namespace is {self.default_namespace!r}: name a namespace, such as default")
        for name, values in (
            ("namespaces", self.namespaces),
            ("store_aws_namespaces", self.store_aws_namespaces),
            ("lease_namespace", filter(None, [self.lease_namespace])),
        ):
            if wrong := [value for value in values if not is_namespace(value)]:
                raise SettingsError(
                    f"{name} has {wrong[0]!r}, which is not a namespace: use lower case letters, digits and '-'"
                )
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
                "http_port is 0, which picks a free port, and http_host is '*': set a port, or one address"
            )
        if self.metrics_port and self.metrics_port == self.http_port:
            raise SettingsError(f"metrics_port is {self.metrics_port}, the same as http_port: use another port")
        if self.tracing_endpoint and not self.tracing_endpoint.startswith(("http://", "https://")):
            raise SettingsError(
                f"tracing_endpoint is {self.tracing_endpoint!r}: use a URL such as http://collector:4318/v1/traces"
            )
        if self.tracing_endpoint and not _is_installed("opentelemetry.exporter.otlp.proto.http"):
            raise SettingsError(
                "tracing_endpoint is set, but OpenTelemetry is not installed: install rollup-operator[tracing], or "
                "leave tracing_endpoint empty"
            )
        if self.store_aws_namespaces and not _is_installed("botocore"):
            raise SettingsError(
                "store_aws_namespaces is set, but botocore is not installed: install rollup-operator[aws], or leave "
                "store_aws_namespaces empty"
            )
        try:
            HostRules.read(self.store_hosts)
        except ValueError as e:
            raise SettingsError(f"store_hosts: {e}") from None
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in _CHECKED or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            # Written so that nan is refused, too.
            if f.name in _MAY_BE_ZERO and not value >= 0:
                raise SettingsError(f"{f.name} is {value}: use 0 or more")
            if f.name not in _MAY_BE_ZERO and not value > 0:
                raise SettingsError(f"{f.name} is {value}: use more than 0")


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
        raise SettingsError(f"{name} is {text!r}: use true or false") from None
    except ValueError:
        raise SettingsError(f"{name} is {text!r}: use a number such as {default}") from None
    return text


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
