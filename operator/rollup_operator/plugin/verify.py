"""The command that compares what a job has rolled up with its source. The operator's endpoint does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.explaining.summary import summary
from rollup_operator.model.counts import counted
from rollup_operator.model.job_view import JobView
from rollup_operator.model.run_request import Stretch, fewer
from rollup_operator.model.time_values import parse_instant
from rollup_operator.plugin.actions import run
from rollup_operator.plugin.cluster import NamespaceClient, name_of
from rollup_operator.plugin.endpoint import EndpointAddress, post_for_lines
from rollup_operator.plugin.goals import End
from rollup_operator.plugin.outcome import Code, Failure, Where
from rollup_operator.plugin.output import Output, Shows, progress, say
from rollup_operator.plugin.tables import Cell
from rollup_operator.plugin.waiting import settle

KINDS: Mapping[str, tuple[str, str]] = {
    "differs": ("differs", "differ"),
    "missing": ("is missing", "are missing"),
    "extra": ("is extra", "are extra"),
    "duplicate": ("is stored twice", "are stored twice"),
}
"""What is wrong with a bucket, and with several."""

HEADS = ("DAY", "SOURCE ROWS", "ROLLED UP", "DIFFERS", "MISSING", "EXTRA", "DUPLICATE")

TRIES = 2
"""Runs that may repair: a request that comes during a run is dropped, and the next one is heard."""

EXAMPLES = 10
"""Findings that are written in full."""

FIELDS = 3
"""Numbers of one finding that are written."""


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
        with progress() as (show, _):
            found = await verified(server, where, path, options, show)
            while options.repair and len(repairs) < TRIES and (stretches := to_repair(found)):
                job = JobView.of(await cluster.find(name))
                ran = await repaired(cluster, job, stretches, show)
                repairs.append({"found": found["buckets"], "run": ran})
                found = await verified(server, where, path, options, show)
    return write(output, name, found, repairs)


def to_repair(found: Mapping[str, Any]) -> list[Stretch]:
    """Return the stretches with what a run can repair: all but what the source has lost."""
    days = [day for day in found["by_day"] if any(day[kind] for kind in KINDS if kind != "extra")]
    return fewer([(parse_instant(day["gte"], "gte"), parse_instant(day["lt"], "lt")) for day in days])


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


async def verified(
    server: EndpointAddress, where: Where, path: Sequence[str], options: VerifyOptions, show: Shows
) -> dict[str, Any]:
    """Return the endpoint's answer, and show its progress. Raises Failure."""
    shown = ""
    async for line in post_for_lines(server, where, path, options.body(), {"progress": "true"}):
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
    say(f"rollupjob/{name}: {sentence(found)}")
    for note in (*found["notes"], *remarks(found)):
        output.complain("note", note)
    return code


def progress_of(progress: Mapping[str, Any]) -> tuple[str, float | None]:
    """Return the line that shows a progress, and how much is done in per cent."""
    parts = [progress["doing"]]
    if progress["buckets"]:
        parts.append(counted(progress["buckets"], "bucket"))
    if progress["findings"]:
        parts.append(counted(progress["findings"], "finding"))
    return "  ".join(parts), progress["percent"]


def row(day: Mapping[str, Any]) -> list[Cell]:
    """Return a day's line of the table."""
    begin = str(day["gte"]).removesuffix("T00:00:00Z")
    counts = [day["source_documents"], day["rolled_up_documents"], *(day[kind] for kind in KINDS)]
    return [begin, *(f"{count:,}" if count else "0" for count in counts)]


def described(example: Mapping[str, Any]) -> str:
    """Say what is wrong with a bucket."""
    time, *others = example["key"].values()
    names = [name.rpartition(".")[0] for name in list(example["key"])[1:]]
    bucket = " ".join([time, *(f"{name}={_shown(value)}" for name, value in zip(names, others, strict=True))])
    numbers = [
        f"{field['field'].removesuffix('.value')} is {_shown(field['stored'])}, the source gives "
        f"{_shown(field['recomputed'])}"
        for field in example["fields"][:FIELDS]
    ]
    more = len(example["fields"]) - FIELDS
    if more > 0:
        numbers.append(f"and {counted(more, 'more number')}")
    return f"{example['kind']}: {bucket}: {'; '.join(numbers)}"


def sentence(found: Mapping[str, Any]) -> str:
    """Say in one sentence what was found."""
    bounds, buckets, days = found["range"], found["buckets"], found["days"]
    if bounds["gte"] is None:
        until = found["rolled_up_to"]
        return "nothing of that time is rolled up" if until else "nothing is rolled up yet"
    stretch = f"from {bounds['gte']} to {bounds['lt']}"
    if wrong := wrong_of(buckets):
        return f"of {counted(buckets['compared'], 'bucket')} compared, {wrong} ({stretch})"
    if not days["compared"]:
        return f"the counts of {counted(days['total'], 'day')} are equal ({stretch})"
    return f"{counted(buckets['compared'], 'bucket')} of {counted(days['compared'], 'day')} are equal ({stretch})"


def wrong_of(buckets: Mapping[str, int]) -> str:
    """Say how many buckets are not as they should be; empty: none."""
    return ", ".join(f"{count:,} {words[count != 1]}" for kind, words in KINDS.items() if (count := buckets[kind]))


def remarks(found: Mapping[str, Any]) -> list[str]:
    """Return what to know of an answer."""
    days, said = found["days"], []
    if not found["full"] and days["compared"] < days["total"]:
        left = days["total"] - days["compared"]
        said.append(
            f"of {counted(left, 'day')} only the number of rows was compared, which is equal: --full compares every "
            "bucket"
        )
    if found["buckets"]["extra"]:
        said.append(
            "extra: the source has fewer rows now than were rolled up, or none. What is rolled up is all that is left "
            "of them"
        )
    return said


def _shown(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return "missing" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)
