"""The `kubectl-rollup` command, which kubectl runs as `kubectl rollup`. Heavy imports wait until they are needed."""

import asyncio
import gc
import sys
from collections.abc import Coroutine, Sequence
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer

from rollup_operator.plugin.completion import PROGRAM, VARIABLE, job_names, namespace_names, script
from rollup_operator.plugin.outcome import Code, Failure
from rollup_operator.plugin.output import Format, Output
from rollup_operator.plugin.text import seconds_of

HELP = """Stop, start, run and understand rollup jobs, with the rights of your kubeconfig.

`stopped` means quiet: nothing of the job is in flight any more. A stop is durable once the API server has accepted \
it, whether or not a client waits for it.

Exit codes (with several jobs the one that all failures share, else 1):

0  done

1  refused, or failed

2  the command line or the kubeconfig cannot be used; nothing was done

3  timed out; the request stands

4  overtaken by a newer request for the opposite

5  not found, or deleted in the meantime
"""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
)


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


Names = Annotated[list[str] | None, typer.Argument(metavar="NAME...", autocompletion=job_names, help="Names of jobs.")]
Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=job_names, help="Name of the job.")]
Kubeconfig = Annotated[
    str | None, typer.Option(help="Kubeconfig file. Default: $KUBECONFIG, then ~/.kube/config, as kubectl.")
]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig. Default: the current one.")]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", autocompletion=namespace_names, help="Default: the context's namespace."),
]
Form = Annotated[Format, typer.Option("--output", "-o", help="How to write the result.")]
All = Annotated[bool, typer.Option("--all", help="All jobs of the namespace.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when it is done, or at the timeout.")]
Timeout = Annotated[
    str | None,
    typer.Option(help="How long --wait waits: 90s, 1m30s; 0: one check. A timeout undoes nothing. Default: 30s."),
]


@app.command()
def stop(
    names: Names = None,
    everything: All = False,
    wait: Wait = False,
    timeout: Timeout = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Form = Format.TEXT,
) -> int:
    """Stop jobs: a write in progress finishes, and nothing new begins. With --wait, return when they are quiet."""
    seconds = _seconds(wait, timeout)
    return _act("stop", _chosen(names, everything), seconds, (kubeconfig, context, namespace), output)


@app.command()
def start(
    names: Names = None,
    everything: All = False,
    wait: Wait = False,
    timeout: Timeout = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Form = Format.TEXT,
) -> int:
    """Start jobs: they run at the next tick of their schedule. With --wait, return when the operator has seen it."""
    seconds = _seconds(wait, timeout)
    return _act("start", _chosen(names, everything), seconds, (kubeconfig, context, namespace), output)


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", autocompletion=job_names, help="Names of jobs.")],
    wait: Wait = False,
    timeout: Timeout = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Form = Format.TEXT,
) -> int:
    """Run started jobs now, without waiting for the next tick. With --wait, return when that run has ended."""
    return _act("run", names, _seconds(wait, timeout), (kubeconfig, context, namespace), output)


@app.command()
def get(
    names: Names = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Jobs of all namespaces.")] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Annotated[Listing, typer.Option("--output", "-o", help="How to write the jobs.")] = Listing.TABLE,
) -> int:
    """List jobs."""
    from rollup_operator.plugin import reading  # noqa: PLC0415

    if names and all_namespaces:
        raise Failure(Code.USAGE, "Usage", "-A cannot be combined with names: leave out one of the two")
    where, written = (kubeconfig, context, namespace), Output("get", output.value)
    return _run(reading.get(where, written, names or (), everywhere=all_namespaces))


@app.command()
def status(
    name: Name,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Form = Format.TEXT,
) -> int:
    """Show the whole status of a job: state, conditions, position, runs, and who set its desired state."""
    from rollup_operator.plugin import reading  # noqa: PLC0415

    return _run(reading.status((kubeconfig, context, namespace), Output("status", output), name))


@app.command()
def explain(
    name: Name,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Form = Format.TEXT,
) -> int:
    """Explain why a job is in its state, what it waits for, and what helps."""
    from rollup_operator.plugin import reading  # noqa: PLC0415

    return _run(reading.explain((kubeconfig, context, namespace), Output("explain", output), name))


@app.command()
def preview(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", autocompletion=job_names, help="Name of a job.")
    ] = None,
    file: Annotated[
        str | None, typer.Option("--filename", "-f", help="Manifest of a RollupJob; - reads stdin.")
    ] = None,
    url: Annotated[str | None, typer.Option(envvar="ROLLUP_URL", help="URL of the operator's endpoint.")] = None,
    ca: Annotated[
        str | None, typer.Option(envvar="ROLLUP_CA", help="File with the certificate authority of the endpoint.")
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Form = Format.TEXT,
) -> int:
    """Show what a job would do, with a few of its documents. Nothing is written.

    The operator's endpoint computes the preview. It gets the token in ROLLUP_TOKEN, else that of your kubeconfig. You
    need the right to create the job.
    """
    from rollup_operator.plugin import endpoint  # noqa: PLC0415
    from rollup_operator.plugin import preview as previewing  # noqa: PLC0415

    where, written = (kubeconfig, context, namespace), Output("preview", output)
    return _run(previewing.preview(where, written, endpoint.EndpointAddress(url, ca), name, file))


