"""Sessions of browsers. All of a session is in its cookie, so any replica with the same secret serves it.

The cookie holds the user's token, sealed: scripts, logs and finders cannot use it at the API server. Each
request has the token reviewed as if the browser had sent it itself; so a session ends with its token.
"""

import secrets
import time
from collections.abc import Callable, Sequence

from aiohttp import web

from rollup_operator.http.access.permits import CALLER
from rollup_operator.http.ui.sealing import Seal

PATH = "/ui/"

COOKIE = "rollup_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""The cookie with TLS: browsers take it from this host itself alone, so no other host of the domain, and nobody who
answers in its place without TLS, can give a browser the session of somebody else. It has to be for all paths."""

SESSION_SECONDS = 12 * 3600.0
"""After this long a session ends even if its token is good for longer."""

LONGEST_COOKIE = 4_000
"""Characters. Browsers drop a longer one without a word."""

_NONCE_BYTES = 12


def is_secure(request: web.Request) -> bool:
    """Whether the browser uses TLS, be it that of a proxy in front."""
    return request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"


def cookie(request: web.Request) -> str | None:
    """Return the value of the session's cookie; None: there is none.

    Only of exactly that name: aiohttp also takes a name for ours that has an exotic blank before it. Browsers let other
    hosts of the domain set a cookie of such a name, which does not begin with `__Host-` for them.
    """
    name = SECURE_COOKIE if is_secure(request) else COOKIE
    lines = request.headers.getall("Cookie", [])
    pairs = (pair.strip(" ").partition("=") for line in lines for pair in line.split(";"))
    return next((value for given, _, value in pairs if given == name), None)


class TokenTooLong(ValueError):
    """A token that no cookie can hold."""


class Sessions:
    """Begins, reads and ends sessions.

    `secret` returns what all replicas share; sessions end when that changes. `clock`: seconds since the epoch.
    """

    def __init__(self, secret: Callable[[], bytes], clock: Callable[[], float] = time.time) -> None:
        self._secret, self._clock = secret, clock
        self._made = b"", Seal(b"")

    def begin(self, request: web.Request, response: web.StreamResponse, token: str) -> None:
        """Give the browser a session. Raises TokenTooLong."""
        sealed = self._seal.seal(f"{int(self._clock())} {token}")
        if len(sealed) > LONGEST_COOKIE:
            raise TokenTooLong
        name, path, secure = _of_cookie(request)
        response.set_cookie(name, sealed, path=path, httponly=True, samesite="Strict", secure=secure)

    def end(self, request: web.Request, response: web.StreamResponse) -> None:
        """Take the session away from the browser."""
        name, path, secure = _of_cookie(request)
        response.del_cookie(name, path=path, httponly=True, samesite="Strict", secure=secure)

    def token(self, request: web.Request) -> str | None:
        """Return the token of the request's session; None: it has none, or one that has ended."""
        began, _, token = (self._seal.open(cookie(request) or "") or "0 ").partition(" ")
        return token if self._clock() - float(began) < SESSION_SECONDS else None

    def credentials(self, request: web.Request) -> Sequence[str]:
        """Return the values of `Authorization` that a request comes with: its own, or the session's."""
        given = given_credentials(request)
        if given or not request.path.startswith(PATH):
            return given
        token = self.token(request)
        return [] if token is None else [f"Bearer {token}"]

    def form_token(self, request: web.Request) -> str:
        """Return a token that proves that a form comes from a page of this session. No two are equal."""
        nonce = secrets.token_hex(_NONCE_BYTES)
        return nonce + self._proof(request, nonce)

    def is_ours(self, request: web.Request, form_token: str) -> bool:
        """Whether a form's token was made for the session of this request."""
        nonce, proof = form_token[: 2 * _NONCE_BYTES], form_token[2 * _NONCE_BYTES :]
        return secrets.compare_digest(proof.encode(), self._proof(request, nonce).encode())

    def _proof(self, request: web.Request, nonce: str) -> str:
        # Behind a proxy that logs users in there is no cookie of ours: the session is the user's.
        session = cookie(request) if "Authorization" not in request.headers else ""
        return self._seal.mark(f"{nonce} {session or request[CALLER].name}")

    @property
    def _seal(self) -> Seal:
        secret, seal = self._made
        if secret != (now := self._secret()):
            seal = Seal(now)
            self._made = now, seal
        return seal


def given_credentials(request: web.Request) -> Sequence[str]:
    """Return the values of `Authorization` that a request comes with."""
    return request.headers.getall("Authorization", [])


def _of_cookie(request: web.Request) -> tuple[str, str, bool]:
    """Return the name and the path of the cookie, and whether it is for TLS alone."""
    return (SECURE_COOKIE, "/", True) if is_secure(request) else (COOKIE, PATH, False)
