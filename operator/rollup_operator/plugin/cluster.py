"""The jobs of a namespace as the caller may see and change them. A refusal by the API server becomes a Failure."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from rollup_operator.kube.client import Body, Conflict, KubeClient, KubeError, NotFound, Unreachable
from rollup_operator.kube.connection import NoConnection
from rollup_operator.kube.job_writes import ask, request_run
from rollup_operator.kube.kubeconfig import find_connection
from rollup_operator.kube.paths import NAMESPACES, events_about_path, jobs_path, stores_path
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.names import is_name, is_namespace
from rollup_operator.plugin.outcome import Chosen, Code, Failure, Where

MANAGER = "kubectl-rollup"
"""Owner of spec.desiredState in metadata.managedFields after a stop or start of the plugin."""

AT_ONCE = 16
"""Requests in flight for many jobs."""

ATTEMPTS = 4
"""How often a call starts over when a job is deleted and created anew meanwhile."""

_TYPE = re.compile(r"(rj|rollupjobs?(\.rollup-operator\.dev)?)/")

T = TypeVar("T")


@dataclass
class NamespaceClient:
    """One namespace of a cluster. Every method may raise Failure."""

    kube: KubeClient
    namespace: str

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, where: Where, *, timeout: float = 15.0) -> "AsyncIterator[NamespaceClient]":
        """Connect as the caller's kubeconfig says. Nothing is sent yet."""
        kubeconfig, context, namespace = where
        try:
            connection = find_connection(kubeconfig, context)
        except NoConnection as e:
            raise Failure(Code.USAGE, "NoConnection", str(e)) from e
        namespace = namespace or connection.namespace
        if not is_namespace(namespace):
            raise Failure(Code.USAGE, "Usage", f"-n {namespace!r} cannot be the name of a namespace")
        async with KubeClient(connection, connections=4 * AT_ONCE, timeout=timeout) as kube:
            yield cls(kube, namespace)

    async def find(self, name: str) -> Body:
        """Return the job of that name."""
        try:
            return await self.kube.get(jobs_path(self.namespace, name))
        except KubeError as e:
            raise failure(e, "get", name, self.namespace) from e

    async def find_each(self, names: Iterable[str]) -> list[Body | Failure]:
        """Return the job of each name, or the failure."""

        async def one(name: str) -> Body | Failure:
            try:
                return await self.find(name)
            except Failure as e:
                return e

        return await each(one, names)

    async def jobs(self, chosen: Chosen) -> list[Body]:
        """Return all jobs, or those with the labels, in order of their names."""
        return (await self.listed(chosen))[0]

    async def listed(self, chosen: Chosen) -> tuple[list[Body], str]:
        """Return the jobs, and the version from which to watch on."""
        found: list[Body] = []
        version = ""
        path = jobs_path(None if chosen.everywhere else self.namespace)
        try:
            async for page in self.kube.pages(path, labels=chosen.labels):
                found += page["items"]
                version = str(page["metadata"]["resourceVersion"])
        except KubeError as e:
            if e.status == 400 and chosen.labels is not None:
                raise Failure(Code.USAGE, "Usage", f"-l {chosen.labels!r}: {e.message}") from e
            raise failure(e, "list") from e
        found.sort(key=lambda body: (body["metadata"]["namespace"], body["metadata"]["name"]))
        return found, version

    def follow_all(self, chosen: Chosen, since: str) -> AsyncGenerator[tuple[str, Body], None]:
        """Yield what changes in the chosen jobs, until the server ends it. Raises KubeError. To be closed."""
        one = chosen.names is not None and len(chosen.names) == 1
        selector = {"fieldSelector": f"metadata.name={name_of(chosen.names[0])}"} if one and chosen.names else {}
        selector |= {"labelSelector": chosen.labels} if chosen.labels is not None else {}
        return self.kube.watch(jobs_path(None if chosen.everywhere else self.namespace), since=since, **selector)

    def follow(self, name: str | None, since: str) -> AsyncGenerator[tuple[str, Body], None]:
        """Yield what changes in one job, or in all, until the server ends it. Raises KubeError. To be closed."""
        selector = {"fieldSelector": f"metadata.name={name}"} if name is not None else {}
        return self.kube.watch(jobs_path(self.namespace), since=since, **selector)

    async def ask(self, job: JobView, state: DesiredState) -> JobView:
        """Request a state of the job: durable once this returns. Returns the job as it is then.

        If the answer of a write was lost, one read shows whether the request stands.
        """
        return await self._write(
            job,
            lambda job: ask(self.kube, job, state, manager=MANAGER),
            lambda now: now.desired is state,
        )

    async def request_run(self, job: JobView, value: str) -> JobView:
        """Request a run of the job now. Returns the job as it is then."""
        return await self._write(
            job,
            lambda job: request_run(self.kube, job, value, manager=MANAGER),
            lambda now: now.run_request == value,
        )

    async def _write(
        self, job: JobView, write: Callable[[JobView], Awaitable[Body]], stands: Callable[[JobView], bool]
    ) -> JobView:
        for _ in range(ATTEMPTS):
            try:
                return JobView.of(await write(job))
            except Conflict:
                job = JobView.of(await self.find(job.name))
            except KubeError as e:
                lost = e.sent if isinstance(e, Unreachable) else e.status >= 500
                if not lost:
                    raise failure(e, "patch", job.name, self.namespace) from e
                with contextlib.suppress(Failure):
                    now = JobView.of(await self.find(job.name))
                    if now.uid == job.uid and stands(now):
                        return now
                raise Failure(
                    Code.FAILED,
                    "OutcomeUnknown",
                    f"it is not known whether the write was carried out: check the job: {e.message}",
                ) from e
        raise Failure(Code.FAILED, "Replaced", "it keeps being deleted and created again; nothing was changed")

    async def delete(self, job: JobView) -> JobView | None:
        """Delete the job. Returns it as it is then, or None if it is gone already."""
        for _ in range(ATTEMPTS):
            try:
                answer = await self.kube.delete(jobs_path(self.namespace, job.name), uid=job.uid, version=job.version)
            except NotFound:
                return None
            except Conflict:
                now = JobView.of(await self.find(job.name))
                if now.uid != job.uid:
                    return None
                job = now
            except KubeError as e:
                raise failure(e, "delete", job.name, self.namespace) from e
            else:
                return JobView.of(answer) if answer.get("kind") == "RollupJob" else None
        raise Failure(Code.FAILED, "Conflict", "it changes all the time; nothing was deleted: try again")

    async def events_of(self, name: str | None) -> list[Body]:
        """Return the events about a job, or about all jobs of the namespace, oldest first."""
        about = "involvedObject.kind=RollupJob" + (f",involvedObject.name={name}" if name is not None else "")
        try:
            items = (await self.kube.get(events_about_path(self.namespace), fieldSelector=about))["items"]
        except KubeError as e:
            if e.status == 403:
                raise Failure(Code.FAILED, "Forbidden", f"{e.message}: ask for the verb list on events") from e
            raise failure(e, "list") from e
        return sorted(items, key=lambda event: int(event["metadata"]["resourceVersion"]))

    async def events(self, uid: str) -> list[Body] | None:
        """Return the events about an object, oldest first; None where the caller may not read them."""
        try:
            items = (await self.kube.get(events_about_path(self.namespace), fieldSelector=f"involvedObject.uid={uid}"))[
                "items"
            ]
        except KubeError:
            return None
        return sorted(items, key=lambda event: int(event["metadata"]["resourceVersion"]))

    async def store(self, name: str) -> tuple[Body | None, bool]:
        """Return the RollupStore, and whether the caller may know: (None, True) means there is none."""
        try:
            return await self.kube.get(stores_path(self.namespace, name)), True
        except NotFound:
            return None, True
        except KubeError:
            return None, False

    async def names(self) -> list[str]:
        """Return the names of the namespace's jobs, for completion."""
        found = []
        async for page in self.kube.pages(jobs_path(self.namespace), metadata_only=True):
            found += [item["metadata"]["name"] for item in page["items"]]
        return found

    async def namespaces(self) -> list[str]:
        """Return the names of all namespaces, for completion."""
        return [item["metadata"]["name"] for item in (await self.kube.get(NAMESPACES))["items"]]


