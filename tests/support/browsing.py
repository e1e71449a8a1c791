"""A browser's part of a session: its cookie, its forms, and what it says about where a request comes from."""

import html
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import aiohttp
from yarl import URL

from rollup_operator.http.app import Endpoint

OWN: Mapping[str, str] = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says of a form on a page of the same site."""


@dataclass(frozen=True)
class Page:
    """What the endpoint answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]*)"', self.text)
        assert found is not None, self.text
        return found[1]

    @property
    def jobs(self) -> list[str]:
        """The jobs of a list, in their order: namespace and name."""
        return [html.unescape(key) for key in re.findall(r'data-job="([^"]*)"', self.text)]

    def words(self, pattern: str) -> str:
        """The text of the first element whose tag matches the pattern."""
        found = re.search(rf"<(\w+)[^>]*{pattern}[^>]*>(.*?)</\1>", self.text, re.DOTALL)
        assert found is not None, f"{pattern} is not in {self.text}"
        return html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", "", found[2]))).strip()


@dataclass
class Browser:
    """Follows no redirects, and keeps the one cookie that there is."""

    session: aiohttp.ClientSession
    base: str
    cookie: str = ""
    cookie_name: str = "rollup_session"
    headers: dict[str, str] = field(default_factory=dict)
    """Of every request: a proxy in front adds some."""

    async def get(self, path: str, **headers: str) -> Page:
        return await self._request("GET", path, None, headers)

    async def post(self, path: str, form: Mapping[str, str], **headers: str) -> Page:
        return await self._request("POST", path, form, dict(headers) if headers else dict(OWN))

    async def log_in(self, user: str = "ann") -> None:
        page = await self.post("/ui/login", {"token": user})
        assert page.status == 303, page.text

    async def _request(self, method: str, path: str, form: Mapping[str, str] | None, headers: dict[str, str]) -> Page:
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.cookie:
            sent["Cookie"] = f"{self.cookie_name}={self.cookie}"
        more: dict[str, Any] = {} if form is None else {"data": dict(form)}
        url = URL(self.base + path, encoded=True)
        async with self.session.request(method, url, headers=sent, allow_redirects=False, **more) as answer:
            for line in answer.headers.getall("Set-Cookie", []):
                self.cookie_name, _, value = line.partition(";")[0].partition("=")
                self.cookie = unquote(value).strip('"')
            return Page(answer.status, answer.headers, await answer.text())


@asynccontextmanager
async def browsing(endpoint: Endpoint | str, **headers: str) -> AsyncIterator[Browser]:
    """A browser at an endpoint of this process, or at a URL."""
    base = endpoint if isinstance(endpoint, str) else f"http://127.0.0.1:{endpoint.port}"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Browser(session, base, headers=headers)
