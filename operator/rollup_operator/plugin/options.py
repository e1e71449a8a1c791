"""The options that commands share, the texts of the help, and how a command shows its usage."""

import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from rollup_operator.plugin.completion import job_names, namespace_names
from rollup_operator.plugin.output import Format

HELP = """Stop, start, run and understand rollup jobs, with the rights of your kubeconfig.

`stopped` means quiet: no queries or writes of the job are running. A stop is durable once the API server has accepted
it, whether or not a client waits for it.
"""

CODES = """\b
Exit codes (several jobs: their common code, otherwise 1):
  0  done
  1  refused, or failed
  2  the command line or the kubeconfig cannot be used; nothing was done
  3  timed out; the request stands
  4  overtaken by a newer request for the opposite
  5  not found, or deleted in the meantime
  6  verify has found differences

\b
Examples:
  kubectl rollup get                        list the jobs of the namespace
  kubectl rollup explain flights            why it is not ready, and the fix
  kubectl rollup run flights --wait         run it now, and show the progress
  kubectl rollup stop --all --wait          return once all are quiet
"""

COMMAND = "kubectl rollup"
"""How people call it, whichever name the executable has."""


_HYPHEN = "\N{NON-BREAKING HYPHEN}"
_WRITERS = ("write_text", "write_usage", "write_dl")


class _Help(typer.Context):
    """A context whose help has lines that end between words, and not at a hyphen within one."""

    def make_formatter(self) -> Any:
        """Return the formatter of the help. Its own option for this is out of reach."""
        formatter: Any = super().make_formatter()
        for name in _WRITERS:
            setattr(formatter, name, _whole(getattr(formatter, name)))
        written = formatter.getvalue
        formatter.getvalue = lambda: written().replace(_HYPHEN, "-")
        return formatter


def _whole(write: Callable[..., None]) -> Callable[..., None]:
    def protected(part: Any) -> Any:
        if isinstance(part, str):
            return part.replace("-", _HYPHEN)
        return [tuple(map(protected, row)) for row in part] if isinstance(part, (list, tuple)) else part

    return lambda *given, **named: write(*map(protected, given), **named)


class CommandGroup(TyperGroup):
    """The commands, with a help of whole words."""

    context_class = _Help


class Command(TyperCommand):
    """A command whose usage is written as kubectl writes its own, and whose help has whole words."""

    context_class = _Help

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what stands after the command's name, without braces around what is required."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


class Shell(StrEnum):
    """Shells that can complete words."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


class View(StrEnum):
    """What -o of `query` takes."""

    TABLE = "table"
    CHART = "chart"
    CSV = "csv"
    JSON = "json"
    YAML = "yaml"


class Listing(StrEnum):
    """What -o of `get` takes."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


Names = Annotated[
    list[str] | None, typer.Argument(metavar="NAME", hidden=True, autocompletion=job_names, help="Names of jobs.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", hidden=True, autocompletion=job_names, help="Name of the job.")]
OneName = Annotated[
    str | None, typer.Argument(metavar="NAME", hidden=True, autocompletion=job_names, help="Name of one job.")
]
Kubeconfig = Annotated[
    str | None, typer.Option(metavar="FILE", help="Kubeconfig file. Default: $KUBECONFIG, then ~/.kube/config.")
]
Context = Annotated[
    str | None, typer.Option(metavar="NAME", help="Context of the kubeconfig. Default: the current one.")
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", metavar="NAME", autocompletion=namespace_names, help="Default: the context's namespace."
    ),
]
Form = Annotated[Format, typer.Option("--output", "-o", help="How to write the result.")]
All = Annotated[bool, typer.Option("--all", help="All jobs of the namespace.")]
Labels = Annotated[
    str | None, typer.Option("--selector", "-l", metavar="LABELS", help="Jobs with these labels: team=a,tier!=test.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is done, or until --timeout.")]
Timeout = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="How long --wait waits: 90s, 1m30s; 0: one check. A timeout undoes nothing. Default: 30s."
    ),
]
RunTimeout = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="How long --wait waits: 90s, 1m30s; 0: one check. Default: to the run's end."),
]


