"""A thin client of the API server over one aiohttp session: JSON in, JSON out, failures as typed errors.

A write is sent once, whatever happens to its connection, and an error says whether it may have been carried out: the
caller knows better whether to retry, and a newer body must be able to interrupt. A read whose connection broke is
sent once more. Redirects are not followed.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from rollup_operator.kube.connection import Connection
from rollup_operator.kube.credentials import CredentialError
from rollup_operator.kube.paths import ApiPath

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

JSON = "application/json"
METADATA_ONLY = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

PAGE = 500
"""Objects in one page of a list, as kubectl reads them."""

WATCH_SECONDS = 60
"""After this long the server ends a watch, so that a connection that died silently is noticed soon after."""

LONGEST_LINE = 2**20
"""Bytes that one object of a watch may take; etcd holds none that is larger."""

Body = dict[str, Any]

Observe = Callable[[str, int, float], None]
"""Called after each request: its verb, the status of the answer (0: none) and the seconds it took."""


class KubeError(Exception):
    """The API server refused: HTTP status, Kubernetes' reason word and message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (404, 408, 409, 429) or self.status >= 500

    @property
    def public_text(self) -> str:
        """The text as others may read it: a refusal by RBAC says who the operator is and what it may."""
        if self.status in (401, 403) and 'User "' in self.message:
            return f"{self.status} {self.reason}: the operator itself lacks a right, which its log names"
        return str(self)


class NotFound(KubeError):
    """404 that names the object: there is none. Any other 404 says that the API server does not serve the path now."""

    transient = False


class Conflict(KubeError):
    """409, or a failed test of a JSON patch: the object is another version, or another uid, than expected."""


