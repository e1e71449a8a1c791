"""The `kubectl-rollup` command, which kubectl runs as `kubectl rollup`. Heavy imports wait until they are needed."""

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from rollup_operator.plugin.choices import choose, labels_of, limit
from rollup_operator.plugin.completion import VARIABLE, enable, script
from rollup_operator.plugin.options import (
    CODES,
    COMMAND,
    HELP,
    All,
    Begin,
    Command,
    CommandGroup,
    Condition,
    End,
    Fields,
    Form,
    Full,
    GroupBy,
    Interval,
    Labels,
    Last,
    Listing,
    ManifestFile,
    Metrics,
    Name,
    Names,
    OneName,
    OpenBrowser,
    Port,
    PurgedIndex,
    Repair,
    RunTimeout,
    Shell,
    StoreName,
    Timeout,
    View,
    Wait,
    Yes,
    Zone,
    expanded,
)
from rollup_operator.plugin.outcome import Chosen, Code, Failure, WaitLimit, Where
from rollup_operator.plugin.output import Format, Output, say
from rollup_operator.plugin.usage import asked_format, usage

if TYPE_CHECKING:
    from rollup_operator.plugin.reaching import EndpointAddress

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,  # the command `completion` prints the scripts
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help=HELP,
    epilog=CODES,
)


