"""The `rollup-operator` command."""

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import structlog
import typer
from rich.console import Console
from rich.markup import escape

from rollup_operator import __version__
from rollup_operator.app import StartupFailed, run_operator
from rollup_operator.escaping import escaped
from rollup_operator.kube.client import Conflict, KubeClient, KubeError, NotFound
from rollup_operator.kube.connection import Connection, NoConnection
from rollup_operator.kube.kubeconfig import find_connection
from rollup_operator.kube.paths import jobs_path
from rollup_operator.model.base import DRAIN_FINALIZER
from rollup_operator.observability import logging
from rollup_operator.settings import Settings, SettingsError
from rollup_operator.shutdown import PartFailed
from rollup_operator.stores.duckdb.target.export import documents_of

log = structlog.get_logger(__name__)
console = Console(stderr=True)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Runs Elasticsearch-style rollup jobs as Kubernetes resources. Stopped means quiet.",
)

Kubeconfig = Annotated[
    str | None, typer.Option(help="Kubeconfig file. Default: $KUBECONFIG, ~/.kube/config, the pod's service account.")
]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Take the options before a command."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command(short_help="Run the operator.")
def run(
    kubeconfig: Kubeconfig = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the embedded stores. [ROLLUP_DATA_ROOT]")] = None,
    http_host: Annotated[str | None, typer.Option(help="Address of the endpoint. [ROLLUP_HTTP_HOST]")] = None,
    http_port: Annotated[int | None, typer.Option(help="Port; 0 picks a free one. [ROLLUP_HTTP_PORT]")] = None,
    tls_cert_file: Annotated[
        Path | None, typer.Option(help="Certificate of the endpoint with its chain, in PEM. [ROLLUP_TLS_CERT_FILE]")
    ] = None,
    tls_key_file: Annotated[
        Path | None, typer.Option(help="Unencrypted key of the certificate, in PEM. [ROLLUP_TLS_KEY_FILE]")
    ] = None,
    allow_plain_http: Annotated[
        bool, typer.Option("--allow-plain-http", help="Serve other machines without TLS. [ROLLUP_ALLOW_PLAIN_HTTP]")
    ] = False,
    default_namespace: Annotated[
        str | None, typer.Option(help="Namespace of paths without one. [ROLLUP_DEFAULT_NAMESPACE]")
    ] = None,
    namespace: Annotated[
        list[str] | None, typer.Option(help="Namespace to watch; may be repeated. Default: all. [ROLLUP_NAMESPACES]")
    ] = None,
    grace_seconds: Annotated[
        float | None, typer.Option(help="How long a shutdown waits for runs to drain. [ROLLUP_GRACE_SECONDS]")
    ] = None,
    page_seconds: Annotated[
        float | None, typer.Option(help="How long a page of an embedded store should take. [ROLLUP_PAGE_SECONDS]")
    ] = None,
    compat_version: Annotated[
        int | None, typer.Option(help="Version of Elasticsearch to follow: 6, 7, 8 or 9. [ROLLUP_COMPAT_VERSION]")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, json or console. [ROLLUP_LOG_FORMAT]")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. [ROLLUP_LOG_LEVEL]")] = None,
    url_file: Annotated[Path | None, typer.Option(help="Write the endpoint's URL to this file once it serves.")] = None,
) -> None:
    """Run the operator: watch RollupJobs, run them, and serve the Elasticsearch rollup API. SIGTERM ends it."""
    given: dict[str, Any] = {
        "data_root": data_root,
        "http_host": http_host,
        "http_port": http_port,
        "tls_cert_file": str(tls_cert_file) if tls_cert_file else None,
        "tls_key_file": str(tls_key_file) if tls_key_file else None,
        "allow_plain_http": True if allow_plain_http else None,
        "default_namespace": default_namespace,
        "namespaces": tuple(namespace) if namespace else None,
        "grace_seconds": grace_seconds,
        "page_seconds": page_seconds,
        "compat_version": compat_version,
        "log_format": log_format,
        "log_level": log_level,
    }
    try:
        settings = Settings.from_environment(**given)
        connection = find_connection(kubeconfig, context)
    except SettingsError as e:
        _fail(_as_typed(str(e), given))
    except NoConnection as e:
        _fail(str(e))
    logging.configure(settings.log_format, settings.log_level)

    def announce(url: str) -> None:
        if url_file is not None:
            part = url_file.with_suffix(url_file.suffix + ".part")
            part.write_text(url + "\n")
            part.replace(url_file)

    try:
        while asyncio.run(run_operator(settings, connection, announce)):
            connection = find_connection(kubeconfig, context)  # what logs in belongs to one event loop
    except StartupFailed as e:
        _fail(_as_typed(str(e), given))
    except NoConnection as e:
        _fail(str(e))
    except PartFailed as e:
        _fail(str(e), code=1)


