"""Access by Kubernetes' own rules: a token is a user of the API server, an action is a right to RollupJobs.

| action | one of these rights |
| --- | --- |
| get, create, delete | that verb on `rollupjobs` |
| search | `get` of `rollupjobs/search` |
| purge | `delete` of `rollupjobs/documents` |
| start | `update` of `rollupjobs/start`, or `patch` of `rollupjobs` |
| stop | `update` of `rollupjobs/stop`, or `patch` of `rollupjobs` |
| run | `update` of `rollupjobs/run`, or `patch` of `rollupjobs` |
| verify | `get` of `rollupjobs/verify` |

A user who may patch a job can start and stop it with kubectl, so the endpoint allows it, too; a user who may only
stop it needs no right to change anything else. Searches and verifications read the sources of jobs, so the right to
see a job does not include them. A caller never gains the rights of the operator's service account.
"""

import base64
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog

from rollup_operator.concurrency.background import side_by_side
from rollup_operator.concurrency.portions import sharing
from rollup_operator.http.access.permits import Caller, EndpointAction
from rollup_operator.http.protocol import errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.kube.authz import Crowded, Reviews, Right
from rollup_operator.kube.client import KubeError
from rollup_operator.model.base import GROUP

log = structlog.get_logger(__name__)

ACTIONS: Mapping[EndpointAction, str] = {
    EndpointAction.GET: "cluster:monitor/xpack/rollup/get",
    EndpointAction.CREATE: "cluster:admin/xpack/rollup/put",
    EndpointAction.DELETE: "cluster:admin/xpack/rollup/delete",
    EndpointAction.START: "cluster:admin/xpack/rollup/start",
    EndpointAction.STOP: "cluster:admin/xpack/rollup/stop",
    EndpointAction.RUN: "cluster:admin/xpack/rollup/run",
    EndpointAction.SEARCH: "indices:data/read/xpack/rollup/search",
    EndpointAction.VERIFY: "indices:data/read/xpack/rollup/verify",
    EndpointAction.PURGE: "indices:data/write/rollup/purge",
}
"""Elasticsearch's name of each action, as far as it has the action."""

_RIGHTS: Mapping[EndpointAction, tuple[tuple[str, str], ...]] = {
    EndpointAction.GET: (("get", ""),),
    EndpointAction.CREATE: (("create", ""),),
    EndpointAction.DELETE: (("delete", ""),),
    EndpointAction.START: (("update", "start"), ("patch", "")),
    EndpointAction.STOP: (("update", "stop"), ("patch", "")),
    EndpointAction.RUN: (("update", "run"), ("patch", "")),
    EndpointAction.SEARCH: (("get", "search"),),
    EndpointAction.VERIFY: (("get", "verify"),),
    EndpointAction.PURGE: (("delete", "documents"),),
}
"""Verb and subresource; the first granted one is enough."""

NAMES_AT_ONCE = 4
"""The number of names that one call on all jobs reviews at a time, so that others get their turn in between."""

EVERYWHERE = ""
"""The namespace of a right that is granted in all of them."""

LOG_EVERY = 60.0
"""Seconds between two log lines about the same problem, which affects every call."""

_TOKEN = re.compile(r"[a-z0-9._~+/-]+=*", re.IGNORECASE)


def token_of(authorization: str | None) -> str | None:
    """Return the Kubernetes token of an `Authorization` header; None: it has none.

    | header | the token is |
    | --- | --- |
    | `Bearer <token>` | as it stands |
    | `Basic <base64 of user:password>` | the password; the user's name is not read |
    | `ApiKey <base64 of id:key>`, `ApiKey <token>` | the key, or as it stands |

    Many clients and Grafana set-ups know Elasticsearch's two schemes alone.
    """
    scheme, _, given = (authorization or "").strip().partition(" ")
    given = given.strip()
    if not _TOKEN.fullmatch(given):
        return None
    match scheme.lower():
        case "bearer":
            return given
        case "basic":
            return _second(given)
        case "apikey":
            return _second(given) or given
    return None


def _second(given: str) -> str | None:
    """Return the token behind the colon of a base64 text; None: there is none."""
    try:
        _, _, token = base64.b64decode(given, validate=True).decode("ascii").partition(":")
    except ValueError:
        return None
    return token if _TOKEN.fullmatch(token) else None


