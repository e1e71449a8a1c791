"""A server on this machine that adds the caller's token to what the browser asks of the page.

The token never enters the browser. Whoever can reach the port would act with the caller's rights, so a request must

- name this machine as its host: a page of another site, whose name leads here, names another;
- carry the cookie that the printed address sets: other users and programs of the machine do not know its secret.
"""

import hmac
import secrets
from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie

import aiohttp
from aiohttp import web

from rollup_operator.plugin.outcome import Failure

LARGEST_BODY = 1 << 20
"""Bytes of a request; the page's forms are small."""
_PAGE = "/ui/"
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
        "upgrade",
    }
)  # fmt: skip
_NOT_SENT = _HOP_BY_HOP | {"authorization", "cookie", "content-length", "expect", "host"}

Ask = Callable[..., Awaitable[aiohttp.ClientResponse]]
"""Sends a request with the caller's token: method, path and query, headers, body."""


class LocalProxy:
    """Passes requests for the page on. `ask` sends them with the token."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._secret = secrets.token_urlsafe(24)
        self._port = 0

    async def begin(self, port: int) -> web.AppRunner:
        """Listen on this machine alone, on a free port where `port` is 0; the caller cleans the runner up.

        Raises OSError for a port that is taken.
        """
        application = web.Application(client_max_size=LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._port = int(runner.addresses[0][1])
        return runner

    def address(self, path: str) -> str:
        """Return the address that lets a browser in."""
        return f"http://127.0.0.1:{self._port}{path}?key={self._secret}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.getall("Host", []) not in ([f"127.0.0.1:{self._port}"], [f"localhost:{self._port}"]):
            return _refusal(403, "This address belongs to kubectl rollup ui on this machine.")
        if not request.path.startswith(_PAGE) or ".." in request.path.split("/"):
            return _refusal(404, "There is only /ui/ here.")
        if (key := request.query.get("key")) is not None and self._is_secret(key):
            return self._let_in(request.path)
        if not self._is_secret(self._cookie(request)):
            return _refusal(403, "Open the address that kubectl rollup ui has printed.")
        own = (
            "origin",
            f"http://{request.host}",
        )  # what is asked has another host, so this would look like a stranger's
        headers = [
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in _NOT_SENT and (name.lower(), value) != own
        ]
        body = await request.read() if request.body_exists else None
        try:
            return await self._pass_on(request, headers, body)
        except (aiohttp.ClientError, TimeoutError) as e:
            return _refusal(502, f"The operator does not answer: {str(e) or 'no answer in time'}. Try again soon.")
        except Failure as e:
            return _refusal(502, e.message)

    async def _pass_on(
        self, request: web.Request, headers: list[tuple[str, str]], body: bytes | None
    ) -> web.StreamResponse:
        answer = await self._ask(request.method, request.rel_url.raw_path_qs, headers=headers, data=body)
        async with answer:
            passed = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    passed.headers.add(name, value)
            await passed.prepare(request)
            async for piece in answer.content.iter_any():
                await passed.write(piece)
            await passed.write_eof()
            return passed

    def _let_in(self, path: str) -> web.Response:
        answer = web.Response(status=303, headers={"Location": path, "Cache-Control": "no-store"})
        answer.set_cookie(self._name, self._secret, httponly=True, samesite="Strict", path=_PAGE)
        return answer

    def _cookie(self, request: web.Request) -> str:
        try:
            found = SimpleCookie(request.headers.get("Cookie", "")).get(self._name)
        except CookieError:
            return ""
        return found.value if found is not None else ""

    @property
    def _name(self) -> str:
        return f"rollup_ui_{self._port}"  # a browser keeps one set of cookies for all ports of a machine

    def _is_secret(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._secret.encode())


def _refusal(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers={"X-Content-Type-Options": "nosniff"})
