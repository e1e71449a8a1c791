"""The command that compares what a job has rolled up with its source. The operator's endpoint does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.model.counts import counted
from rollup_operator.plugin.cluster import NamespaceClient, name_of
from rollup_operator.plugin.endpoint import EndpointAddress, post_for_lines
from rollup_operator.plugin.outcome import Code, Failure, Where
from rollup_operator.plugin.output import Output, Shows, progress, say
from rollup_operator.plugin.tables import Cell

KINDS: Mapping[str, tuple[str, str]] = {
    "differs": ("differs", "differ"),
    "missing": ("is missing", "are missing"),
    "extra": ("is extra", "are extra"),
    "duplicate": ("is stored twice", "are stored twice"),
}
"""What is wrong with a bucket, and with several."""

HEADS = ("DAY", "SOURCE ROWS", "ROLLED UP", "DIFFERS", "MISSING", "EXTRA", "DUPLICATE")

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

    def body(self) -> dict[str, Any]:
        """Return the request."""
        given = {"from": self.begin, "to": self.end, "fields": list(self.fields) or None, "full": self.full}
        return {name: value for name, value in given.items() if value is not None}


async def verify(where: Where, output: Output, server: EndpointAddress, word: str, options: VerifyOptions) -> Code:
    """Write how a job's documents compare with its source. Raises Failure."""
    server.check()
    async with NamespaceClient.open(where) as cluster:
        job, namespace = await cluster.find(name_of(word)), cluster.namespace
    job_id = str(job["spec"].get("jobId") or job["metadata"]["name"])
    with progress() as (show, _):
        found = await verified(server, where, (namespace, "_rollup", "job", job_id, "_verify"), options, show)
    return write(output, name_of(word), found)


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


def write(output: Output, name: str, found: Mapping[str, Any]) -> Code:
    """Write an answer. Returns the exit code."""
    code = Code.DONE if found["verified"] else Code.DIFFERENT
    if output.for_programs:
        output.document({"command": "verify", "exitCode": code} | found)
        return code
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
    wrong = [f"{count:,} {words[count != 1]}" for kind, words in KINDS.items() if (count := buckets[kind])]
    if wrong:
        return f"of {counted(buckets['compared'], 'bucket')} compared, {', '.join(wrong)} ({stretch})"
    if not days["compared"]:
        return f"the counts of {counted(days['total'], 'day')} are equal ({stretch})"
    return f"{counted(buckets['compared'], 'bucket')} of {counted(days['compared'], 'day')} are equal ({stretch})"


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
