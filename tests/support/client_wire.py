"""One connection to an endpoint over a plain socket, on which a test sends what it likes."""

import asyncio
import json
from typing import Any

GENEROUS = 5.0
"""Seconds for what takes milliseconds."""


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, text: str) -> None:
        self._writer.write(text.encode(errors="surrogateescape"))
        await self._writer.drain()

    async def ask(
        self, line: str, *headers: str, body: str = "", user: str | None = "ann"
    ) -> tuple[int, dict[str, str], Any]:
        who = [] if user is None else [f"Authorization: Bearer {user}"]
        await self.send("\r\n".join([f"{line} HTTP/1.1", "Host: here", *who, *headers, "", body]))
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        async with asyncio.timeout(GENEROUS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
            body = await self._reader.readexactly(int(fields["content-length"]))
        return int(head[0].split()[1]), fields, json.loads(body)

    async def line(self) -> str:
        """Read a head that is one line."""
        async with asyncio.timeout(GENEROUS):
            return (await self._reader.readuntil(b"\r\n\r\n")).decode().strip()

    async def status(self, line: str) -> int:
        """Ask for what need not be JSON, and return the status."""
        await self.send(f"{line} HTTP/1.1\r\nHost: here\r\n\r\n")
        async with asyncio.timeout(GENEROUS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            await self._reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
        return int(head.split()[1])

    async def closed(self) -> bool:
        """Wait until the endpoint has closed the connection without a further word."""
        async with asyncio.timeout(GENEROUS):
            return await self._reader.read() == b""

    async def hang_up(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()
