"""What can go wrong on the way to a node, and the words in which a node refuses."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl, urlencode

from support.store_proxy import Exchange, Pass
from support.store_wire import answer_bytes

__all__ = [
    "Answer",
    "CutAfter",
    "CutBefore",
    "CutInside",
    "CutOnTheWay",
    "CutSent",
    "HalfBulk",
    "Hold",
    "HoldAnswer",
    "Pass",
    "error_body",
]


class CutBefore:
    """The connection breaks, and the node never hears of the request."""

    outlives_client = False

    async def apply(self, exchange: Exchange) -> None:
        exchange.cut()


class CutSent:
    """The connection breaks, at both ends, as soon as the node has the whole request."""

    outlives_client = False

    async def apply(self, exchange: Exchange) -> None:
        await exchange.send()
        exchange.cut()


class CutOnTheWay:
    """The client's connection breaks while the request is on its way; the node has it some seconds later."""

    outlives_client = True

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def apply(self, exchange: Exchange) -> None:
        exchange.cut()
        await asyncio.sleep(self._seconds)
        await exchange.send()
        await exchange.collect()


class CutAfter:
    """The node carries the request out and answers; the connection breaks before a byte of that gets through."""

    outlives_client = True

    async def apply(self, exchange: Exchange) -> None:
        await exchange.send()
        await exchange.collect()
        exchange.cut()


class CutInside:
    """The connection breaks when a share of the answer's body has come through."""

    outlives_client = False

    def __init__(self, share: float = 0.5) -> None:
        self._share = share

    async def apply(self, exchange: Exchange) -> None:
        await exchange.send()
        await exchange.relay(share=self._share)


class Hold:
    """The request is held until `release`; then it goes on as usual.

    A client that has gone by then is not waited for, and the node never hears of it; with `outlives_client` it reaches
    the node all the same, as from a holder that was frozen in the middle of sending.
    """

    def __init__(self, *, outlives_client: bool = False) -> None:
        self.outlives_client = outlives_client
        self._released = asyncio.Event()

    def release(self) -> None:
        self._released.set()

    async def apply(self, exchange: Exchange) -> None:
        await self._released.wait()
        await exchange.send()
        if self.outlives_client:
            head, raw, _ = await exchange.collect()
            await exchange.pass_on(head.raw + raw)
        else:
            await exchange.relay()


class HoldAnswer:
    """The node carries the request out; its answer is held until `release`."""

    outlives_client = False

    def __init__(self) -> None:
        self.carried_out = asyncio.Event()
        """Set when the node has answered."""
        self._released = asyncio.Event()

    def release(self) -> None:
        self._released.set()

    async def apply(self, exchange: Exchange) -> None:
        await exchange.send()
        head, raw, _ = await exchange.collect()
        self.carried_out.set()
        await self._released.wait()
        await exchange.pass_on(head.raw + raw)


class Answer:
    """The node never hears of it; the answer is an error such as a node gives."""

    outlives_client = False

    def __init__(self, status: int, type_: str = "", reason: str = "", *, body: Any = None) -> None:
        """`type_` and `reason` are by default those that go with the status; `body`, if given, is the whole answer."""
        self._status = status
        self._body = error_body(status, type_, reason) if body is None else body

    async def apply(self, exchange: Exchange) -> None:
        await exchange.say(self._status, self._body)


