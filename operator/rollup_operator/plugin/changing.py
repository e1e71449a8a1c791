"""The commands that change jobs: stop, start, run."""

import asyncio
from collections.abc import Sequence

from rollup_operator.plugin.actions import Action
from rollup_operator.plugin.cluster import NamespaceClient, Where, name_of
from rollup_operator.plugin.outcome import Code
from rollup_operator.plugin.output import Output, progress, say
from rollup_operator.plugin.results import Result, code_of


async def act(where: Where, output: Output, verb: str, words: Sequence[str] | None, wait: float | None) -> Code:
    """Carry out the action on the named jobs, or on all, and write each result. Returns the exit code."""
    names = [name_of(word) for word in words] if words is not None else None
    with progress() as tell:
        action = Action(verb, names, wait, heard=lambda action: tell(_waiting(action)))
        async with NamespaceClient.open(where) as cluster:
            try:
                results = await action.carry_out(cluster)
            except asyncio.CancelledError:
                results = action.results(cluster.namespace, interrupted=True)
    if not results and not output.for_programs:
        output.complain("note", f"no rollup jobs in namespace {cluster.namespace}")
    return _write(output, results)


def _write(output: Output, results: Sequence[Result]) -> Code:
    code = code_of(results)
    if output.for_programs:
        output.document({"command": output.command, "exitCode": code, "jobs": [r.document() for r in results]})
        return code
    for result in results:
        name = f"rollupjob/{result.name}"
        if result.code is Code.DONE:
            say(f"{name} {result.message}")
        else:
            output.complain("error", f"{name}: {result.message}")
        if result.warning:
            output.complain("warning", f"{name}: {result.warning}")
    return code


def _waiting(action: Action) -> str:
    """Describe the current wait."""
    waiting, text = action.open, f"waiting up to {action.wait or 0:g}s for"
    if len(waiting) != 1:
        return f"{text} {len(waiting)} of {len(action.goals)} rollup jobs"
    newest = waiting[0].newest
    state = f", now {newest.status.state}" if newest.status.state else ""
    return f"{text} rollupjob/{newest.name} {waiting[0].aim}{state}"