class Unreachable(KubeError):
    """No answer. `sent` says whether the request may have been carried out."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(503, "Unreachable", message)
        self.sent = sent


def may_stand(error: KubeError | TimeoutError) -> bool:
    """Whether a write that ended so may have been carried out. TimeoutError: there was no answer in time."""
    if isinstance(error, Unreachable):
        return error.sent
    return isinstance(error, TimeoutError) or error.status >= 500


class KubeClient:
    """Use as an async context manager, within one event loop.

    `forbidden` gets the message of each answer 403, `date` the header of that name of each answer.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        connections: int = 32,
        timeout: float = 15.0,
        forbidden: Callable[[str], None] = lambda _: None,
        observe: Observe = lambda *_: None,
        date: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._session = connection.session(connections=connections)
        self._forbidden = forbidden
        # No total: aiohttp counts the wait for a free connection in it, and a storm of writes queues for long.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=timeout)
        self._observe, self._date = observe, date

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, path: ApiPath, **params: str) -> Body:
        """Read an object or a list."""
        return await self._call("GET", path, params=params)

    async def pages(
        self, path: ApiPath, *, metadata_only: bool = False, labels: str | None = None
    ) -> AsyncIterator[Body]:
        """Read a list page by page: a list of ten thousand objects at once would hold the event loop for long.

        `labels` is a label selector.

        All pages show the same moment. Raises KubeError, with status 410 when reading them took too long.
        """
        accept = METADATA_ONLY if metadata_only else JSON
        token = ""
        while True:
            params = {"limit": str(PAGE)} | ({"continue": token} if token else {})
            if labels is not None:
                params["labelSelector"] = labels
            page = await self._call("GET", path, params=params, accept=accept)
            page["items"] = page.get("items") or []  # null, if there are none and only metadata are requested
            yield page
            token = page["metadata"].get("continue") or ""
            if not token:
                return

    async def post(self, path: ApiPath, body: Mapping[str, Any], *, manager: str = "") -> Body:
        """Create an object, under a field manager if one is given."""
        return await self._call("POST", path, body, JSON, params={"fieldManager": manager} if manager else None)

    async def check(self, path: ApiPath, body: Mapping[str, Any], *, manager: str, change: bool = False) -> None:
        """Have the creation of an object checked, or the change of one, as strictly as `kubectl apply`. Keeps nothing.

        Raises KubeError with what is wrong; Conflict with AlreadyExists says that nothing else is.
        """
        params = {"fieldManager": manager, "dryRun": "All", "fieldValidation": "Strict"}
        await self._call("PATCH" if change else "POST", path, body, MERGE_PATCH if change else JSON, params=params)

    async def put(self, path: ApiPath, body: Mapping[str, Any]) -> Body:
        """Replace an object. Raises Conflict where the body's metadata.resourceVersion is not the newest."""
        return await self._call("PUT", path, body, JSON)

    async def delete(self, path: ApiPath, *, uid: str, version: int) -> Body:
        """Delete an object if it is still this uid and resourceVersion; otherwise raises Conflict.

        What has finalizers is only marked, and goes when the last of them is removed.
        """
        preconditions = {"uid": uid, "resourceVersion": str(version)}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        return await self._call("DELETE", path, body, JSON)

    async def patch(self, path: ApiPath, body: Mapping[str, Any], *, manager: str = "") -> Body:
        """Merge-patch an object. Put metadata.resourceVersion into the body to get Conflict on a stale write."""
        return await self._call("PATCH", path, body, MERGE_PATCH, params={"fieldManager": manager} if manager else None)

    async def json_patch(self, path: ApiPath, operations: list[dict[str, Any]]) -> Body:
        """JSON-patch an object. A failed test raises Conflict."""
        return await self._call("PATCH", path, operations, JSON_PATCH)

    async def apply(self, path: ApiPath, body: Mapping[str, Any], *, manager: str, force: bool = True) -> Body:
        """Server-side apply under a field manager."""
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._call("PATCH", path, body, APPLY_PATCH, params=params)

    async def watch(self, path: ApiPath, *, since: str, **params: str) -> AsyncGenerator[tuple[str, Body], None]:
        """Yield type and object of each change after the version `since`, in order, until the server ends the watch.

        Raises KubeError, with status 410 when `since` is too long ago: list again.
        """
        params = {"watch": "true", "resourceVersion": since, "timeoutSeconds": str(WATCH_SECONDS)} | params
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=WATCH_SECONDS + 15)
        try:
            async with self._session.get(
                path.lstrip("/"), params=params, timeout=timeout, read_bufsize=LONGEST_LINE, allow_redirects=False
            ) as answer:
                if answer.status >= 300:
                    raise self._error(answer, await answer.read())
                async for line in answer.content:
                    event = orjson.loads(line)
                    body: Body = event["object"]
                    if event["type"] == "ERROR":
                        raise _refusal(body.get("code") or 500, body)
                    yield event["type"], body
        except (TimeoutError, aiohttp.ClientError, OSError, orjson.JSONDecodeError) as e:
            raise Unreachable(f"the watch broke off: {str(e) or type(e).__name__}", sent=False) from e

    async def _call(
        self,
        method: str,
        path: ApiPath,
        body: object = None,
        content_type: str | None = None,
        *,
        params: Mapping[str, str] | None = None,
        accept: str = JSON,
    ) -> Body:
        headers = {"Accept": accept}
        data, began, status = None, time.monotonic(), 0
        if body is not None and content_type is not None:
            headers["Content-Type"] = content_type
            data = orjson.dumps(body)
        try:
            async with self._session.request(
                method,
                path.lstrip("/"),
                data=data,
                headers=headers,
                params=params,
                timeout=self._timeout,
                allow_redirects=False,
            ) as answer:
                text = await answer.read()
                status = answer.status
                self._date(answer.headers.get("Date"))
        except CredentialError as e:
            raise Unreachable(str(e), sent=False) from e
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as e:
            raise Unreachable(f"cannot connect to the API server: {e}", sent=False) from e
        except (TimeoutError, aiohttp.ClientError, OSError) as e:
            raise Unreachable(f"no answer from the API server: {str(e) or type(e).__name__}", sent=True) from e
        finally:
            self._observe(method, status, time.monotonic() - began)
        if answer.status < 300:
            try:
                result: Body = orjson.loads(text)
            except orjson.JSONDecodeError as e:  # from a proxy on the way: a login page, half an answer
                raise Unreachable(f"the answer is no JSON: {text[:100].decode(errors='replace')!r}", sent=True) from e
            return result
        raise self._error(answer, text)

    def _error(self, answer: aiohttp.ClientResponse, text: bytes) -> KubeError:
        if answer.status < 400:
            where = answer.headers.get("Location", "nowhere")[:200]
            return KubeError(answer.status, "Redirect", f"the API server redirects to {where}: use that URL")
        try:
            status_object = orjson.loads(text)
        except orjson.JSONDecodeError:
            status_object = None
        details = status_object if isinstance(status_object, dict) else {"message": text[:300].decode(errors="replace")}
        error = _refusal(answer.status, details)
        if answer.status == 403:
            self._forbidden(error.message)
        return error


def _refusal(status: int, status_object: Body) -> KubeError:
    reason, message = str(status_object.get("reason") or status), str(status_object.get("message") or "")
    if status == 404 and reason == "NotFound" and (status_object.get("details") or {}).get("name"):
        return NotFound(status, reason, message)
    if status == 409 or (status == 422 and "the server rejected our request due to an error in our request" in message):
        return Conflict(status, reason, message)
    return KubeError(status, reason, message)
