"""Turns what a handler returns, or raises, into an HTTP answer in Elasticsearch's form."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import web

from rollup_operator.http import errors
from rollup_operator.http.errors import ApiError
from rollup_operator.http.filter_path import MOST_PATHS, filtered
from rollup_operator.http.media_types import JSON, answer_type
from rollup_operator.http.parameters import Parameters

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}
"""Elasticsearch's clients refuse a server that does not send it."""

_IN_HEADERS = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


@dataclass(frozen=True, slots=True)
class Form:
    """How the client wants its answer."""

    content_type: str = JSON
    pretty: bool = False
    filter_path: str = ""

    @classmethod
    def wanted(cls, request: web.Request, parameters: Parameters) -> "Form":
        """Read the parameters that every call takes. Raises ApiError 400."""
        asked = parameters.text("format")
        if asked not in (None, "", "json"):
            raise errors.illegal_argument(f"request [{request.path}] asks for format [{asked}]: only [json] is offered")
        filter_path = parameters.text("filter_path") or ""
        if filter_path.count(",") >= MOST_PATHS:
            raise errors.illegal_argument(f"[filter_path] has more than [{MOST_PATHS}] paths, which is the limit")
        parameters.boolean("human", False)
        parameters.boolean("error_trace", False)
        return cls(
            content_type=answer_type(request),
            pretty=parameters.boolean("pretty", False),
            filter_path=filter_path,
        )

    @classmethod
    def of_error(cls, request: web.Request) -> "Form":
        """Return the form for an error, which no mistake in the parameters may prevent."""
        try:
            content_type = answer_type(request)
        except ApiError:
            content_type = JSON
        return cls(content_type=content_type, pretty=request.query.get("pretty") in ("", "true"))


def answer(
    body: dict[str, Any], form: Form, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an answer that is no error."""
    return _respond(status, filtered(body, form.filter_path) if form.filter_path else body, form, headers)


def failure(error: ApiError, form: Form) -> web.Response:
    """Return an error; filter_path does not apply to it."""
    return _respond(error.status, error.envelope(), form, error.headers)


def options(methods: Iterable[str]) -> web.Response:
    """Answer OPTIONS: what the path takes."""
    return web.Response(headers={**PRODUCT, "Allow": ", ".join(sorted(methods))})


def warning(text: str | None) -> Mapping[str, str]:
    """Return the header that tells the caller something about a call that succeeded; none without a text."""
    return {} if text is None else {"Warning": warning_value(text)}


def warning_value(text: str) -> str:
    """Return a `Warning` header's value, quoted as Elasticsearch does: what it cannot carry is percent-encoded."""
    plain = quote(text, safe=_IN_HEADERS).replace("\\", "\\\\").replace('"', '\\"')
    return f'299 rollup-operator "{plain}"'


def _respond(
    status: int, body: Mapping[str, Any], form: Form, headers: Mapping[str, str] | None = None
) -> web.Response:
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE if form.pretty else 0
    sent = {**PRODUCT, "Content-Type": form.content_type, **(headers or {})}
    return web.Response(status=status, body=orjson.dumps(body, option=option), headers=sent)