def name_of(word: str) -> str:
    """Return the name of a job as typed: `flights`, `rj/flights`. Raises Failure for what cannot be a name."""
    name = word[found.end() :] if (found := _TYPE.match(word)) else word
    if not is_name(name):
        raise Failure(
            Code.USAGE,
            "Usage",
            f"{word!r} cannot be the name of a RollupJob: names have lower-case letters, digits, - and . "
            "(kubectl rollup get lists them; spec.jobId is no name)",
        )
    return name


async def each(work: Callable[[str], Awaitable[T]], names: Iterable[str]) -> list[T]:
    """Do the same for each name, some at once, and return the results in order."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> T:
        async with turns:
            return await work(name)

    return list(await asyncio.gather(*(one(name) for name in names)))


def failure(error: KubeError, verb: str, name: str = "", namespace: str = "") -> Failure:
    """Say what the API server's refusal means, and what to do."""
    if error.status == 404 and name and f'"{name}"' in error.message:
        return Failure(Code.NOT_FOUND, "NotFound", f"there is no job {name!r} in namespace {namespace}")
    if error.status == 404:
        return Failure(
            Code.FAILED, "NotInstalled", "the API server knows no RollupJobs: install rollup-operator's CRDs (crds/)"
        )
    if error.status == 403:
        cure = f"ask for the verb {verb} on rollupjobs.rollup-operator.dev"
        return Failure(Code.FAILED, "Forbidden", f"{error.message}: {cure}")
    if error.status == 401:
        return Failure(Code.FAILED, "Unauthorized", "the API server does not know you: log in again (401 Unauthorized)")
    if isinstance(error, Unreachable):
        return Failure(Code.FAILED, "Unreachable", error.message)
    return Failure(Code.FAILED, error.reason, error.message)