@app.command()
def query(
    name: Name,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="count, or avg, min, max, sum or value_count of a field: avg:FIELD. Repeatable. Default: count.",
        ),
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", help="Field to group by: one line for each value. Repeatable.")
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(help="Length of a time bucket: 15m, 1h, 1d, 1w, 1M, 1q, 1y. Default: one bucket for all time."),
    ] = None,
    last: Annotated[str | None, typer.Option(help="Time range that ends now: 24h, 30d. Default: all time.")] = None,
    begin: Annotated[str | None, typer.Option("--from", help="Start of the time range: 2024-03-01, now-1y/y.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="End of the time range, exclusive.")] = None,
    condition: Annotated[
        str | None, typer.Option("--where", help="Condition on group fields: 'origin:JFK AND distance:[1000 TO *]'.")
    ] = None,
    zone: Annotated[str | None, typer.Option("--time-zone", help="Time zone of days and months. Default: UTC.")] = None,
    url: Annotated[str | None, typer.Option(envvar="ROLLUP_URL", help="URL of the operator's endpoint.")] = None,
    ca: Annotated[
        str | None, typer.Option(envvar="ROLLUP_CA", help="File with the certificate authority of the endpoint.")
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    output: Annotated[View, typer.Option("--output", "-o", help="How to show the data.")] = View.TABLE,
) -> int:
    """Show a job's data as a table or a chart: what is rolled up, and what only the source has yet, as one.

    The operator's endpoint answers. It gets the token in ROLLUP_TOKEN, else that of your kubeconfig. You need the right
    to search the job (role rollup-reader).
    """
    from rollup_operator.plugin import endpoint  # noqa: PLC0415
    from rollup_operator.plugin import query as querying  # noqa: PLC0415

    asked = querying.Question(metric or (), by or (), interval, last, begin, end, condition, zone)
    where, written = (kubeconfig, context, namespace), Output("query", output)
    return _run(querying.query(where, written, endpoint.EndpointAddress(url, ca), name, asked))


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(help="Your shell.")]) -> None:
    """Print the script that completes kubectl-rollup in your shell: source <(kubectl-rollup completion bash).

    kubectl 1.26 or newer completes `kubectl rollup` with the command kubectl_complete-rollup, installed alongside.
    """
    script(shell.value)


def _act(
    verb: str,
    names: Sequence[str] | None,
    wait: float | None,
    where: tuple[str | None, str | None, str | None],
    output: Format,
) -> int:
    from rollup_operator.plugin import changing  # noqa: PLC0415

    return _run(changing.act(where, Output(verb, output), verb, names, wait))


def _chosen(names: Sequence[str] | None, everything: bool) -> Sequence[str] | None:
    if bool(names) == everything:
        what = "use names or --all, not both" if everything else "name at least one job, or use --all"
        raise Failure(Code.USAGE, "Usage", what)
    return names or None


def _seconds(wait: bool, timeout: str | None) -> float | None:
    if not wait:
        if timeout is not None:
            raise Failure(Code.USAGE, "Usage", "--timeout needs --wait: add --wait")
        return None
    try:
        return seconds_of(timeout or "30s")
    except ValueError as e:
        raise Failure(Code.USAGE, "Usage", f"--timeout: {e}") from e


def _run(command: Coroutine[Any, Any, int]) -> int:
    try:
        return asyncio.run(command)
    except KeyboardInterrupt:
        raise Failure(Code.INTERRUPTED, "Interrupted", "interrupted") from None


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Nothing is raised but SystemExit, for completions."""
    output = Output(next((word for word in arguments if not word.startswith("-")), ""), _format(arguments))
    try:
        code = app(args=list(arguments), prog_name=PROGRAM, complete_var=VARIABLE, standalone_mode=False)
    except typer.TyperException as e:
        return _usage(output, e)
    except Failure as e:
        return output.failure(e)
    return int(code or 0)


def _usage(output: Output, error: typer.TyperException) -> int:
    message = error.format_message()
    if not message:
        return Code.USAGE  # without a command the help has been shown
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    return output.failure(Failure(Code.USAGE, "Usage", f"{message} See {path} --help"))


def _format(arguments: Sequence[str]) -> str:
    """Find out in which format errors are wanted when the command line cannot be read."""
    for index, word in enumerate(arguments):
        if word in ("-o", "--output"):
            return "".join(arguments[index + 1 : index + 2])
        for flag in ("--output=", "-o=", "-o"):
            if word.startswith(flag):
                return word.removeprefix(flag)
    return Format.TEXT


def main() -> NoReturn:
    """Run the command line."""
    gc.set_threshold(100_000)  # collections that find nothing are a tenth of what imports take
    try:
        code = invoke(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe; buffered output is dropped.
        import os  # noqa: PLC0415

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Code.FAILED
    sys.exit(code)
