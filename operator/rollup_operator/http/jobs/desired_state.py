"""Finds a job and writes its desired state. Input: namespace, job id, state. Output: the job as the write left it.

The write is a server-side apply of `spec.desiredState` alone, with the uid of the job that was looked up: it can
neither create a job nor hit another one that took its name. A write that may have been carried out is never repeated,
because somebody else may have started the job since.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from rollup_operator.concurrency.background import side_by_side
from rollup_operator.concurrency.portions import in_portions, sorted_by
from rollup_operator.http.jobs.shared_reads import SharedReads
from rollup_operator.http.ports import Jobs, Kubernetes, Reads
from rollup_operator.http.protocol import errors, state_errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.kube.client import Conflict, KubeError, NotFound, Unreachable
from rollup_operator.kube.job_writes import ask
from rollup_operator.kube.paths import jobs_path
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.names import is_namespace
from rollup_operator.sharing.shares import Shares

FIELD_MANAGER = "rollup-api"
"""Owner of spec.desiredState in metadata.managedFields after a write of the endpoint."""

WRITES_AT_ONCE = 16
"""Writes at a time; more wait. This leaves connections of the API client to the rest of the operator."""

FRESH_SECONDS = 5.0
"""For this long after a job's write, the next one of the same job need not queue behind other jobs: of many clients
that request the same at once, the last are not to learn of it after everybody else."""

WRITE_SECONDS = 20.0
"""After this long without an answer of the API server, from its turn on, the outcome of a write is unknown."""

LATE_SECONDS = 2.0
"""A write that waited longer for its turn is made only if nobody has requested the opposite meanwhile."""

READ_SECONDS = 5.0
"""How long one read of the API server may take, from its turn on."""

SHARED_AT_ONCE = 32
"""Shared reads of jobs at a time; more wait, each for all callers who want the same. They are divided among namespaces:
one that is alone may have half."""

LIST_SECONDS = 15.0
"""How long a list of one namespace's jobs at the API server may take, from its turn on."""

LISTS_AT_ONCE = 8
"""Shared lists at a time, divided likewise: while the API server is slow, each holds one of its connections."""

READS_AT_ONCE = 8
"""Reads at a time, by one call on all jobs, of jobs that a list has shown and the index lacks."""

ATTEMPTS = 4
"""How often a call starts over when the job is deleted and created anew meanwhile."""


class Listed(NamedTuple):
    """A job as a list of metadata shows it."""

    name: str
    version: int


class TurnTooLate(Conflict):
    """A write was not made, because its turn came late and the job, which still exists, has changed meanwhile."""

    def __init__(self, newest: JobView) -> None:
        super().__init__(409, "Conflict", f"generation {newest.generation} asks for {newest.desired} meanwhile")
        self.newest = newest