class HalfBulk:
    """Some items of a bulk reach the node; the others are refused, in one correct answer about all of them."""

    outlives_client = False

    def __init__(
        self,
        reaches: Callable[[int], bool] = lambda number: number % 2 == 0,
        *,
        status: int = 429,
        type_: str = "",
        reason: str = "",
    ) -> None:
        """`reaches` says by an item's place in the bulk whether it gets through: by default every other one does."""
        self._reaches = reaches
        self._status = status
        error = error_body(status, type_, reason)["error"]
        self._error = {"type": error["type"], "reason": error["reason"]}

    async def apply(self, exchange: Exchange) -> None:
        request = exchange.request
        items = _items(request.body)
        through = [item for number, item in enumerate(items) if self._reaches(number)]
        answer: dict[str, Any] = {"took": 0, "errors": False, "items": []}
        path, _, query = request.target.partition("?")
        options = dict(parse_qsl(query))
        wanted = options.pop("filter_path", None)
        if through:
            body = b"".join(line for item in through for line in item)
            target = f"{path}?{urlencode(options)}" if options else path
            await exchange.send_raw(request.head.changed(length=len(body), target=target) + body)
            head, raw, plain = await exchange.collect()
            if head.status != 200:
                await exchange.pass_on(head.raw + raw)
                return
            answer = json.loads(plain)
        done = iter(answer["items"])
        merged = [
            next(done) if self._reaches(number) else self._refused(item[0], path) for number, item in enumerate(items)
        ]
        answer |= {"items": merged, "errors": answer["errors"] or len(through) < len(items)}
        if wanted:
            answer = filtered(answer, wanted)
        await exchange.pass_on(answer_bytes(200, answer))

    def _refused(self, action: bytes, path: str) -> dict[str, Any]:
        ((kind, about),) = json.loads(action).items()
        index = about.get("_index", path.strip("/").partition("/")[0])
        return {kind: {"_index": index, "_id": about.get("_id"), "status": self._status, "error": self._error}}


_USUAL: Mapping[int, tuple[str, str]] = {
    400: (
        "too_many_buckets_exception",
        "Trying to create too many buckets. Must be less than or equal to: [65535] but was [65536].",
    ),
    401: ("security_exception", "missing authentication credentials for REST request"),
    403: ("cluster_block_exception", "index [target] blocked by: [FORBIDDEN/8/index write (api)];"),
    404: ("index_not_found_exception", "no such index [target]"),
    408: ("timeout_exception", "timed out waiting for the request to be carried out"),
    409: ("version_conflict_engine_exception", "[1]: version conflict"),
    429: (
        "circuit_breaking_exception",
        "[parent] Data too large, data for [<http_request>] would be larger than limit",
    ),
    503: ("search_phase_execution_exception", "all shards failed"),
}


def error_body(status: int, type_: str = "", reason: str = "") -> dict[str, Any]:
    """The body of an error as a node writes it; type and reason are by default what is usual for the status."""
    usual = _USUAL.get(status, ("exception", "something went wrong"))
    cause = {"type": type_ or usual[0], "reason": reason or usual[1]}
    return {"error": {"root_cause": [cause], **cause}, "status": status}


def filtered(value: Any, filter_path: str) -> Any:
    """What a node leaves of an answer for `filter_path`; objects and lists that become empty go."""
    kept = _filtered(value, [pattern.split(".") for pattern in filter_path.split(",")])
    return {} if kept is None else kept


def _filtered(value: Any, paths: Sequence[Sequence[str]]) -> Any:
    if any(not path for path in paths):
        return value
    if isinstance(value, dict):
        inner = {k: _filtered(v, _below(k, paths)) for k, v in value.items()}
        return {k: v for k, v in inner.items() if v is not None} or None
    if isinstance(value, list):
        return [kept for each in value if (kept := _filtered(each, paths)) is not None] or None
    return None


def _below(key: str, paths: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    below: list[Sequence[str]] = []
    for path in paths:
        if path[0] == "**":
            below += [path, *([path[2:]] if len(path) > 1 and fnmatchcase(key, path[1]) else [])]
        elif fnmatchcase(key, path[0]):
            below.append(path[1:])
    return below


def _items(body: bytes) -> list[list[bytes]]:
    """The items of a bulk: action line and, but for a delete, source line."""
    lines = iter(line + b"\n" for line in body.split(b"\n") if line)
    return [[line] if "delete" in json.loads(line) else [line, next(lines)] for line in lines]
