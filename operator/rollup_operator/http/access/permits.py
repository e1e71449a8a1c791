"""Callers and their permissions: the types that the endpoint's calls use, and the protocol of the authorizer.

The order of answers is 401, then 403, then 404: a caller who may not see a job does not learn whether it exists.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from aiohttp import web

from rollup_operator.concurrency.portions import chosen_of, in_portions
from rollup_operator.kube.authz import User
from rollup_operator.model.job_view import JobView

Caller = User
"""An authenticated user."""


ALL_JOBS = ""
"""The name that stands for all jobs of a namespace, including future and deleted ones."""


class EndpointAction(Enum):
    """What a call does to a job."""

    GET = "get"
    CREATE = "create"
    DELETE = "delete"
    START = "start"
    STOP = "stop"
    RUN = "run"
    SEARCH = "search"
    VERIFY = "verify"
    PURGE = "purge"


CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)
"""The key under which a request carries its caller once authenticated."""


class Access(Protocol):
    """Decides by the API server's reviews. Raises ApiError 503 if it does not answer: nothing is allowed by mistake."""

    async def identify(self, authorization: str | None, peer: str = "") -> Caller:
        """Return who sent this `Authorization` header, from the address `peer`. Raises ApiError 401, 429."""

    async def require(self, caller: Caller, action: EndpointAction, namespace: str, name: str) -> None:
        """Return if the caller may do the action to the job of that resource name. Raises ApiError 403, with why.

        An empty name means all jobs of the namespace, including future ones.
        """

    async def may(self, caller: Caller, action: EndpointAction, namespace: str, name: str) -> bool:
        """Return whether the caller may do the action to the job of that resource name; empty: to all jobs."""

    async def may_read_stores(self, caller: Caller, namespace: str) -> bool:
        """Return whether the caller may get the RollupStores of the namespace, and so read what is wrong with them."""

    async def may_list_events(self, caller: Caller, namespace: str) -> bool:
        """Return whether the caller may list the Events of the namespace."""

    async def allowed(
        self, caller: Caller, action: EndpointAction, namespace: str, names: Collection[str]
    ) -> frozenset[str]:
        """Return those of the resource names that the caller may do the action to, for calls on all jobs."""

    async def namespaces(self, caller: Caller, action: EndpointAction, namespaces: Collection[str]) -> frozenset[str]:
        """Return those of the namespaces in which the caller may do the action to all jobs."""


@dataclass(frozen=True, slots=True)
class Permit:
    """What the caller of one request may do in one namespace: checked for each job when it has been found."""

    access: Access
    caller: Caller
    action: EndpointAction
    namespace: str
    granted: list[str] = field(default_factory=list)
    """The resources on which the action was allowed, for the audit log."""

    async def may(self, name: str) -> bool:
        """Return whether the caller may do the action to the job of that resource name; empty: to all jobs."""
        return await self.access.may(self.caller, self.action, self.namespace, name)

    async def may_read_stores(self) -> bool:
        """Return whether the caller may read what is wrong with a store."""
        return await self.access.may_read_stores(self.caller, self.namespace)

    async def may_list_events(self) -> bool:
        """Return whether the caller may read what is reported about jobs."""
        return await self.access.may_list_events(self.caller, self.namespace)

    async def require(self, job_id: str, job: JobView | None) -> None:
        """Return if the caller may do the action to this job or, if no job has the id, to one of that name.

        Raises ApiError 403.
        """
        await self.access.require(self.caller, self.action, self.namespace, job_id if job is None else job.name)
        if job is not None:
            self.granted.append(job.name)

    async def among(self, jobs: Iterable[JobView]) -> list[JobView]:
        """Return those of the jobs that the caller may do the action to."""
        of_all = list(jobs)
        names = await self.access.allowed(self.caller, self.action, self.namespace, {job.name for job in of_all})
        mine = await in_portions(chosen_of(of_all, lambda job: job.name in names))
        self.granted.extend(job.name for job in mine)
        return mine

    async def named(self, names: Collection[str]) -> frozenset[str]:
        """Return those of the resource names that the caller may do the action to."""
        return await self.access.allowed(self.caller, self.action, self.namespace, names)

    async def require_all(self) -> None:
        """Return if the caller may do the action to all jobs of the namespace. Raises ApiError 403."""
        await self.access.require(self.caller, self.action, self.namespace, ALL_JOBS)

    async def require_some(self, jobs: Iterable[JobView]) -> list[JobView]:
        """Return the same. If there are none, the caller must have the right to all jobs: raises ApiError 403."""
        mine = await self.among(jobs)
        if not mine:
            await self.require_all()
        return mine


PERMIT: web.RequestKey[Permit] = web.RequestKey("permit", Permit)
"""The key under which a request carries its permit once its call is known."""