Url = Annotated[
    str | None,
    typer.Option(
        envvar="ROLLUP_URL", show_envvar=True, metavar="URL", help="The operator's endpoint. Default: a port-forward."
    ),
]
Authority = Annotated[
    str | None,
    typer.Option(
        envvar="ROLLUP_CA",
        show_envvar=True,
        metavar="FILE",
        help="Certificate authority of the endpoint, in PEM. Default: with a port-forward, the operator's own.",
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="KIND:FIELD",
        help="count, or avg, min, max, sum or value_count of a field. Repeatable. Default: count.",
    ),
]
GroupBy = Annotated[
    list[str] | None,
    typer.Option("--by", metavar="FIELD", help="Field to group by: one line for each value. Repeatable."),
]
Interval = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Length of a time bucket: 15m, 1h, 1d, 1w, 1M, 1q, 1y. Default: one bucket for all time.",
    ),
]
Last = Annotated[
    str | None, typer.Option(metavar="TIME", help="Time range that ends now: 24h, 30d. Default: all time.")
]
Condition = Annotated[
    str | None,
    typer.Option("--where", metavar="QUERY", help="Condition on group fields: 'origin:JFK AND distance:[1000 TO *]'."),
]
Zone = Annotated[
    str | None, typer.Option("--time-zone", metavar="ZONE", help="Time zone of days and months. Default: UTC.")
]
Begin = Annotated[
    str | None,
    typer.Option("--from", metavar="WHEN", help="Start of the time range: 2024-03-01, now-1y/y. Default: all."),
]
End = Annotated[str | None, typer.Option("--to", metavar="WHEN", help="End of the time range, exclusive.")]
Fields = Annotated[
    list[str] | None,
    typer.Option("--fields", metavar="FIELD", help="Field whose metrics to compare. Repeatable. Default: all."),
]
Full = Annotated[
    bool | None,
    typer.Option(
        "--full/--counts",
        help="Compare every bucket, or those of days whose number of rows differs. Default: every bucket of up to "
        "10 million rows.",
    ),
]
Repair = Annotated[
    bool, typer.Option("--repair", help="Have a run rewrite what differs or is missing, and compare once more.")
]
Account = Annotated[
    str | None,
    typer.Option(
        "--service-account", metavar="NAME", help="Log in as a service account of the namespace, or NAMESPACE/NAME."
    ),
]
Service = Annotated[str, typer.Option(metavar="NAMESPACE/NAME", help="The operator's Service, for the port-forward.")]
Port = Annotated[
    int, typer.Option(metavar="PORT", show_default=False, help="Port of this machine. Default: a free one.")
]
OpenBrowser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")]
ManifestFile = Annotated[
    str | None,
    typer.Option("--filename", "-f", metavar="FILE", help="Manifest of a RollupJob; - reads standard input."),
]
PurgedIndex = Annotated[
    str | None, typer.Option(metavar="NAME", help="Rollup index of a deleted job; NAME is then the job's id (jobId).")
]
StoreName = Annotated[
    str | None, typer.Option(metavar="NAME", help="RollupStore. Default: that of the job, else default.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Delete without a question.")]


def expanded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that takes, in place of `where` and `server`, the options that they are made of."""
    parameters = inspect.signature(function).parameters
    shown = [option for name, given in parameters.items() for option in _OPTIONS.get(name, (given,))]

    def command(**given: Any) -> Any:
        if "where" in parameters:
            given["where"] = tuple(given.pop(name) for name in ("kubeconfig", "context", "namespace"))
        if "server" in parameters:
            from rollup_operator.plugin.reaching import EndpointAddress  # noqa: PLC0415  # it takes time

            given["server"] = EndpointAddress(*(given.pop(name) for name in ("url", "ca", "service", "account")))
        return function(**given)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__annotations__ = {option.name: option.annotation for option in shown}
    command.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # inspect reads it
    return command


def _option(name: str, annotation: Any, default: str | None = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_OPTIONS = {
    "where": (_option("namespace", Namespace), _option("kubeconfig", Kubeconfig), _option("context", Context)),
    "server": (
        _option("url", Url),
        _option("ca", Authority),
        _option("service", Service, "rollup-operator/rollup-operator"),
        _option("account", Account),
    ),
}
"""What a command's `where` and `server` are on its command line."""
