"""Reads the body of a request: JSON of a bounded size, compressed or not."""

import re

from aiohttp import web

from rollup_operator.http import errors
from rollup_operator.http.answers import COMPATIBLE
from rollup_operator.http.errors import ApiError
from rollup_operator.http.json_reader import Node, NotJson, read_json
from rollup_operator.http.versions import Dialect

LARGEST = 256 * 1024
"""Bytes of a body, once inflated. A configuration that the API server takes is far below."""

_JSON = re.compile(r"application/json|application/vnd\.elasticsearch\+json", re.IGNORECASE)
_COMPATIBLE_WITH = re.compile(r"compatible-with\s*=\s*(\w+)")
_ENCODINGS = ("", "identity", "gzip", "deflate")


async def read_object(request: web.Request, dialect: Dialect) -> Node:
    """Return the JSON of a request that must have some. Raises ApiError."""
    data = await _read(request)
    if not data.strip():
        raise ApiError(400, "parse_exception", "request body is required")
    _check_type(request.headers.get("Content-Type", ""))
    try:
        return read_json(data)
    except NotJson as e:
        raise ApiError(400, dialect.malformed_json_error, f"[{e.at}] {e}") from e


async def _read(request: web.Request) -> bytes:
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise errors.unsupported_encoding(encoding)
    try:
        # The server inflates what comes, and reads no more than its limit of what is inflated.
        data = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise errors.too_large(LARGEST) from None
    if len(data) > LARGEST:
        raise errors.too_large(LARGEST)
    return data


def _check_type(given: str) -> None:
    kind, _, parameters = given.partition(";")
    if not _JSON.fullmatch(kind.strip()):
        raise errors.unsupported_type(given)
    asked = _COMPATIBLE_WITH.search(parameters)
    if asked is not None and asked[1] not in COMPATIBLE:
        raise errors.wrong_version("Content-Type", given, asked[1], COMPATIBLE)
