"""Makes HTML of templates. Every text is escaped: names, messages and errors come from people who may be hostile."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

PACKAGE = "rollup_operator.http.ui"

TYPES: Mapping[str, str] = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages refer to."""

    content: bytes
    content_type: str
    url: str
    """It has a digest of the content, so a browser may keep the file for ever."""


def page(template: str, *, status: int = 200, **values: Any) -> web.Response:
    """Return a page, or a part of one."""
    return web.Response(status=status, text=render(template, **values), content_type="text/html", charset="utf-8")


def render(template: str, **values: Any) -> str:
    """Return the text that a template makes of values."""
    return _environment().get_template(template).render(values)


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Return the files by name."""
    found = {}
    for file in files(PACKAGE).joinpath("static").iterdir():
        content = file.read_bytes()
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        kind = TYPES["." + file.name.rpartition(".")[2]]
        found[file.name] = StaticFile(content, kind, f"/ui/static/{digest}/{file.name}")
    return found


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(PACKAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.globals["static"] = lambda name: static_files()[name].url
    return made