class DesiredStates:
    """The jobs of the watched namespaces (all, if `namespaces` is empty), to find and to write."""

    def __init__(
        self,
        jobs: Jobs,
        client: Kubernetes,
        reads: Reads,
        *,
        namespaces: tuple[str, ...] = (),
        found: Callable[[str, JobView | None], None] = lambda *_: None,
    ) -> None:
        """`client` writes, and `reads` reads. `found` is called with each job that was read for `now`, and its uid."""
        self._jobs, self._found = jobs, found
        self._client, self._reads = client, reads
        turns, lists = Shares(SHARED_AT_ONCE), Shares(LISTS_AT_ONCE)
        self._shared_reads = SharedReads(self._read, lambda job: job.uid, lambda job: turns.taking(job.namespace))
        self._shared_lists = SharedReads(self._list, lambda namespace: namespace, lists.taking)
        self._namespaces = namespaces
        self._turns = asyncio.Semaphore(WRITES_AT_ONCE)
        self._next_turns = asyncio.Semaphore(WRITES_AT_ONCE)
        self._writes: set[asyncio.Task[JobView]] = set()
        self._unsent: dict[str, tuple[DesiredState, asyncio.Task[JobView]]] = {}
        self._last: dict[str, asyncio.Task[JobView]] = {}

    def refuse_namesakes(self, job: JobView) -> None:
        """Raise ApiError 500 if this job's id could mean several living jobs."""
        living = [one for one in self._jobs.meant(job.namespace, job.job_id) if not one.deleting]
        if len(living) > 1:
            raise state_errors.ambiguous(job.job_id, len(living))

    def covers(self, namespace: str) -> bool:
        """Whether the namespace's jobs are watched, and so can be created; it may not exist."""
        if self._namespaces and namespace not in self._namespaces:
            return False
        return is_namespace(namespace)

    async def in_namespace(self, namespace: str) -> list[JobView]:
        """Return all jobs in order of their id. Raises ApiError 503 while the list is not complete."""
        return await in_portions(sorted_by(self.unsorted(namespace), lambda job: (job.job_id, job.name)))

    def unsorted(self, namespace: str) -> Iterable[JobView]:
        """Return all jobs in the order in which they came. Raises ApiError 503 while the list is not complete."""
        if not self._jobs.synced:
            raise errors.unavailable("The list of jobs has not been read yet; nothing was changed. Try again shortly")
        return self._jobs.in_namespace(namespace)

    async def missing_from(self, known: Iterable[JobView], namespace: str) -> list[JobView]:
        """Return the jobs of the namespace that the API server has and `known` lacks, in any order.

        Its watch may lag behind a job that was created a moment ago. Calls at the same time share a list.
        Raises ApiError 503 when the API server does not answer.
        """
        if not self.covers(namespace):
            return []
        try:
            listed = await self.listed(namespace)
        except (KubeError, TimeoutError) as e:
            raise _silent(e) from e
        uids = {job.uid for job in known}
        return await self.read_all((namespace, one.name) for uid, one in listed.items() if uid not in uids)

    async def listed(self, namespace: str) -> Mapping[str, Listed]:
        """Return the jobs that the API server has in the namespace, by uid. Calls at the same time share a list.

        Raises KubeError, TimeoutError.
        """
        return await self._shared_lists.read(namespace)

    async def read_all(self, names: Iterable[tuple[str, str]]) -> list[JobView]:
        """Read the existing jobs of these namespaces and names, some at a time, in any order.

        Raises ApiError 503 when the API server does not answer.
        """
        left = iter(names)
        found: list[JobView] = []

        async def read() -> None:
            for namespace, name in left:
                job = await self.read(namespace, name)
                if job is not None:
                    found.append(job)

        async with side_by_side() as group:
            for _ in range(READS_AT_ONCE):
                group.create_task(read())
        return found

    async def now(self, job: JobView, seconds: float | None = READ_SECONDS) -> JobView | None:
        """Read the job from the API server; None: it is gone. Raises KubeError, TimeoutError.

        `seconds` is how long to wait, for the read's turn too. None: for as long as that takes, then READ_SECONDS.
        Callers who read the same job at the same time share a read.
        """
        async with asyncio.timeout(seconds):
            return await self._shared_reads.read(job)

    async def _read(self, job: JobView) -> JobView | None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                body: JobView | None = JobView.of(await self._reads.get(jobs_path(job.namespace, job.name)), job)
        except NotFound:
            body = None
        found = body if body is not None and body.uid == job.uid else None
        self._found(job.uid, found)
        return found

    async def _list(self, namespace: str) -> Mapping[str, Listed]:
        """Return the jobs of the namespace by uid."""
        listed: dict[str, Listed] = {}
        async with asyncio.timeout(LIST_SECONDS):
            async for page in self._reads.pages(jobs_path(namespace), metadata_only=True):
                metas = [item["metadata"] for item in page["items"]]
                listed |= {meta["uid"]: Listed(meta["name"], int(meta["resourceVersion"])) for meta in metas}
        return listed

    async def write(self, job: JobView, state: DesiredState) -> JobView:
        """Request `state` of this very job (its uid); durable once this returns.

        Raises Conflict if the job was replaced, TurnTooLate if it must be read again, ApiError for anything else that
        prevents the write. The write continues when the caller is cancelled: the request of a client that hangs up
        is not lost. Callers that request the same of the same job while its write waits for its turn share that
        write.
        """
        asked, task = self._unsent.get(job.uid, (None, None))
        if task is None or asked is not state:
            task = asyncio.create_task(self._in_turn(job, state, self._last.get(job.uid)))
            self._unsent[job.uid] = (state, task)
            self._last[job.uid] = task
            self._writes.add(task)
            task.add_done_callback(self._written)
        return await asyncio.shield(task)

    async def replaced(self, job: JobView) -> JobView | None:
        """After a Conflict: return the job that has this job's id now. Raises ApiError 503 if that is unknown."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                body = JobView.of(await self._reads.get(jobs_path(job.namespace, job.name)))
        except NotFound:
            body = None
        except (KubeError, TimeoutError) as e:
            raise _silent(e) from e
        if body is not None and body.job_id == job.job_id:
            return body
        known = self._jobs.find(job.namespace, job.job_id)
        return known if known is not None and known.uid != job.uid else None

    async def settle(self) -> None:
        """Wait for current writes, whose clients may be gone."""
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def read(self, namespace: str, name: str) -> JobView | None:
        """Return the job of that resource name from the API server; None: there is none, or it is not watched.

        Raises ApiError 503 when the API server does not answer.
        """
        if not self.covers(namespace):
            return None
        try:
            async with asyncio.timeout(READ_SECONDS):
                return JobView.of(await self._reads.get(jobs_path(namespace, name)))
        except NotFound:
            return None
        except (KubeError, TimeoutError) as e:
            raise _silent(e) from e

    async def _in_turn(self, job: JobView, state: DesiredState, before: asyncio.Task[JobView] | None) -> JobView:
        """Write once there is a turn, and after `before`, the job's previous write.

        So the writes of one job keep their order. Writes that come during another one, or soon after it, have turns of
        their own and need not queue behind all other jobs. Raises TurnTooLate if the turn came so late that somebody
        else has requested something else meanwhile: a caller who still waits reads again, and nobody is overruled.
        """
        asked = asyncio.get_running_loop().time()
        if before is not None:
            await asyncio.wait({before})
        async with self._turns if before is None else self._next_turns:
            if asyncio.get_running_loop().time() - asked > LATE_SECONDS:
                self._refuse_late(job, state)
            return await self._send(job, state)

    def _refuse_late(self, job: JobView, state: DesiredState) -> None:
        known = self._jobs.find(job.namespace, job.job_id)
        if known is None or known.uid != job.uid or known.generation <= job.generation:
            return
        if known.desired is not state:
            if self._unsent.get(job.uid, (state, None))[1] is asyncio.current_task():
                del self._unsent[job.uid]
            self._forget(job.uid, asyncio.current_task())
            raise TurnTooLate(known)

    async def _send(self, job: JobView, state: DesiredState) -> JobView:
        # Callers from here on may have seen the change of this write, and need a later one.
        if self._unsent.get(job.uid, (state, None))[1] is asyncio.current_task():
            del self._unsent[job.uid]
        try:
            return await self._write(job, state)
        finally:
            asyncio.get_running_loop().call_later(FRESH_SECONDS, self._forget, job.uid, asyncio.current_task())

    async def _write(self, job: JobView, state: DesiredState) -> JobView:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                answer = await ask(self._client, job, state, manager=FIELD_MANAGER)
        except Conflict:
            raise
        except Unreachable as e:
            if e.sent:
                raise state_errors.outcome_unknown(job.job_id, state, errors.said(e)) from e
            raise _silent(e) from e
        except KubeError as e:
            if e.status == 429:
                raise errors.unavailable(f"The API server is overloaded; nothing was changed: {errors.said(e)}") from e
            if e.status >= 500:
                raise state_errors.outcome_unknown(job.job_id, state, errors.said(e)) from e
            raise state_errors.update_failed(job.job_id, state, errors.said(e)) from e
        except TimeoutError as e:
            why = f"no answer from the API server within {WRITE_SECONDS:g}s"
            raise state_errors.outcome_unknown(job.job_id, state, why) from e
        # Of many who ask for the same, all but the first change nothing: let them hold the body that is known.
        written, known = JobView.of(answer, job), self._jobs.find(job.namespace, job.job_id)
        return known if known is not None and known == written else written

    def _forget(self, uid: str, write: asyncio.Task[JobView] | None) -> None:
        if self._last.get(uid) is write:
            del self._last[uid]

    def _written(self, task: asyncio.Task[JobView]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone; asyncio would log that nobody took the error


def _silent(error: KubeError | TimeoutError) -> ApiError:
    refused = isinstance(error, KubeError) and error.status == 403
    what = "The API server does not let the operator read it" if refused else "The API server does not answer"
    return errors.unavailable(f"{what}; nothing was changed: {errors.said(error)}")
