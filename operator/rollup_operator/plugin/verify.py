"""The command that compares what a job has rolled up with its source. The operator's endpoint does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.explaining.findings import described, next_step, progress_of, remarks, to_repair, verdict
from rollup_operator.explaining.goals import End
from rollup_operator.explaining.summary import summary
from rollup_operator.model.finding_words import KINDS, wrong_of
from rollup_operator.model.job_view import JobView
from rollup_operator.model.run_request import Stretch
from rollup_operator.plugin.actions import run
from rollup_operator.plugin.cluster import NamespaceClient, name_of
from rollup_operator.plugin.endpoint import post_for_lines
from rollup_operator.plugin.outcome import Code, Failure, Where
from rollup_operator.plugin.output import Output, Shows, progress, say
from rollup_operator.plugin.reaching import EndpointAddress, ReachedEndpoint, reached
from rollup_operator.plugin.tables import Cell, Styled
from rollup_operator.plugin.waiting import settle

HEADS = ("DAY", "SOURCE ROWS", "ROLLED UP", "DIFFERS", "MISSING", "EXTRA", "DUPLICATE")

TRIES = 2
"""Runs that may repair: a request that comes during a run is dropped, and the next one is heard."""

EXAMPLES = 10
"""Findings that are written in full."""


@dataclass(frozen=True)
class VerifyOptions:
    """What to compare, as on the command line."""

    begin: str | None = None
    end: str | None = None
    fields: Sequence[str] = ()
    full: bool | None = None
    repair: bool = False
    """Whether a run is to rewrite what is found, before it is compared once more."""

    def body(self) -> dict[str, Any]:
        """Return the request."""
        given = {"from": self.begin, "to": self.end, "fields": list(self.fields) or None, "full": self.full}
        return {name: value for name, value in given.items() if value is not None}


async def verify(where: Where, output: Output, server: EndpointAddress, word: str, options: VerifyOptions) -> Code:
    """Write how a job's documents compare with its source; before that, repair them if asked to. Raises Failure."""
    server.check()
    repairs: list[dict[str, Any]] = []
    async with NamespaceClient.open(where) as cluster:
        name = name_of(word)
        job = JobView.of(await cluster.find(name))
        path = (cluster.namespace, "_rollup", "job", job.job_id, "_verify")
        async with reached(where, server) as endpoint:
            with progress() as (show, _):
                found = await verified(endpoint, path, options, show)
                while options.repair and len(repairs) < TRIES and (stretches := to_repair(found)):
                    job = same(job, JobView.of(await cluster.find(name)))
                    ran = await repaired(cluster, job, stretches, show)
                    repairs.append({"found": found["buckets"], "run": ran})
                    found = await verified(endpoint, path, options, show)
    return write(output, name, found, repairs)


async def repaired(cluster: NamespaceClient, job: JobView, stretches: Sequence[Stretch], show: Shows) -> str:
    """Have a run read stretches again, wait for its end, and return what it says. Raises Failure."""
    goal = await run(cluster, job, stretches)

    def hear() -> None:
        report = goal.newest.status.progress
        show(f"a run repairs what was found  {summary(goal.newest).text}", report.percent if report else None)

    hear()
    await settle(cluster, [goal], None, hear)
    if goal.end is End.DONE:
        return goal.why or goal.done
    code = {End.OVERTAKEN: Code.OVERTAKEN, End.GONE: Code.NOT_FOUND}.get(goal.end, Code.FAILED)
    why = goal.why or "the job is gone"
    raise Failure(code, "NotRepaired", f"the run that was to repair did not come to its end: {why}")


def same(job: JobView, newest: JobView) -> JobView:
    """Return the job as it is now. Raises Failure where another one has its name by now: it was not verified."""
    if newest.uid != job.uid:
        raise Failure(Code.NOT_FOUND, "NotRepaired", "the job was replaced meanwhile, and no run is requested of it")
    return newest


async def verified(
    endpoint: ReachedEndpoint, path: Sequence[str], options: VerifyOptions, show: Shows
) -> dict[str, Any]:
    """Return the endpoint's answer, and show its progress. Raises Failure."""
    shown = ""
    async for line in post_for_lines(endpoint, path, options.body(), {"progress": "true"}):
        if "result" in line:
            return dict(line["result"])
        text, percent = progress_of(line["progress"])
        if text != shown:
            show(text, percent)
            shown = text
    raise Failure(Code.FAILED, "NoEndpoint", "the endpoint's answer ended before the verification did: try again")


def write(output: Output, name: str, found: Mapping[str, Any], repairs: Sequence[Mapping[str, Any]] = ()) -> Code:
    """Write an answer, and what was repaired before. Returns the exit code."""
    code = Code.DONE if found["verified"] else Code.DIFFERENT
    if output.for_programs:
        output.document({"command": "verify", "exitCode": code, **found, **({"repairs": repairs} if repairs else {})})
        return code
    for repair in repairs:
        say(f"rollupjob/{name}: {wrong_of(repair['found'])} before a run repaired it: {repair['run']}", indent=2)
    if found["by_day"]:
        output.table(HEADS, [row(day) for day in found["by_day"]], spare=("SOURCE ROWS", "ROLLED UP"))
        say("")
        for example in found["examples"][:EXAMPLES]:
            say(described(example), indent=2)
        say("")
    say(f"rollupjob/{name}: {verdict(found)}", indent=2, colour="green" if found["verified"] else "red")
    cure = next_step(found, "repeat the command" if repairs else "add --repair", repaired=bool(repairs))
    for note in (*found["notes"], *remarks(found, "--full"), *([cure] if cure else [])):
        output.complain("note", note)
    return code


def row(day: Mapping[str, Any]) -> list[Cell]:
    """Return a day's line of the table."""
    begin = str(day["gte"]).removesuffix("T00:00:00Z")
    counts = [day["source_documents"], day["rolled_up_documents"], *(day[kind] for kind in KINDS)]
    shown: list[Cell] = [f"{count:,}" for count in counts[:2]]
    return [begin, *shown, *(Styled(f"{count:,}", colour="red" if count else None) for count in counts[2:])]