class KubernetesAccess:
    """`http.access.Access` by the API server's reviews."""

    def __init__(self, reviews: Reviews) -> None:
        self._reviews = reviews
        self._last_logged = "", float("-inf")

    async def identify(self, authorization: str | None, peer: str = "") -> Caller:
        """Return who sent this `Authorization` header from the address `peer`.

        Raises ApiError 401, 429 if too many of the same address wait, or 503 if the API server does not answer.
        """
        token = token_of(authorization)
        if token is None:
            raise errors.bad_credentials()
        try:
            user = await self._reviews.user(token, peer)
        except KubeError as e:
            raise self._unanswered("tokenreviews", e) from e
        if user is None:
            raise errors.bad_credentials()
        return user

    async def require(self, caller: Caller, action: EndpointAction, namespace: str, name: str) -> None:
        """Return if the caller may do the action to the job of that name; `` means all jobs of the namespace.

        Raises ApiError 403, or 503 if the API server does not answer.
        """
        if not await self.may(caller, action, namespace, name):
            raise errors.unauthorized(ACTIONS[action], caller.name, _described(action), namespace)

    async def allowed(
        self, caller: Caller, action: EndpointAction, namespace: str, names: Collection[str]
    ) -> frozenset[str]:
        """Return the names that the caller may do the action to. A caller with the right to all costs one review.

        Raises ApiError 503 if the API server does not answer.
        """
        if await self.may(caller, action, namespace, ""):
            return frozenset(names)
        return await self._granted(names, lambda name: self._may(caller, action, namespace, name, among=len(names)))

    async def namespaces(self, caller: Caller, action: EndpointAction, namespaces: Collection[str]) -> frozenset[str]:
        """Return the namespaces in which the caller may do the action to all jobs.

        A caller with the right everywhere costs one review. Raises ApiError 503 if the API server does not answer.
        """
        if await self.may(caller, action, EVERYWHERE, ""):
            return frozenset(namespaces)
        return await self._granted(
            namespaces, lambda namespace: self._may(caller, action, namespace, "", among=len(namespaces))
        )

    @staticmethod
    async def _granted(names: Collection[str], may: Callable[[str], Awaitable[bool]]) -> frozenset[str]:
        left, granted = iter(names), set()

        async def ask() -> None:
            with sharing() as pause:
                for name in left:
                    if await may(name):
                        granted.add(name)
                    await pause()  # answers that are known come without one

        async with side_by_side() as group:
            for _ in range(NAMES_AT_ONCE):
                group.create_task(ask())
        return frozenset(granted)

    async def may(self, caller: Caller, action: EndpointAction, namespace: str, name: str) -> bool:
        """Return whether the caller may do the action to the job of that name; `` means to all jobs of the namespace.

        Raises ApiError 503 if the API server does not answer.
        """
        return await self._may(caller, action, namespace, name)

    async def _may(self, caller: Caller, action: EndpointAction, namespace: str, name: str, among: int = 1) -> bool:
        rights = [
            Right(verb, GROUP, "rollupjobs", namespace, subresource, name) for verb, subresource in _RIGHTS[action]
        ]
        return await self._allows(caller, *rights, among=among)

    async def may_read_stores(self, caller: Caller, namespace: str) -> bool:
        """Return whether the caller may get the RollupStores of the namespace. Raises ApiError 503 likewise."""
        return await self._allows(caller, Right("get", GROUP, "rollupstores", namespace))

    async def may_list_events(self, caller: Caller, namespace: str) -> bool:
        """Return whether the caller may list the Events of the namespace. Raises ApiError 503 likewise."""
        return await self._allows(caller, Right("list", "", "events", namespace))

    async def _allows(self, caller: Caller, *rights: Right, among: int = 1) -> bool:
        try:
            return await self._reviews.allows(caller, *rights, among=among)
        except KubeError as e:
            raise self._unanswered("subjectaccessreviews", e) from e

    def _unanswered(self, resource: str, error: KubeError) -> ApiError:
        """Make a 503 or a 429. The problem goes to the log, once a minute: the caller may be anybody."""
        if isinstance(error, Crowded):
            return errors.too_many("Too many calls of this address or user wait for authorization or were denied")
        refused = error.status in (401, 403)
        problem = f"the operator itself may not create {resource}: apply deploy/rbac/" if refused else str(error)
        last, at = self._last_logged
        if problem != last or time.monotonic() - at > LOG_EVERY:
            self._last_logged = problem, time.monotonic()
            log.warning("cannot ask the API server who may do what", problem=problem)
        return errors.unavailable("Access reviews by the API server fail; nothing was changed")


def _described(action: EndpointAction) -> str:
    return " or ".join(
        f"[{verb}] of [{'/'.join(filter(None, ('rollupjobs', subresource)))}]" for verb, subresource in _RIGHTS[action]
    )
