"""TokenReviews and SubjectAccessReviews: who a token belongs to, and what its user may do.

Only the API server decides. Its answers are cached for seconds under a keyed hash, so that no token stays in memory
longer than its request. A review that fails has no answer, and nothing of it is cached.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import orjson

from rollup_operator.kube.answer_cache import ShortMemory
from rollup_operator.kube.client import KubeError, Unreachable
from rollup_operator.kube.paths import ACCESS_REVIEWS, TOKEN_REVIEWS, ApiPath
from rollup_operator.sharing.allowance import Allowance
from rollup_operator.sharing.shares import Shares, TooManyWait

T = TypeVar("T")

USERS_AT_ONCE = 16
RIGHTS_AT_ONCE = 24
"""Questions of each kind under way at a time; more wait for their turn. Apart, so that strangers who send made-up
tokens do not keep those waiting who are known. Those about tokens are divided among the addresses that they come from,
those about rights among users, the service accounts of a namespace being one: one that is alone may have half."""

TOKENS_WAITING = 512
RIGHTS_WAITING = 4_096
"""Of one address, and of one user. Each is a request that is held."""

CONNECTIONS = USERS_AT_ONCE + RIGHTS_AT_ONCE
"""What the client should have for reviews alone."""

REVIEW_SECONDS = 10.0
"""After this long without an answer, from its turn on, a review counts as unanswered."""

USERS_KEPT = 4_096
RIGHTS_KEPT = 65_536
"""Entries of some hundred bytes: every job of a large cluster for a few callers."""

TOKENS_OF_ONE = 1_024
RIGHTS_OF_ONE = 32_768
"""The part of these for one user: a user with more loses answers of their own. Bad tokens are one user's, and the
service accounts of a namespace are one user."""

DENIED_AT_ONCE = 300
DENIED_A_SECOND = 20.0
"""How many denied reviews one user may cause at once, and how many more each second; then none is made."""

NAMES_FREE = 100
NAMES_A_SECOND = 20.0
LONGEST_DENIED = 60.0
"""Who is denied more than NAMES_FREE names in one call is asked about at this pace on average: the denials are kept the
longer for such calls, for LONGEST_DENIED at most."""


_SERVICE_ACCOUNT = "system:serviceaccount:"
"""What the name of a service account begins with; its namespace and its own name follow."""

Observe = Callable[[str, str, bool], None]
"""Called for each review: its kind (`token`, `access`), the result (`allowed`, `denied`, `error`), and whether the
answer was cached."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody, as the API server knows them. `extra` is handed back to it unread."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Right:
    """A verb on a resource of one API group. Without `name` it is the right to all objects of the namespace."""

    verb: str
    group: str
    resource: str
    namespace: str
    subresource: str = ""
    name: str = ""


class Crowded(KubeError):
    """Too many reviews of the same address or user wait, or were denied, for a further one."""


