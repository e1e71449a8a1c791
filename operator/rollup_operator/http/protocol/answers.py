"""Turns what a handler returns, or raises, into an HTTP answer in Elasticsearch's form."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import Payload, web
from aiohttp.abc import AbstractStreamWriter

from rollup_operator.concurrency.portions import Work, in_portions
from rollup_operator.http.protocol import errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.protocol.filter_path import Filter
from rollup_operator.http.protocol.media_types import JSON, answer_type
from rollup_operator.http.protocol.parameters import Parameters
from rollup_operator.sharing.memory import compact

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}
"""Elasticsearch's clients refuse a server that does not send it."""

CHUNK = 256 * 1024
"""Bytes of a long body that are sent at a time."""

PACKAGE = "rollup_operator"

MOST_FRAMES = 50
"""Of an error that shows where it comes from."""

_IN_HEADERS = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


@dataclass(frozen=True, slots=True)
class Form:
    """How the client wants its answer."""

    content_type: str = JSON
    pretty: bool = False
    traced: bool = False
    """Whether an error shows where in the program it comes from."""
    filter: Filter = field(default_factory=Filter)

    @classmethod
    def wanted(cls, request: web.Request, parameters: Parameters) -> "Form":
        """Read the parameters that every call takes. Raises ApiError 400."""
        asked = parameters.text("format")
        if asked not in (None, "", "json"):
            raise errors.illegal_argument(f"request [{request.path}] asks for format [{asked}]: only [json] is offered")
        parameters.boolean("human", False)
        return cls(
            traced=parameters.boolean("error_trace", False),
            content_type=answer_type(request),
            pretty=parameters.boolean("pretty", False),
            filter=Filter(parameters.text("filter_path") or ""),
        )

    @classmethod
    def of_error(cls, request: web.Request) -> "Form":
        """Return the form for an error, which no mistake in the parameters may prevent."""
        try:
            content_type = answer_type(request)
        except ApiError:
            content_type = JSON
        pretty, traced = (request.query.get(name) in ("", "true") for name in ("pretty", "error_trace"))
        return cls(content_type=content_type, pretty=pretty, traced=traced)


async def answer(
    body: dict[str, Any], form: Form, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an answer that is no error. An iterator in it stands for a list, whose items are made one by one.

    Raises ApiError 400 for a filter that takes too much work.
    """
    kept = await in_portions(form.filter.applied(body, lambda item: compact(orjson.dumps(item, option=_indent(form)))))
    return _respond(status, await in_portions(_written(kept, form)), form, headers)


def failure(error: ApiError, form: Form) -> web.Response:
    """Return an error; filter_path does not apply to it."""
    envelope = error.envelope(_frames(error) if form.traced else None)
    body = orjson.dumps(envelope, option=_indent(form)) + _end(form)
    return _respond(error.status, body, form, error.headers)


def _frames(error: BaseException) -> str:
    """Return the frames that the error has gone through, the one that raised it first, a line each.

    Only our own are named, by module, function and line: no value of a variable, and no path of the machine.
    """
    found = []
    at: TracebackType | None = error.__traceback__
    while at is not None:
        module = at.tb_frame.f_globals.get("__name__", "")
        if module.split(".")[0] == PACKAGE:
            found.append(f"\n\tat {module}.{at.tb_frame.f_code.co_qualname}(line {at.tb_lineno})")
        at = at.tb_next
    return "".join(reversed(found[-MOST_FRAMES:]))


def options(methods: Iterable[str]) -> web.Response:
    """Answer OPTIONS: what the path takes."""
    return web.Response(headers={**PRODUCT, "Allow": ", ".join(sorted(methods))})


def warning(text: str | None) -> Mapping[str, str]:
    """Return the header with a warning about a call that succeeded; none without a text."""
    return {} if text is None else {"Warning": warning_value(text)}


def warning_value(text: str) -> str:
    """Return a `Warning` header's value, quoted as Elasticsearch does: what it cannot carry is percent-encoded."""
    plain = quote(text, safe=_IN_HEADERS).replace("\\", "\\\\").replace('"', '\\"')
    return f'299 rollup-operator "{plain}"'


def _respond(status: int, body: bytes | Payload, form: Form, headers: Mapping[str, str] | None = None) -> web.Response:
    sent = {**PRODUCT, "Content-Type": form.content_type, **(headers or {})}
    return web.Response(status=status, body=body, headers=sent)


class _Chunks(Payload):
    """A long body. To join it, and to hand it on in one piece, would copy it twice, and all of it at once."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        super().__init__(chunks, content_type=JSON)
        self._chunks = chunks

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return sum(map(len, self._chunks))

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as a text."""
        return b"".join(self._chunks).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send one chunk after the other, as fast as the client takes them."""
        for chunk in self._chunks:
            await writer.write(chunk)
            await asyncio.sleep(0)  # a client that takes them at once comes without a pause


def _written(body: Mapping[str, Any], form: Form) -> Work[bytes | _Chunks]:
    chunks: list[bytes] = []
    chunk: list[bytes] = []
    size = 0
    for piece in _pieces(body, form):
        chunk.append(piece)
        size += len(piece)
        if size >= CHUNK:
            chunks.append(b"".join(chunk))
            chunk, size = [], 0
        yield
    chunks.append(b"".join(chunk))
    return chunks[0] if len(chunks) == 1 else _Chunks(chunks)


def _indent(form: Form) -> int:
    return orjson.OPT_INDENT_2 if form.pretty else 0


def _end(form: Form) -> bytes:
    return b"\n" if form.pretty else b""


def _pieces(body: Mapping[str, Any], form: Form) -> Iterator[bytes]:
    """Return the JSON of an answer, the items of whose lists are JSON already, as orjson writes it in one piece."""
    yield from _piece_by_piece(body, _end(form), _indent(form))
    yield _end(form)


def _piece_by_piece(value: object, line: bytes, option: int) -> Iterator[bytes]:
    """`line` begins a line at the depth of the value."""
    inside = line and line + b"  "
    if isinstance(value, dict) and value:
        before = b"{"
        for name, inner in value.items():
            yield before + inside + orjson.dumps(name) + (b": " if line else b":")
            yield from _piece_by_piece(inner, inside, option)
            before = b","
        yield line + b"}"
    elif isinstance(value, list) and value:
        before = b"["
        for item in value:
            # Within a text of JSON a line break is written as two characters.
            yield before + inside + (item.replace(b"\n", inside) if line else item)
            before = b","
        yield line + b"]"
    else:
        yield orjson.dumps(value, option=option)
