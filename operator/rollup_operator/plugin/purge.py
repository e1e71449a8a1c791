"""The command that deletes the documents that a deleted job left. Only the operator's endpoint reaches the stores.

It asks first, with their number. What it then deletes is what it asked about: the second call names the owner that the
first one showed.
"""

from typing import Any

from rollup_operator.explaining.text import command
from rollup_operator.model.counts import counted
from rollup_operator.model.job_view import JobView
from rollup_operator.plugin.cluster import NamespaceClient, name_of
from rollup_operator.plugin.endpoint import ask
from rollup_operator.plugin.outcome import Code, Failure, Where
from rollup_operator.plugin.output import Output, agreed, say
from rollup_operator.plugin.reaching import EndpointAddress, reached

STORE = "default"
"""The RollupStore of documents whose job is gone, unless the command line names another one."""


async def purge(
    where: Where,
    output: Output,
    server: EndpointAddress,
    word: str,
    index: str | None,
    store: str | None,
    *,
    yes: bool,
) -> Code:
    """Delete the documents that `word` names, and write how many there were. Raises Failure.

    `word` is the id of a deleted job if `index` is given; else the name of a job that exists and whose place holds
    documents of a deleted one.
    """
    server.check()
    job: JobView | None = None
    async with NamespaceClient.open(where) as cluster:
        namespace = cluster.namespace
        if index is None:
            job = await _job(cluster, word)
            word, index, store = job.job_id, job.rollup_index, store or job.store_name
    path, query = (namespace, "_rollup", "documents", index, word), {"store": store or STORE}
    there = f"rollup index {index!r} of RollupStore {query['store']!r}"
    async with reached(where, server) as endpoint:
        found = await ask(endpoint, "GET", path, query, ("documents", "owner"))
        name, uid = found["owner"]["name"], found["owner"]["uid"]
        if found["owner"]["exists"]:
            raise Failure(
                Code.FAILED,
                "JobExists",
                f"the documents in {there} are those of job {name!r}, which exists: delete it first. With "
                "deletionPolicy Retain they stay, and can then be purged. To delete the job: "
                f"{command('delete', namespace, name)}",
            )
        documents = counted(found["documents"], "document")
        question = f"{documents} of the deleted job {name!r} (uid {uid}) in {there} cannot be restored."
        if not yes and not agreed(question):
            raise Failure(Code.FAILED, "Declined", "nothing was deleted")
        purged = await ask(endpoint, "DELETE", path, query | {"owner": uid}, ("documents",), seconds=None)
    _write(output, {**found, "documents": purged["documents"]}, there, purged.get("kept"), job)
    return Code.DONE


async def _job(cluster: NamespaceClient, word: str) -> JobView:
    try:
        return JobView.of(await cluster.find(name_of(word)))
    except Failure as e:
        if e.code is not Code.NOT_FOUND:
            raise
        raise Failure(
            e.code, e.reason, f"{e.message}: to purge what a deleted job left, name its rollup index with --index"
        ) from e


def _write(output: Output, purged: dict[str, Any], there: str, kept: str | None, job: JobView | None) -> None:
    if output.for_programs:
        output.document({"command": "purge", "exitCode": Code.DONE, **purged, **({"kept": kept} if kept else {})})
        return
    say(f"{counted(purged['documents'], 'document')} deleted from {there}", indent=2)
    if kept:
        output.complain("warning", kept)
    if job is not None and job.spec_asks == "started":
        output.complain("note", f"job {job.name!r} begins at its next tick; to run it now: {command('run', *job.key)}")
