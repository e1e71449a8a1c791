"""What headers say about bodies: which answers a caller accepts, and what it sends, with versions of Elasticsearch."""

import re
from functools import lru_cache

from aiohttp import web

from rollup_operator.http.protocol import errors

COMPATIBLE = ("7", "8", "9")
"""Versions that a client may ask for with `compatible-with`; the answers are the same."""

JSON = "application/json"

_ELASTICSEARCH = "application/vnd.elasticsearch+json"
_LINES = frozenset({"application/x-ndjson", "application/vnd.elasticsearch+x-ndjson"})
_TAKES_JSON = frozenset({"*/*", "application/*", JSON, _ELASTICSEARCH})
_TAKES_VERSION = re.compile(rf"{re.escape(_ELASTICSEARCH)}\s*;\s*compatible-with\s*=\s*(\w+)", re.IGNORECASE)
_VERSION = re.compile(r"compatible-with\s*=\s*(\w+)")
_ENCODINGS = ("", "identity", "gzip", "deflate")


def header(request: web.BaseRequest, name: str) -> str:
    """Return a header, so that an error can quote it: what is no UTF-8 becomes `?`. Empty where there is none."""
    text = request.headers.get(name, "")
    return text if text.isascii() else text.encode(errors="replace").decode()


def answer_type(request: web.BaseRequest) -> str:
    """Return the media type to answer with. Raises ApiError 406, or 400 for a version that is not spoken."""
    return _answer_type(header(request, "Accept"))


def check_body(request: web.BaseRequest, *, lines: bool = False) -> None:
    """Return if a body of this type can be read. `lines`: it may hold one JSON text a line.

    Raises ApiError 406, or 400 for a version that is not spoken.
    """
    given = header(request, "Content-Type")
    name, _, parameters = given.partition(";")
    kind = name.strip().lower()
    if kind not in (JSON, _ELASTICSEARCH) and not (lines and kind in _LINES):
        raise errors.unsupported_type(given)
    asked = _VERSION.search(parameters)
    if asked is not None and asked[1] not in COMPATIBLE:
        raise errors.wrong_version("Content-Type", given, asked[1], COMPATIBLE)


def check_encoding(request: web.BaseRequest) -> None:
    """Return if a body compressed like this can be read. Raises ApiError 415."""
    if (encoding := header(request, "Content-Encoding").strip().lower()) not in _ENCODINGS:
        raise errors.unsupported_encoding(encoding)


@lru_cache(maxsize=256)
def _answer_type(given: str) -> str:
    kinds = [kind.partition(";")[0].strip().lower() for kind in given.split(",")]
    if given.strip() and not any(kind in _TAKES_JSON for kind in kinds):
        raise errors.not_acceptable(given)
    asked = _TAKES_VERSION.search(given)
    if asked is None:
        return JSON
    if (version := asked[1]) not in COMPATIBLE:
        raise errors.wrong_version("Accept", given, version, COMPATIBLE)
    return f"{_ELASTICSEARCH};compatible-with={version}"
