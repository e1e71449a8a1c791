"""Calls of the operator's endpoint, for commands that only it can answer: only it reaches the stores."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import orjson

from rollup_operator.kube.connection import NoConnection
from rollup_operator.kube.kubeconfig import find_connection
from rollup_operator.plugin.outcome import Code, Failure, Where
from rollup_operator.plugin.reaching import TOKEN, ReachedEndpoint, untrusted

PATIENCE = 60.0
"""Seconds; the endpoint gives a store 30."""


async def post(
    endpoint: ReachedEndpoint, path: Sequence[str], body: Mapping[str, Any], names: Collection[str]
) -> dict[str, Any]:
    """Send a call and return its answer, which has these names. `path`: a namespace, and the parts below it.

    Raises Failure for an error, and for what is no answer of the endpoint's.
    """
    async with _answer(endpoint, path, body, aiohttp.ClientTimeout(total=PATIENCE, sock_connect=5)) as answer:
        return _read(answer.status, await answer.read(), endpoint.url(), names)


async def ask(
    endpoint: ReachedEndpoint,
    method: str,
    path: Sequence[str],
    query: Mapping[str, str],
    names: Collection[str],
    *,
    seconds: float | None = PATIENCE,
) -> dict[str, Any]:
    """Send a call without a body, and return its answer likewise. What is not there is Failure NOT_FOUND."""
    patience = aiohttp.ClientTimeout(total=seconds, sock_connect=5)
    async with _answer(endpoint, path, None, patience, query, method) as answer:
        return _read(answer.status, await answer.read(), endpoint.url(), names, Code.NOT_FOUND)


async def post_for_lines(
    endpoint: ReachedEndpoint, path: Sequence[str], body: Mapping[str, Any], query: Mapping[str, str]
) -> AsyncIterator[dict[str, Any]]:
    """Send a call whose answer is lines of JSON, and yield each as it comes; for how long does not matter.

    Raises Failure likewise, and for a line that is an error.
    """
    url, patience = endpoint.url(), aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=PATIENCE)
    async with _answer(endpoint, path, body, patience, query) as answer:
        if answer.status != 200:
            _read(answer.status, await answer.read(), url, ())
        rest = b""
        async for part in answer.content.iter_any():
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield _line(line, url)


@asynccontextmanager
async def _answer(
    endpoint: ReachedEndpoint,
    path: Sequence[str],
    body: Mapping[str, Any] | None,
    patience: aiohttp.ClientTimeout,
    query: Mapping[str, str] | None = None,
    method: str = "POST",
) -> AsyncIterator[aiohttp.ClientResponse]:
    url, login, below = endpoint.url(), endpoint.login, "/".join(quote(part, safe="") for part in path)
    target = f"{url}/namespaces/{below}" + (f"?{urlencode(query)}" if query else "")
    try:
        async with (
            aiohttp.ClientSession(timeout=patience, middlewares=(login,) if login is not None else ()) as session,
            session.request(method, target, json=body, allow_redirects=False, **endpoint.how) as answer,
        ):
            yield answer
    except aiohttp.ClientConnectorCertificateError as e:
        raise untrusted(e) from e
    except (aiohttp.ClientError, TimeoutError) as e:
        raise Failure(Code.FAILED, "Unreachable", f"{url} does not answer: {str(e) or 'no answer in time'}") from e


def _line(line: bytes, url: str) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
        if "error" not in found:
            return dict(found)
        status = int(found["status"])
    except (ValueError, KeyError, TypeError):
        raise Failure(Code.FAILED, "NoEndpoint", f"{url} is not the operator's endpoint") from None
    return _read(status, line, url, ())


def _read(status: int, data: bytes, url: str, names: Collection[str], missing: Code = Code.FAILED) -> dict[str, Any]:
    try:
        answered = orjson.loads(data)
        if status == 200 and set(names) <= answered.keys():
            return dict(answered)
        reason = str(answered["error"]["reason"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failure(Code.FAILED, "NoEndpoint", f"{url} is not the operator's endpoint (status {status})") from None
    if status == 401:
        cure = f"give a token, with {TOKEN} or in the kubeconfig (kubectl create token), or name a --service-account"
        raise Failure(Code.FAILED, "Unauthorized", f"the endpoint does not know you: {cure}")
    if status == 404 and missing is Code.NOT_FOUND:
        raise Failure(missing, "NotFound", reason)
    raise Failure(Code.FAILED, "Forbidden" if status == 403 else "Refused", reason)


def namespace_of(where: Where) -> str:
    """Return the namespace that the kubeconfig's context names. Raises Failure."""
    try:
        return find_connection(*where[:2]).namespace
    except NoConnection as e:
        raise Failure(Code.USAGE, "NoConnection", f"name the namespace with -n: {e}") from e
