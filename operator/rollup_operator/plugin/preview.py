"""The command that shows what a job would do. The operator's endpoint computes it: only that reaches the stores."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
import yaml

from rollup_operator.kube.connection import NoConnection, proxy_of
from rollup_operator.kube.credentials import bearer
from rollup_operator.kube.kubeconfig import find_connection
from rollup_operator.model.base import API_VERSION
from rollup_operator.model.times import duration
from rollup_operator.net.hosts import is_loopback
from rollup_operator.net.tls import verifying
from rollup_operator.plugin.cluster import NamespaceClient, Where, name_of
from rollup_operator.plugin.outcome import Code, Failure
from rollup_operator.plugin.output import Output

TOKEN = "ROLLUP_TOKEN"  # noqa: S105  # the name of a variable
PATIENCE = 60.0
"""Seconds; the endpoint gives a store 30."""


@dataclass(frozen=True)
class EndpointAddress:
    """The operator's endpoint as the command line has it."""

    url: str | None
    authority: str | None
    """File of the certificate authority; None: those of the system."""


async def preview(where: Where, output: Output, server: EndpointAddress, word: str | None, file: str | None) -> Code:
    """Write what the job of that name or manifest would do. Raises Failure."""
    if (word is None) == (file is None):
        raise Failure(Code.USAGE, "Usage", "name one job, or give a manifest with -f FILE")
    if not server.url:
        raise Failure(Code.USAGE, "Usage", "name the operator's endpoint with --url or ROLLUP_URL")
    if word is not None:
        async with NamespaceClient.open(where) as cluster:
            job, namespace = await cluster.find(name_of(word)), cluster.namespace
        body = {key: job[key] for key in ("apiVersion", "kind", "spec")} | {
            "metadata": {"name": job["metadata"]["name"]}
        }
    else:
        body = manifest(file or "")
        namespace = where[2] or (body.get("metadata") or {}).get("namespace") or _namespace(where)
    answered = await _ask(server, _login(where), f"namespaces/{quote(namespace, safe='')}/_rollup/job/_preview", body)
    if output.for_programs:
        output.document({"command": "preview", "exitCode": Code.DONE} | answered)
    else:
        output.lines(lines(answered))
    return Code.DONE


def manifest(file: str) -> dict[str, Any]:
    """Read a RollupJob from a file, `-` being standard input. Raises Failure."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        found = [document for document in yaml.safe_load_all(text) if document is not None]
    except (OSError, ValueError, yaml.YAMLError) as e:
        raise Failure(Code.USAGE, "Usage", f"{file} cannot be read: {e}") from e
    jobs = [body for body in found if isinstance(body, dict) and body.get("kind") == "RollupJob"]
    if len(jobs) != 1:
        raise Failure(Code.USAGE, "Usage", f"{file} holds {len(jobs)} RollupJobs ({API_VERSION}): give one")
    return jobs[0]


def lines(answered: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return an answer as labels and values."""
    estimate, bounds = answered["estimate"], answered["range"]
    pages = "1 page" if estimate["pages"] == 1 else f"{estimate['pages']} pages"
    took = duration(estimate["time_in_ms"] / 1000) if estimate["time_in_ms"] >= 1000 else "less than a second"
    found = [
        ("Range", f"{bounds['gte'] or 'the beginning'} to {bounds['lt']}"),
        ("Source", f"{estimate['source_documents']} documents"),
        ("Would write", f"about {estimate['buckets']} documents, in {pages} and {took}"),
    ]
    source = answered.get("source", {})  # an operator of an earlier version does not send it
    found += [("Column", f"{name}  {type_}") for name, type_ in source.get("columns", {}).items()]
    for csv in source.get("csv", []):
        delimiter = "tab" if csv["delimiter"] == "\t" else csv["delimiter"]
        header = "a header" if csv["header"] else "no header"
        types = ", ".join(f"{name} {type_}" for name, type_ in csv["columns"].items())
        found.append(("CSV", f"delimiter {delimiter}, {header}; {types}"))
    found += [("Note", note) for note in answered.get("notes", [])]
    for document in answered["preview"]:
        source = orjson.dumps(document["_source"], option=orjson.OPT_INDENT_2).decode().split("\n")
        found += [("Document", document["_id"]), *(("", line) for line in source)]
    return found


async def _ask(
    server: EndpointAddress, login: aiohttp.ClientMiddlewareType | None, path: str, body: Mapping[str, Any]
) -> dict[str, Any]:
    url = (server.url or "").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Failure(Code.USAGE, "Usage", f"--url {url!r} is no URL: write https://HOST:PORT")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise Failure(Code.USAGE, "Usage", f"--url {url!r} would send your token unencrypted: use https://")
    try:
        tls, proxy = verifying(cafile=server.authority), proxy_of(url)
    except (OSError, NoConnection) as e:
        raise Failure(Code.USAGE, "Usage", f"--ca {server.authority}: {e}" if server.authority else str(e)) from e
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=PATIENCE, sock_connect=5),
                middlewares=(login,) if login is not None else (),
            ) as session,
            session.post(f"{url}/{path}", json=body, ssl=tls, proxy=proxy, allow_redirects=False) as answer,
        ):
            return _read(answer.status, await answer.read(), url)
    except (aiohttp.ClientError, TimeoutError) as e:
        raise Failure(Code.FAILED, "Unreachable", f"{url} does not answer: {str(e) or 'no answer in time'}") from e


def _read(status: int, data: bytes, url: str) -> dict[str, Any]:
    """Return the answer. Raises Failure for an error, and for an answer that is not the endpoint's."""
    try:
        answered = orjson.loads(data)
        if status == 200 and {"preview", "estimate", "range"} <= answered.keys():
            return dict(answered)
        reason = str(answered["error"]["reason"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failure(Code.FAILED, "NoEndpoint", f"{url} is not the operator's endpoint (status {status})") from None
    if status == 401:
        cure = f"give a token, with {TOKEN} or in the kubeconfig (kubectl create token)"
        raise Failure(Code.FAILED, "Unauthorized", f"the endpoint does not know you: {cure}")
    raise Failure(Code.FAILED, "Forbidden" if status == 403 else "Refused", reason)


def _login(where: Where) -> aiohttp.ClientMiddlewareType | None:
    if token := os.environ.get(TOKEN):
        return bearer(token)
    try:
        return find_connection(*where[:2]).login
    except NoConnection:
        return None


def _namespace(where: Where) -> str:
    try:
        return find_connection(*where[:2]).namespace
    except NoConnection as e:
        raise Failure(Code.USAGE, "NoConnection", f"name the namespace with -n: {e}") from e
