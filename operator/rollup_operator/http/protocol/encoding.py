"""The common parts of all answers: the caller's `X-Opaque-Id`, and compression if the caller accepts it."""

import re

from aiohttp import HttpVersion11, Payload, web
from aiohttp.typedefs import Handler

OPAQUE_ID = "X-Opaque-Id"

WORTH_IT = 1024
"""Bytes from which on an answer is compressed."""

_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q\s*=\s*(?P<q>[0-9.]+)\s*)?(?:,|$)", re.IGNORECASE)


@web.middleware
async def wire(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Add to the answer what belongs to every answer."""
    response = await handler(request)
    opaque = request.headers.get(OPAQUE_ID)
    if opaque and opaque.isascii() and opaque.isprintable():
        response.headers[OPAQUE_ID] = opaque
    if isinstance(response, web.Response) and _size(response.body) >= WORTH_IT:
        response.headers["Vary"] = "Accept-Encoding"
        if _takes_gzip(request.headers.get("Accept-Encoding", "")) and _can_compress(request, response):
            response.enable_compression(web.ContentCoding.gzip)
    return response


def _size(body: bytes | bytearray | Payload | None) -> int:
    return (body.size or 0) if isinstance(body, Payload) else len(body or b"")


def _can_compress(request: web.Request, response: web.Response) -> bool:
    # A long answer is compressed while it is sent: its length is not known before, and HTTP/1.0 must know it. For HEAD
    # aiohttp would send an empty compressed body.
    whole = not isinstance(response.body, Payload)
    return whole or (request.version >= HttpVersion11 and request.method != "HEAD")


def _takes_gzip(accepted: str) -> bool:
    match = _GZIP.search(accepted)
    return match is not None and (match["q"] is None or match["q"].strip("0.") != "")