def command(*examples: str, short: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a command with examples at the end of its help; `short`: its line in the list of commands."""
    lines = "\n".join(["\b", "Examples:", *(f"  {COMMAND} {line}" for line in examples)])
    register = app.command(cls=Command, epilog=lines if examples else None, short_help=short)
    return lambda function: register(expanded(function))


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> int:
    """Take the options before a command."""
    return _version(Format.TEXT) if version else 0


@command(
    "stop flights --wait",
    "stop --all --wait --timeout 2m -n team-a",
    "stop -l team=a",
    short="Stop jobs, and wait until they are quiet.",
)
def stop(
    names: Names = None,
    everything: All = False,
    labels: Labels = None,
    wait: Wait = False,
    timeout: Timeout = None,
    *,
    where: Where,
    output: Form = Format.TEXT,
) -> int:
    """Stop jobs: a write in progress finishes, and nothing new begins. With --wait, return when they are quiet."""
    return _act(
        "stop",
        choose(names, everything, labels),
        limit(wait, timeout),
        where,
        output,
    )


@command(
    "start flights",
    "start --all --wait",
    "start -l team=a",
    short="Start jobs: they run at the next tick of their schedule.",
)
def start(
    names: Names = None,
    everything: All = False,
    labels: Labels = None,
    wait: Wait = False,
    timeout: Timeout = None,
    *,
    where: Where,
    output: Form = Format.TEXT,
) -> int:
    """Start jobs: they run at the next tick of their schedule. With --wait, return when the operator has seen it."""
    return _act(
        "start",
        choose(names, everything, labels),
        limit(wait, timeout),
        where,
        output,
    )


@command(
    "run flights --wait",
    "run flights positions --wait --timeout 10m",
    "run -l team=a",
    short="Run started jobs now, and show their progress.",
)
def run(
    names: Names = None,
    everything: All = False,
    labels: Labels = None,
    wait: Wait = False,
    timeout: RunTimeout = None,
    *,
    where: Where,
    output: Form = Format.TEXT,
) -> int:
    """Run started jobs now, without waiting for the next tick. With --wait, show the progress until the run's end."""
    return _act(
        "run",
        choose(names, everything, labels),
        limit(wait, timeout, None),
        where,
        output,
    )


@command("delete flights --wait", "delete -l team=a --wait --timeout 5m", short="Delete jobs; each stops first.")
def delete(
    names: Names = None,
    everything: All = False,
    labels: Labels = None,
    wait: Wait = False,
    timeout: Timeout = None,
    *,
    where: Where,
    output: Form = Format.TEXT,
) -> int:
    """Delete jobs: each stops first. Its documents stay, unless it has deletionPolicy: Delete.

    With --wait, return when the jobs are gone.
    """
    return _act(
        "delete",
        choose(names, everything, labels),
        limit(wait, timeout),
        where,
        output,
    )


@command(
    "get",
    "get -A -o wide",
    "get -l team=a --watch",
    "get flights -o yaml",
    short="List jobs and their state, or watch them.",
)
def get(
    names: Names = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Jobs of all namespaces.")] = False,
    labels: Labels = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, and show each change until Ctrl-C.")] = False,
    *,
    where: Where,
    output: Annotated[Listing, typer.Option("--output", "-o", help="How to write the jobs.")] = Listing.TABLE,
) -> int:
    """List jobs, each with its state in words, how far its data is complete, and its runs."""
    if names and all_namespaces:
        raise Failure(Code.USAGE, "Usage", "-A cannot be combined with names: leave out one of the two")
    if names and labels is not None:
        raise Failure(Code.USAGE, "Usage", "-l cannot be combined with names: leave out one of the two")
    written = Output("get", output.value)
    chosen = Chosen(names or None, labels_of(labels), everywhere=all_namespaces)
    if watch:
        if output not in (Listing.TABLE, Listing.WIDE):
            raise Failure(Code.USAGE, "Usage", "--watch writes tables: leave out -o, or use -o wide")
        from rollup_operator.plugin import watching  # noqa: PLC0415

        return _run(watching.watch(where, written, chosen))
    from rollup_operator.plugin import reading  # noqa: PLC0415

    return _run(reading.get(where, written, chosen))


@command("status flights", "status flights -o json", short="Show all that is known of a job.")
def status(
    name: Name,
    *,
    where: Where,
    output: Form = Format.TEXT,
) -> int:
    """Show all that is known of a job: state, conditions, position, runs, and who set its desired state."""
    from rollup_operator.plugin import reading  # noqa: PLC0415

    return _run(reading.status(where, Output("status", output), name))


@command("explain flights", short="Explain a job's state and how to fix it.")
def explain(
    name: Name,
    *,
    where: Where,
    output: Form = Format.TEXT,
) -> int:
    """Explain a job's state and how to fix it."""
    from rollup_operator.plugin import reading  # noqa: PLC0415

    return _run(reading.explain(where, Output("explain", output), name))


@command("events", "events flights", short="List what the operator reported about jobs.")
def events(
    name: OneName = None,
    *,
    where: Where,
    output: Form = Format.TEXT,
) -> int:
    """List what the operator reported about a job, or about all jobs of the namespace, oldest first."""
    from rollup_operator.plugin import reading  # noqa: PLC0415

    return _run(reading.events(where, Output("events", output), name))


@command(
    "preview -f job.yaml",
    "preview flights --url https://rollup.example:9400",
    short="Show what a job would do; nothing is written.",
)
def preview(
    name: OneName = None,
    file: ManifestFile = None,
    *,
    server: "EndpointAddress",
    where: Where,
    output: Form = Format.TEXT,
) -> int:
    """Show what a job would do, with a few of its documents. Nothing is written.

    The manifest is checked as kubectl apply checks it, and then against its source. The operator's endpoint computes
    the preview, through kubectl port-forward or --url. It gets the token in ROLLUP_TOKEN, else that of your kubeconfig.
    You need permission to create RollupJobs.
    """
    from rollup_operator.plugin import preview as previewing  # noqa: PLC0415

    written = Output("preview", output)
    return _run(previewing.preview(where, written, server, name, file))


@command(
    "purge flights --index flights-hourly",
    "purge flights --yes",
    short="Delete documents that a deleted job left.",
)
def purge(
    name: Name,
    index: PurgedIndex = None,
    store: StoreName = None,
    yes: Yes = False,
    *,
    server: "EndpointAddress",
    where: Where,
    output: Form = Format.TEXT,
) -> int:
    """Delete the documents that a deleted job left in its rollup index, after a question that names their number.

    Without --index: those that are in the way of the job NAME, which was created again and reports ConfigChanged,
    TargetReplaced or TargetMissing. Documents of a job that exists are refused.

    The operator's endpoint deletes them. It gets the token in ROLLUP_TOKEN, else that of your kubeconfig. You need
    permission to delete rollupjobs/documents (role rollup-manager).
    """
    from rollup_operator.plugin import purge as purging  # noqa: PLC0415

    written = Output("purge", output)
    return _run(purging.purge(where, written, server, name, index, store, yes=yes))


@command(
    "query flights --interval 1M --metric avg:dep_delay -o chart",
    "query flights --last 7d --by carrier --where origin:JFK",
    short="Show a job's data as a table or a chart.",
)
def query(
    name: Name,
    metric: Metrics = None,
    by: GroupBy = None,
    interval: Interval = None,
    last: Last = None,
    begin: Begin = None,
    end: End = None,
    condition: Condition = None,
    zone: Zone = None,
    *,
    server: "EndpointAddress",
    where: Where,
    output: Annotated[View, typer.Option("--output", "-o", help="How to show the data.")] = View.TABLE,
) -> int:
    """Show a job's data as a table or a chart: what is rolled up, and what only the source has yet, as one.

    The operator's endpoint answers. It gets the token in ROLLUP_TOKEN, else that of your kubeconfig. You need
    permission to search the job (role rollup-reader).
    """
    from rollup_operator.plugin import query as querying  # noqa: PLC0415

    asked = querying.Question(metric or (), by or (), interval, last, begin, end, condition, zone)
    written = Output("query", output)
    return _run(querying.query(where, written, server, name, asked))


@command(
    "verify flights",
    "verify flights --from 2013-06-01 --to 2013-07-01 --full",
    "verify flights --fields distance -o json",
    "verify flights --repair",
    short="Compare what is rolled up with the source.",
)
def verify(
    name: Name,
    begin: Begin = None,
    end: End = None,
    fields: Fields = None,
    full: Full = None,
    repair: Repair = False,
    *,
    server: "EndpointAddress",
    where: Where,
    output: Form = Format.TEXT,
) -> int:
    """Compare what a job has rolled up with what its source gives now, bucket by bucket.

    Without --repair nothing is written. With it, a run of the job rewrites what differs or is missing, and keeps what
    the source has lost. The operator's endpoint compares. It gets the token in ROLLUP_TOKEN, else that of your
    kubeconfig. You need permission to verify the job (role rollup-reader), and for --repair to patch it.
    """
    from rollup_operator.plugin import verify as verifying  # noqa: PLC0415

    written = Output("verify", output)
    options = verifying.VerifyOptions(begin, end, fields or (), full, repair)
    return _run(verifying.verify(where, written, server, name, options))


@command(
    "ui",
    "ui -n team-a --service-account viewer",
    "ui --url https://rollup.example:9400 --no-browser",
    short="Open the operator's page in a browser.",
)
def ui(
    port: Port = 0,
    browser: OpenBrowser = True,
    *,
    server: "EndpointAddress",
    where: Where,
) -> int:
    """Open the operator's page in a browser, with your permissions, until Ctrl-C.

    The page comes through kubectl port-forward, or from --url. Your token stays in this command: that in ROLLUP_TOKEN,
    else that of your kubeconfig. If your kubeconfig has no token, name a service account.
    """
    from rollup_operator.plugin import ui as page  # noqa: PLC0415

    options = page.PageOptions(server, port, browser)
    return _run(page.show(where, options))


@command("version", "version -o json")
def version(output: Form = Format.TEXT) -> int:
    """Print the version of the plugin."""
    return _version(output)


@command(short="Print the script that completes names in your shell.")
def completion(shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", hidden=True)]) -> None:
    """Print the script that completes kubectl-rollup in your shell: source <(kubectl-rollup completion bash).

    kubectl 1.26 or newer completes `kubectl rollup` with the command kubectl_complete-rollup, installed alongside.
    """
    script(shell.value)


def _version(output: str) -> int:
    from rollup_operator import __version__  # noqa: PLC0415

    written = Output("version", output)
    if written.for_programs:
        written.document({"command": "version", "exitCode": Code.DONE, "version": __version__})
    else:
        say(f"{COMMAND} {__version__}")
    return Code.DONE


def _act(verb: str, chosen: Chosen, wait: WaitLimit | None, where: Where, output: Format) -> int:
    from rollup_operator.plugin import changing  # noqa: PLC0415

    return _run(changing.act(where, Output(verb, output), verb, chosen, wait))


def _run(command: Coroutine[Any, Any, int]) -> int:
    try:
        return asyncio.run(command)
    except KeyboardInterrupt:
        raise Failure(Code.INTERRUPTED, "Interrupted", "interrupted") from None


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Nothing is raised but SystemExit, for completions."""
    output = Output(next((word for word in arguments if not word.startswith("-")), ""), asked_format(arguments))
    if VARIABLE in os.environ:
        enable()
    try:
        code = app(args=list(arguments), prog_name=COMMAND, complete_var=VARIABLE, standalone_mode=False)
    except typer.TyperException as e:
        return usage(output, e)
    except Failure as e:
        return output.failure(e)
    return int(code or 0)


def main() -> NoReturn:
    """Run the command line."""
    gc.set_threshold(100_000)  # collections that find nothing are a tenth of what imports take
    try:
        code = invoke(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe; buffered output is dropped.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Code.FAILED
    sys.exit(code)
