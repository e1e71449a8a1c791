"""What every answer has, whoever made it: the caller's `X-Opaque-Id`, and compression where the caller takes it."""

import re

from aiohttp import web
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
    if isinstance(response, web.Response) and isinstance(response.body, bytes) and len(response.body) >= WORTH_IT:
        response.headers["Vary"] = "Accept-Encoding"
        if _takes_gzip(request.headers.get("Accept-Encoding", "")):
            response.enable_compression(web.ContentCoding.gzip)
    return response


def _takes_gzip(accepted: str) -> bool:
    match = _GZIP.search(accepted)
    return match is not None and (match["q"] is None or match["q"].strip("0.") != "")
