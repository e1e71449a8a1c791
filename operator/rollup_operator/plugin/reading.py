"""The commands that only read: get, status, explain, events."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rollup_operator.explaining import explain as explaining
from rollup_operator.kube.client import Body
from rollup_operator.model.base import GROUP
from rollup_operator.model.job_view import JobView
from rollup_operator.plugin import views
from rollup_operator.plugin.cluster import NamespaceClient, name_of
from rollup_operator.plugin.outcome import Chosen, Code, Failure, Where
from rollup_operator.plugin.output import Output, say
from rollup_operator.plugin.tables import styled


async def get(where: Where, output: Output, chosen: Chosen) -> Code:
    """Write a list of jobs: those named, else all."""
    names = [name_of(word) for word in chosen.names or ()]
    failures: dict[str, Failure] = {}
    async with NamespaceClient.open(where) as cluster:
        if names:
            found = dict(zip(names, await cluster.find_each(names), strict=True))
            bodies = [body for body in found.values() if not isinstance(body, Failure)]
            failures = {name: body for name, body in found.items() if isinstance(body, Failure)}
        else:
            bodies = await cluster.jobs(chosen)
    if failures and len(names) == 1:
        (only,) = failures.values()
        raise Failure(only.code, only.reason, f"rollupjob/{names[0]}: {only.message}")
    _write(output, bodies, failures, single=len(names) == 1, everywhere=chosen.everywhere)
    if not bodies and not names and not output.for_programs:
        output.complain("note", chosen.described(cluster.namespace))
    codes = {failure.code for failure in failures.values()}
    return codes.pop() if len(codes) == 1 else Code.FAILED if codes else Code.DONE


def _write(
    output: Output, bodies: Sequence[Body], failures: Mapping[str, Failure], *, single: bool, everywhere: bool
) -> None:
    if output.for_programs:
        items = [_without_managers(body) for body in bodies]
        whole: dict[str, Any] = {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}
        if failures:
            whole["errors"] = [{"name": name, "reason": e.reason, "message": e.message} for name, e in failures.items()]
        output.document(items[0] if single else whole)
        return
    if output.format == "name":
        for body in bodies:
            say(f"rollupjob.{GROUP}/{body['metadata']['name']}")
    elif bodies:
        wide, now = output.format == "wide", datetime.now(UTC)
        rows = [views.row(body, now, wide=wide, namespaces=everywhere) for body in bodies]
        spare = views.WIDE_SPARE if wide else views.SPARE
        output.table(views.heads(wide=wide, namespaces=everywhere), rows, spare=spare)
    for name, failure in failures.items():
        output.complain("error", f"rollupjob/{name}: {failure.message}")


async def status(where: Where, output: Output, word: str) -> Code:
    """Write the page of a job."""
    name = name_of(word)
    async with NamespaceClient.open(where) as cluster:
        body = await _find(cluster, name)
        if output.for_programs:
            seen = await _around(cluster, body)
            now = datetime.now(UTC)
            output.document(views.document(body, [said.text for said in explaining.explain(seen, now)]))
            return Code.DONE
    output.lines(views.page(body, datetime.now(UTC)))
    return Code.DONE


async def explain(where: Where, output: Output, word: str) -> Code:
    """Write the explanation of a job."""
    name = name_of(word)
    async with NamespaceClient.open(where) as cluster:
        seen = await _around(cluster, await _find(cluster, name))
    said = explaining.explain(seen, datetime.now(UTC))
    if output.for_programs:
        job = JobView.of(seen.body)
        sentences = [{"text": sentence.text, "cure": sentence.cure} for sentence in said]
        output.document({"namespace": job.namespace, "name": job.name, "explanation": sentences})
        return Code.DONE
    for sentence in said:
        if sentence.cure:
            say(sentence.text, head=styled("  -> ", fg="green"), indent=5, colour="green")
        else:
            say(sentence.text, indent=0, colour=views.COLOURS[sentence.mood] if sentence.mood else None)
    return Code.DONE


async def events(where: Where, output: Output, word: str | None) -> Code:
    """Write the events about a job, or about all jobs of the namespace."""
    name = name_of(word) if word is not None else None
    async with NamespaceClient.open(where) as cluster:
        found = await cluster.events_of(name)
        if not found and name is not None:
            await _find(cluster, name)
    if output.for_programs:
        output.document({"command": "events", "exitCode": Code.DONE, "events": [_without_managers(e) for e in found]})
    elif found:
        now = datetime.now(UTC)
        output.table(views.EVENT_HEADS, [views.event_row(event, now) for event in found], spare=("TIMES", "TYPE"))
    else:
        about = f" about rollupjob/{name}" if name is not None else ""
        output.complain("note", f"no events{about} in namespace {cluster.namespace}: they are kept for an hour or so")
    return Code.DONE


async def _find(cluster: NamespaceClient, name: str) -> Body:
    try:
        return await cluster.find(name)
    except Failure as e:
        raise Failure(e.code, e.reason, f"rollupjob/{name}: {e.message}") from e


async def _around(cluster: NamespaceClient, body: Body) -> explaining.Seen:
    """Read what else explains a job. What the caller may not read is left out."""
    job = JobView.of(body)
    (store, known), events = await asyncio.gather(cluster.store(job.store_name), cluster.events(job.uid))
    return explaining.Seen(body, store, known, events or ())


def _without_managers(body: Body) -> Body:
    return body | {"metadata": {key: value for key, value in body["metadata"].items() if key != "managedFields"}}