class Poster(Protocol):
    """The part of `KubeClient` that is used here."""

    async def post(self, path: ApiPath, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object. Raises KubeError."""


class Reviews:
    """Makes reviews at the API server. Raises KubeError if it does not answer; what it does not allow is denied.

    A valid token and a granted right are cached for `allowed_seconds`, an invalid token and a missing right for
    `denied_seconds`. A token must be for one of `audiences` or, if there are none, for the API server.
    """

    def __init__(
        self,
        kube: Poster,
        *,
        allowed_seconds: float,
        denied_seconds: float,
        audiences: tuple[str, ...] = (),
        observe: Observe = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._observe = observe
        self._audiences = audiences
        self._key = secrets.token_bytes(32)
        self._turns = {
            TOKEN_REVIEWS: Shares(USERS_AT_ONCE, waiting=TOKENS_WAITING),
            ACCESS_REVIEWS: Shares(RIGHTS_AT_ONCE, waiting=RIGHTS_WAITING),
        }
        self._users: ShortMemory[User | None] = ShortMemory(
            lambda user: denied_seconds if user is None else allowed_seconds,
            size=USERS_KEPT,
            share=TOKENS_OF_ONE,
            clock=clock,
        )
        self._rights: ShortMemory[bool] = ShortMemory(
            lambda allowed: allowed_seconds if allowed else denied_seconds,
            size=RIGHTS_KEPT,
            share=RIGHTS_OF_ONE,
            clock=clock,
        )
        self._seconds = allowed_seconds, denied_seconds
        self._denied = Allowance(DENIED_AT_ONCE, DENIED_A_SECOND, clock)

    async def user(self, token: str, peer: str = "") -> User | None:
        """Return the user of this token; None if the API server does not accept it, or not for our audiences.

        `peer` is the address that it came from. Raises Crowded if too many reviews for that address wait already.
        """
        key = hmac.digest(self._key, token.encode(), "sha256")
        return await self._answer("token", self._users, key, lambda: self._whose(token, peer), _owner)

    async def allows(self, user: User, *rights: Right, among: int = 1) -> bool:
        """Return whether the user has one of the rights: the first granted one is enough.

        `among`: for how many names the call needs that at once; a denial may be older then. Raises Crowded if too
        many reviews about the user wait already, or too many were denied one by one.
        """
        allowed_seconds, denied_seconds = self._seconds
        denied_seconds = max(denied_seconds, min(LONGEST_DENIED, (among - NAMES_FREE) / NAMES_A_SECOND))

        def keep(allowed: bool) -> float:
            return allowed_seconds if allowed else denied_seconds

        party, taken = _party(user), False
        for right in rights:
            spec = _spec(user, right)
            key = hashlib.blake2b(
                orjson.dumps(spec, option=orjson.OPT_SORT_KEYS), digest_size=32, key=self._key
            ).digest()
            if among == 1 and not taken and not self._rights.knows(key, keep):
                if not self._denied.take(party):
                    raise Crowded(429, "TooManyRequests", "too many questions about the user were denied")
                taken = True
            ask = partial(self._is_allowed, spec, party)
            if await self._answer("access", self._rights, key, ask, lambda _: party, keep):
                if taken:
                    self._denied.give_back(party)
                return True
        return False

    async def _answer(
        self,
        kind: str,
        memory: ShortMemory[T],
        key: bytes,
        ask: Callable[[], Awaitable[T]],
        owner: Callable[[T], Hashable],
        keep: Callable[[T], float] | None = None,
    ) -> T:
        known, result = memory.knows(key, keep), "error"
        try:
            answer = await memory.get(key, ask, owner, keep)
            result = "allowed" if answer else "denied"
            return answer
        finally:
            self._observe(kind, result, known)

    async def _whose(self, token: str, peer: str) -> User | None:
        spec: dict[str, Any] = {"token": token}
        if self._audiences:
            spec["audiences"] = self._audiences
        status = await self._ask(TOKEN_REVIEWS, "authentication.k8s.io/v1", "TokenReview", spec, peer)
        if status.get("authenticated") is not True:
            return None
        # An authenticator that knows nothing of audiences says so by naming none: the token is for the API server.
        if self._audiences and not set(self._audiences) & set(status.get("audiences") or ()):
            return None
        user = status["user"]
        return User(
            name=user.get("username", ""),
            uid=user.get("uid", ""),
            groups=tuple(user.get("groups") or ()),
            extra={key: tuple(values) for key, values in (user.get("extra") or {}).items()},
        )

    async def _is_allowed(self, spec: Mapping[str, Any], party: str) -> bool:
        status = await self._ask(ACCESS_REVIEWS, "authorization.k8s.io/v1", "SubjectAccessReview", spec, party)
        return status.get("allowed") is True and status.get("denied") is not True

    async def _ask(
        self, path: ApiPath, version: str, kind: str, spec: Mapping[str, Any], who: str
    ) -> Mapping[str, Any]:
        """Return the status of the review.

        Reviews change nothing, so one that got no answer is repeated once, whether or not it was sent: under a flood
        the operator may not get a connection in time.
        """
        body = {"apiVersion": version, "kind": kind, "spec": spec}
        try:
            async with self._turns[path].taking(who), asyncio.timeout(REVIEW_SECONDS):
                try:
                    answer = await self._kube.post(path, body)
                except Unreachable:
                    answer = await self._kube.post(path, body)
        except TooManyWait as e:
            raise Crowded(429, "TooManyRequests", f"too many of {kind} wait already") from e
        except TimeoutError as e:
            raise Unreachable(f"no answer to a {kind} within {REVIEW_SECONDS:g}s", sent=True) from e
        status: Mapping[str, Any] = answer.get("status") or {}
        return status


def _spec(user: User, right: Right) -> dict[str, Any]:
    return {
        "user": user.name,
        "uid": user.uid,
        "groups": user.groups,
        "extra": user.extra or {},
        "resourceAttributes": {
            "verb": right.verb,
            "group": right.group,
            "resource": right.resource,
            "subresource": right.subresource,
            "namespace": right.namespace,
            "name": right.name,
        },
    }


def _owner(user: User | None) -> str | None:
    return None if user is None else _party(user)


def _party(user: User) -> str:
    """Return who counts as one user: an editor of a namespace can make any number of service accounts there."""
    return user.name.rpartition(":")[0] if user.name.startswith(_SERVICE_ACCOUNT) else user.name
