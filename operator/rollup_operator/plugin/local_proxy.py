"""A server on this machine that adds the caller's token to what the browser asks of the page.

The token never enters the browser. Anybody who can reach the port would act with the caller's rights, so a request must

- name this machine as its host: a page of another site, whose name leads here, names another;
- carry the cookie that the printed address sets: other users and programs of the machine do not know its secret.
"""

import hmac
import secrets
import socket
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
        self._once = _OneUse()
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
            await web.SockSite(runner, socket.create_server(("127.0.0.1", port))).start()
        except OSError:
            await runner.cleanup()
            raise
        self._port = int(runner.addresses[0][1])
        return runner

    def address(self, path: str) -> str:
        """Return the address that lets a browser in."""
        return f"http://127.0.0.1:{self._port}{path}?key={self._secret}"

    def address_for_once(self, path: str) -> str:
        """Return the address for a browser's command line, which other users of the machine can read: it works once.

        A second use ends what the first one began.
        """
        return f"http://127.0.0.1:{self._port}{path}?key={self._once.key}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.getall("Host", []) not in ([f"127.0.0.1:{self._port}"], [f"localhost:{self._port}"]):
            return _refusal(403, "This address belongs to kubectl rollup ui on this machine.")
        if not request.path.startswith(_PAGE) or ".." in request.path.split("/"):
            return _refusal(404, "There is only /ui/ here.")
        if (key := request.query.get("key")) is not None:
            if _same(key, self._secret):
                return self._let_in(request.path, self._secret)
            if _same(key, self._once.key) and (secret := self._once.used()):
                return self._let_in(request.path, secret)
        cookie = self._cookie(request)
        if not (_same(cookie, self._secret) or (self._once.secret and _same(cookie, self._once.secret))):
            return _refusal(403, "Open the address that kubectl rollup ui has printed.")
        own = ("origin", f"http://{request.host}")  # the endpoint would take this machine's pages for another site's
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

    def _let_in(self, path: str, secret: str) -> web.Response:
        answer = web.Response(status=303, headers={"Location": path, "Cache-Control": "no-store"})
        answer.set_cookie(self._name, secret, httponly=True, samesite="Strict", path=_PAGE)
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


class _OneUse:
    """A key that opens a session of its own, once; its second use ends that session."""

    def __init__(self) -> None:
        self.key, self.secret, self._uses = secrets.token_urlsafe(24), "", 0

    def used(self) -> str:
        """Return the secret of the session; empty: the key was used before."""
        self._uses += 1
        self.secret = secrets.token_urlsafe(24) if self._uses == 1 else ""
        return self.secret


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _refusal(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers={"X-Content-Type-Options": "nosniff"})
