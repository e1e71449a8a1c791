"""Shell completion: names from the cluster, and the helper that kubectl calls for its plugins."""

import asyncio
import contextlib
import io
import os
import shlex
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import typer

from rollup_operator.plugin.output import say

PROGRAM = "kubectl-rollup"
VARIABLE = "_KUBECTL_ROLLUP_COMPLETE"
"""Set by the shell's script when it asks for completions."""

PATIENCE = 2.0
"""Seconds that a cluster has to list its names: somebody waits at a prompt."""

NO_FILES = 4
"""What kubectl understands as: do not offer files."""


def job_names(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the jobs of the namespace that the command line means so far, without those already named."""
    named = context.params.get("names") or ()
    named = (named,) if isinstance(named, str) else named
    return [
        name
        for name in _ask(context, lambda cluster: cluster.names())
        if name.startswith(incomplete) and name not in named
    ]


def namespace_names(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the cluster's namespaces."""
    return [name for name in _ask(context, lambda cluster: cluster.namespaces()) if name.startswith(incomplete)]


def _ask(context: typer.Context, question: Callable[[Any], Awaitable[list[str]]]) -> list[str]:
    """Ask the cluster. Whatever goes wrong, nothing is offered: there is no place for an error at a prompt."""
    from rollup_operator.plugin.cluster import NamespaceClient  # noqa: PLC0415  # only names need a client

    given = context.params

    async def names() -> list[str]:
        where = (given.get("kubeconfig"), given.get("context"), given.get("namespace"))
        async with asyncio.timeout(PATIENCE), NamespaceClient.open(where, timeout=PATIENCE) as cluster:
            return await question(cluster)

    with contextlib.suppress(Exception):
        return asyncio.run(names())
    return []


def script(shell: str) -> None:
    """Write the script that a shell needs to complete `kubectl-rollup`."""
    with _environment(**{VARIABLE: f"source_{shell}"}):
        _run()


def enable() -> None:
    """Let the command line answer shells. Typer does so only together with options that install its scripts."""
    from typer.completion import completion_init  # type: ignore[attr-defined]  # noqa: PLC0415  # it is not re-exported

    completion_init()


def kubectl_complete() -> None:
    """Complete `kubectl rollup` for kubectl, which calls `kubectl_complete-rollup WORD…`; the last word is incomplete.

    Writes one completion a line, with its help after a tab, then what to do with them, as kubectl expects it.
    """
    *words, incomplete = sys.argv[1:] or [""]
    line = f"{shlex.join([PROGRAM, *words])} {shlex.quote(incomplete) if incomplete else ''}"
    asked = {VARIABLE: "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_ARGS": line}
    offered = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(offered), _environment(**asked):
        _run()
    for line in filter(None, offered.getvalue().splitlines()):
        say(line, keep="\t")
    say(f":{NO_FILES}")


def _run() -> None:
    from rollup_operator.plugin.main import app  # noqa: PLC0415  # it imports this module

    enable()
    app(args=[], prog_name=PROGRAM, complete_var=VARIABLE)


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
