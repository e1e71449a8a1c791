"""The command that shows what a job would do. The operator's endpoint computes it: only that reaches the stores."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rollup_operator.explaining.buckets import PlainBucket, buckets_of, table
from rollup_operator.explaining.text import spoken
from rollup_operator.model.base import API_VERSION
from rollup_operator.model.counts import counted
from rollup_operator.plugin.cluster import NamespaceClient, name_of
from rollup_operator.plugin.endpoint import namespace_of, post
from rollup_operator.plugin.outcome import Code, Failure, Where
from rollup_operator.plugin.output import Output
from rollup_operator.plugin.reaching import EndpointAddress, reached
from rollup_operator.plugin.tables import Cell

_ANSWERED = ("preview", "estimate", "range")


async def preview(where: Where, output: Output, server: EndpointAddress, word: str | None, file: str | None) -> Code:
    """Write what the job of that name or manifest would do. Raises Failure."""
    if (word is None) == (file is None):
        raise Failure(Code.USAGE, "Usage", "name one job, or give a manifest with -f FILE")
    server.check()
    if word is not None:
        async with NamespaceClient.open(where) as cluster:
            job, namespace = await cluster.find(name_of(word)), cluster.namespace
        body = {key: job[key] for key in ("apiVersion", "kind", "spec")} | {
            "metadata": {"name": job["metadata"]["name"]}
        }
    else:
        body = manifest(file or "")
        namespace = where[2] or (body.get("metadata") or {}).get("namespace") or namespace_of(where)
    async with reached(where, server) as endpoint:
        answered = await post(endpoint, (namespace, "_rollup", "job", "_preview"), body, _ANSWERED)
    buckets = buckets_of(body["spec"], [document["_source"] for document in answered["preview"]])
    if output.for_programs:
        found = {"buckets": [bucket.as_json() for bucket in buckets]}
        output.document({"command": "preview", "exitCode": Code.DONE} | answered | found)
        return Code.DONE
    output.lines(lines(answered))
    if buckets:
        heads, rows = table(buckets)
        output.gap()
        output.table(heads, rows, spare=spare_of(buckets[0]))
    return Code.DONE


def manifest(file: str) -> dict[str, Any]:
    """Read a RollupJob from a file, `-` being standard input. Raises Failure."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        found = [document for document in yaml.safe_load_all(text) if document is not None]
    except OSError as e:
        raise Failure(Code.USAGE, "Usage", f"-f {file}: {e.strerror or e}") from e
    except (ValueError, yaml.YAMLError) as e:
        raise Failure(Code.USAGE, "Usage", f"-f {file} is no YAML: {' '.join(str(e).split())}") from e
    jobs = [body for body in found if isinstance(body, dict) and body.get("kind") == "RollupJob"]
    if len(jobs) != 1:
        raise Failure(Code.USAGE, "Usage", f"-f {file} holds {len(jobs)} RollupJobs ({API_VERSION}): give one")
    return jobs[0]


def lines(answered: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    """Return an answer as labels and values, its documents left out."""
    estimate, bounds = answered["estimate"], answered["range"]
    pages, took = counted(estimate["pages"], "page"), spoken(estimate["time_in_ms"] / 1000)
    found: list[tuple[str, Cell]] = [
        ("Range", f"{bounds['gte'] or 'the beginning'} to {bounds['lt']}"),
        ("Source", counted(estimate["source_documents"], "document")),
        ("Would write", f"about {counted(estimate['buckets'], 'document')}, in {pages} and {took}"),
    ]
    source = answered.get("source", {})  # an operator of an earlier version does not send it
    found += [("Column", f"{name}  {type_}") for name, type_ in source.get("columns", {}).items()]
    for csv in source.get("csv", []):
        delimiter = "tab" if csv["delimiter"] == "\t" else csv["delimiter"]
        header = "a header" if csv["header"] else "no header"
        types = ", ".join(f"{name} {type_}" for name, type_ in csv["columns"].items())
        times = f"; times as {csv['time_format']}" if "time_format" in csv else ""
        found.append(("CSV", f"delimiter {delimiter}, {header}; {types}{times}"))
    found += [("Note", note) for note in answered.get("notes", [])]
    return found


def spare_of(bucket: PlainBucket) -> list[str]:
    """Return the columns that a narrow terminal goes without, the first one first: averages say the most."""
    groups, metrics = [*bucket.by][::-1], [*bucket.metrics][::-1]
    averages = [name for name in metrics if name.startswith("avg:")]
    return [*(name for name in metrics if name not in averages), *averages, "count", *groups]