def _as_typed(text: str, given: Mapping[str, Any]) -> str:
    """Write settings as their flags if any was given as a flag: an error and its cure then name what can be typed."""
    if all(value is None for value in given.values()):
        return text
    flags = {name: f"--{name.replace('_', '-')}" for name in given} | {"namespaces": "--namespace"}
    return re.sub(r"\b(\w+)(=true)?", lambda found: flags.get(found[1], found[0]), text)


@app.command(short_help="Print a job's result as Elasticsearch documents.")
def export(
    file: Annotated[
        Path,
        typer.Argument(help="Parquet file of a job: <rollup index>/<id>.parquet below status.results of its store."),
    ],
) -> None:
    """Print a job's result as Elasticsearch documents, one JSON line each: {"_id": ..., "_source": {...}}."""
    try:
        for identity, document in documents_of(file):
            sys.stdout.buffer.write(orjson.dumps({"_id": identity, "_source": document}) + b"\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has enough. What is still buffered goes nowhere, or the interpreter would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError) as e:
        _fail(str(e))


@app.command(short_help="Remove the operator's finalizers before an uninstall.")
def release(
    kubeconfig: Kubeconfig = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove the finalizers. Without --yes the jobs are only listed.")
    ] = False,
) -> None:
    """Remove the operator's finalizer from every job before an uninstall. Stop the operator first."""
    try:
        connection = find_connection(kubeconfig)
        left = asyncio.run(_release(connection, really=yes))
    except (NoConnection, KubeError) as e:
        _fail(str(e))
    if left and not yes:
        console.print(f"{left} jobs carry {DRAIN_FINALIZER}; stop the operator, then repeat with --yes")


async def _release(connection: Connection, *, really: bool) -> int:
    count = 0
    async with KubeClient(connection) as kube:
        for body in (await kube.get(jobs_path()))["items"]:
            meta = body["metadata"]
            finalizers = meta.get("finalizers") or []
            if DRAIN_FINALIZER not in finalizers:
                continue
            count += 1
            typer.echo(f"{meta['namespace']}/{meta['name']}")
            if really:
                await _strip(kube, meta, finalizers.index(DRAIN_FINALIZER))
    return count


async def _strip(kube: KubeClient, meta: dict[str, str], index: int) -> None:
    try:
        await kube.json_patch(
            jobs_path(meta["namespace"], meta["name"]),
            [
                {"op": "test", "path": f"/metadata/finalizers/{index}", "value": DRAIN_FINALIZER},
                {"op": "remove", "path": f"/metadata/finalizers/{index}"},
            ],
        )
    except NotFound:
        pass
    except Conflict as e:
        _print(f"{meta['namespace']}/{meta['name']} changed meanwhile, run this command again: {e}")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _fail(message: str, code: int = 2) -> NoReturn:
    _print(message, head="[bold red]error:[/] ")
    raise typer.Exit(code)


def _print(text: str, head: str = "") -> None:
    # Into a pipe a line stays whole.
    console.print(head + escape(escaped(text, keep="\n")), highlight=False, soft_wrap=not console.is_terminal)


def main() -> None:
    """Run the command line."""
    app()
