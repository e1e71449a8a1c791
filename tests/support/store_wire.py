"""One end of an HTTP/1.1 connection, read message by message and passed on byte by byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_LIMIT = 2**16


@dataclass(frozen=True)
class Head:
    """The first line and the headers of a message; `raw` is all of it as it came, the empty line included."""

    raw: bytes
    first: str
    headers: Mapping[str, str]
    """By name in lower case."""

    @classmethod
    def parse(cls, raw: bytes) -> "Head":
        first, *lines = raw.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        return cls(raw, first, {name.strip().lower(): value.strip() for name, _, value in pairs})

    @property
    def closes(self) -> bool:
        """Whether the connection ends with this message."""
        return self.headers.get("connection", "").lower() == "close" or "HTTP/1.0" in self.first

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.first.split()[1])

    def changed(self, *, length: int, target: str) -> bytes:
        """The head of a request with a body of another length to another target, its answer not compressed."""
        method, _, version = self.first.split()
        first = f"{method} {target} {version}"
        dropped = ("content-length:", "transfer-encoding:", "accept-encoding:")
        lines = self.raw.decode("latin-1").split("\r\n")[1:-2]
        kept = [line for line in lines if not line.lower().startswith(dropped)]
        return "\r\n".join([first, *kept, f"Content-Length: {length}", "", ""]).encode("latin-1")


def answer_bytes(status: int, body: Any, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole answer with a JSON body; a text is sent as text."""
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    type_ = "text/plain" if isinstance(body, str) else "application/json"
    fields = {"content-type": f"{type_}; charset=UTF-8", "content-length": str(len(data)), **(headers or {})}
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + data


class Wire:
    """A connection as bytes go over it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ahead = b""

    @classmethod
    async def connect(cls, host: str, port: int) -> "Wire":
        return cls(*await asyncio.open_connection(host, port))

    @property
    def subject(self) -> str:
        """The common name in the other end's certificate; empty without one."""
        shown = self._writer.get_extra_info("peercert") or {}
        names = dict(pair for part in shown.get("subject", ()) for pair in part)
        return str(names.get("commonName", ""))

    async def head(self) -> Head | None:
        """The next message's head; None when the other end has closed before one came."""
        raw, self._ahead = self._ahead, b""
        while not raw.endswith(b"\r\n\r\n"):
            try:
                line = await self._reader.readuntil(b"\n")
            except (asyncio.IncompleteReadError, OSError):
                return None
            raw += line
        return Head.parse(raw)

    async def pieces(self, head: Head, *, to_head_request: bool = False) -> AsyncIterator[tuple[bytes, bytes]]:
        """The body as it comes: (raw bytes, what they hold once their framing is gone).

        Raises asyncio.IncompleteReadError or OSError when the other end closes in the middle.
        """
        is_answer = head.first.startswith("HTTP/")
        if to_head_request or (is_answer and head.status in (204, 304)):
            return
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            size = -1
            while size != 0:
                line = await self._reader.readuntil(b"\n")
                size = int(line.partition(b";")[0], 16)
                chunk = await self._reader.readexactly(size + 2)
                yield line + chunk, chunk[:-2]
        elif "content-length" in head.headers:
            left = int(head.headers["content-length"])
            while left:
                piece = await self._reader.read(min(left, _LIMIT))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", left)
                left -= len(piece)
                yield piece, piece
        elif is_answer:  # it ends with the connection
            while piece := await self._reader.read(_LIMIT):
                yield piece, piece

    async def body(self, head: Head, *, to_head_request: bool = False) -> tuple[bytes, bytes]:
        """The whole body: raw, and without its framing."""
        found = [piece async for piece in self.pieces(head, to_head_request=to_head_request)]
        return b"".join(raw for raw, _ in found), b"".join(plain for _, plain in found)

    async def closed(self) -> None:
        """Return once the other end has closed; never if it speaks on. For the time in which it has nothing to say."""
        try:
            self._ahead += await self._reader.read(1)
        except OSError:
            return
        if self._ahead:
            await asyncio.Event().wait()

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        """Close after what was written has gone out."""
        self._writer.close()

    async def end(self) -> None:
        """Close and return once that is done."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()
