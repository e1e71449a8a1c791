"""Reads what a form of the page sends: a few short fields."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from aiohttp import web

from rollup_operator.http.access.bodies import read_within
from rollup_operator.http.protocol import errors

MOST_BYTES = 16 * 1024
MOST_FIELDS = 18
FORM = "application/x-www-form-urlencoded"


async def read_form(request: web.Request, seconds: float) -> Mapping[str, str]:
    """Return the fields of a form that arrives within so many seconds.

    Raises ApiError: 415 for another type, 413 for too many bytes, 408 for a body that is too slow, 400 for too many
    fields.
    """
    if request.content_type != FORM or "Content-Encoding" in request.headers:
        raise errors.unsupported_form(FORM)
    if (request.content_length or 0) > MOST_BYTES:
        raise errors.too_large(MOST_BYTES)
    data = await read_within(request, MOST_BYTES, seconds)
    try:
        return dict(parse_qsl(data.decode(errors="replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise errors.illegal_argument(f"the form has more than [{MOST_FIELDS}] fields") from None


def listed(text: str) -> list[str]:
    """Return the words of a field that have commas between them."""
    return [word for word in (part.strip() for part in text.split(",")) if word]
