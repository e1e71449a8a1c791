"""Lists all jobs and stores: finds what the watches missed, and what a process must know before it leads.

After an expired watch, the following list shows what exists, never what was deleted; a watch that begins too late
misses what came in between.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import structlog

from rollup_operator.concurrency.background import keep_running
from rollup_operator.kube.client import KubeClient, KubeError
from rollup_operator.kube.paths import jobs_path
from rollup_operator.kube.sweep import Sweep
from rollup_operator.lifecycle.jobs.actors import Actors
from rollup_operator.lifecycle.jobs.index import Index
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.stores.book import StoreBook

log = structlog.get_logger(__name__)

FIRST_SWEEP = 5.0
"""Seconds from the first list to the first sweep."""


class Relisting:
    """Lists jobs and stores periodically, and all of both whenever this process comes to lead."""

    def __init__(
        self,
        index: Index,
        actors: Actors,
        *,
        kube: KubeClient,
        books: StoreBook,
        gate: Gate,
        namespaces: Sequence[str] = (),
        went_back: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`went_back` is called, with what showed it, when the API server's revisions are lower than they were."""
        self._sweep = Sweep(kube, jobs_path, _KnownJobs(index, actors), namespaces=namespaces, went_back=went_back)
        self._actors, self._books, self._gate = actors, books, gate
        self._catching_up: asyncio.Task[None] | None = None
        self.problem: str | None = None
        """What was wrong with the last list; None: nothing."""

    async def list_jobs(self) -> bool:
        """List all jobs, take them in, and drop the others, such as those that an earlier attempt has listed.

        Returns whether what is known is up to date; False: etcd was restored. Raises KubeError.
        """
        return await self._sweep.run(whole=True)

    async def sweep(self) -> None:
        """List the jobs and stores that exist. Drop the others, and read those that the watch has not brought.

        Raises KubeError, after both were tried.
        """
        try:
            await self._sweep.run()
        finally:
            await self._books.sweep()

    async def keep_sweeping(self, every: float) -> None:
        """Sweep for as long as the process lives: first when the watches have begun, and soon again after a failure.

        A job that is deleted between this process's list and the watch's is in the first, and no event reports it.
        """
        pause = again = FIRST_SWEEP
        while True:
            await asyncio.sleep(min(every, pause))
            try:
                await self.sweep()
            except KubeError as e:
                self.problem = f"the last list failed: {e}"
                log.warning("sweep failed", error=str(e))
            except Exception as e:  # nor may an unexpected error end it silently
                self.problem = f"the last list could not be taken in: {type(e).__name__}: {e}"
                log.exception("sweep failed")
            else:
                self.problem = None
            again = FIRST_SWEEP if self.problem is None else 2 * again
            pause = every if self.problem is None else again

    def catch_up(self) -> None:
        """Let nothing begin before all stores and jobs are listed.

        The watches may lag. A run that an older body asks for could be of a job that the leader before has shown as
        stopped; and what a run has left in a store must not be settled in the place to which the store led before.
        """
        self._gate.behind = True
        self._catching_up = keep_running("catching up with the jobs", self._catch_up)

    def stand_down(self) -> None:
        """The gate is shut: nothing waits for the list."""
        if self._catching_up is not None:
            self._catching_up.cancel()

    async def _catch_up(self) -> None:
        while True:
            try:
                await self._list_stores()
                if not await self.list_jobs():
                    return  # another operator takes this one's place: nothing begins here any more
                break
            except KubeError as e:
                log.warning("nothing begins yet: stores and jobs cannot be listed", error=str(e))
            except Exception:  # nor may an unexpected error keep all jobs from running for good
                log.exception("nothing begins yet: stores and jobs cannot be listed")
            await asyncio.sleep(random.uniform(0.5, 1.0))  # noqa: S311  # jitter
        self._gate.behind = False
        self._actors.recheck()

    async def _list_stores(self) -> None:
        """List all stores, and take them in. Raises KubeError if a list may succeed later.

        If none can succeed, jobs continue with what is known of the stores: their watch fails, too.
        """
        try:
            await self._books.sweep(whole=True)
        except KubeError as e:
            if e.status not in (403, 404):
                raise
            log.warning("the stores cannot be listed", error=str(e))
        except Exception:  # an unexpected error of one store holds up no jobs of others
            log.exception("the stores cannot be listed")


class _KnownJobs:
    """The jobs as a sweep compares them with a list."""

    def __init__(self, index: Index, actors: Actors) -> None:
        self._index, self._actors = index, actors

    def versions(self, namespace: str | None) -> Mapping[str, int]:
        return self._index.versions(namespace)

    def version(self, uid: str) -> int | None:
        return self._index.version(uid)

    def dead(self) -> Collection[str]:
        return self._index.dead()

    def observe(self, body: Mapping[str, Any]) -> None:
        self._actors.observe(body)

    def gone(self, uid: str) -> None:
        self._actors.gone(uid)
