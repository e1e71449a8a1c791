"""Reads the body of a request as JSON. The server has inflated it, and read it to its end within its limit."""

import asyncio

from aiohttp import web

from rollup_operator.http.errors import ApiError
from rollup_operator.http.json_reader import Node, NotJson, read_json
from rollup_operator.http.media_types import check_body
from rollup_operator.http.versions import Dialect

LARGE = 8 * 1024
"""Bytes from which on a body is read in a thread: others are not to wait for it."""


async def read_object(request: web.Request, dialect: Dialect) -> Node:
    """Return the JSON of a request that must have some. Raises ApiError."""
    data = await request.read()
    if not data.strip():
        raise ApiError(400, "parse_exception", "request body is required")
    check_body(request)
    try:
        return read_json(data) if len(data) < LARGE else await asyncio.to_thread(read_json, data)
    except NotJson as e:
        raise ApiError(400, dialect.malformed_json_error, f"[{e.at}] {e}") from e
