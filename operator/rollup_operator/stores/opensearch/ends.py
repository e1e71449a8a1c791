"""Waits for the ends of requests whose answers were lost, with one question at a time for all who wait.

    verification of job a ──┐
    verification of job b ──┼── over ──▶ the task list, read again and again ──▶ those that it lacks are over
    verification of job c ──┘

While a cluster does not answer, ten thousand jobs may wait for it: each asking for itself would keep the process busy.
"""

import asyncio
from contextlib import suppress
from functools import partial

import structlog

from rollup_operator.concurrency.background import keep_running
from rollup_operator.stores.errors import StoreError
from rollup_operator.stores.opensearch import quiet
from rollup_operator.stores.opensearch.transport.client import Cluster

log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before a cluster that does not answer is asked again."""

_SECONDS = 0.1
"""From one read of the task list to the next."""


class Ends:
    """The waits at one cluster. All methods belong to one event loop."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._waiting: dict[asyncio.Future[None], tuple[str, float]] = {}
        """Each with the id that it is about, and from when on a list of tasks counts, by the event loop's clock."""
        self._task: asyncio.Task[None] | None = None
        self._another = asyncio.Event()

    async def over(self, opaque_id: str, doing: str) -> None:
        """Wait until nothing is in progress under an id, however long the cluster cannot be asked, or is closed."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        self._waiting[over] = opaque_id, loop.time() + quiet.ON_ITS_WAY
        self._another.set()
        if self._task is None:
            self._task = keep_running("asking for the ends of lost requests", partial(self._ask, doing))
        try:
            await over
        finally:
            del self._waiting[over]
            if not self._waiting and self._task is not None:
                self._task.cancel()
                self._task = None  # whoever comes before it has ended has another one

    async def _ask(self, doing: str) -> None:
        """Ask for as long as anybody waits."""
        pause, clock = FIRST_PAUSE, asyncio.get_running_loop().time
        while self._waiting:
            asked_at, there = clock(), frozenset[str]()
            self._another.clear()
            if not self._cluster.is_closed:
                try:
                    there = frozenset(await quiet.under_way(self._cluster, doing))
                except Exception as e:  # else what nobody foresaw would count as the end
                    if not isinstance(e, StoreError):
                        log.exception("the end of a request is not known yet")
                    await asyncio.sleep(FIRST_PAUSE)
                    with suppress(TimeoutError):  # a cluster that answers again lets no newcomer wait
                        await asyncio.wait_for(self._another.wait(), pause - FIRST_PAUSE)
                    pause = min(2 * pause, LONGEST_PAUSE)
                    continue
            pause = FIRST_PAUSE
            for over, (opaque_id, since) in self._waiting.items():
                if not over.done() and (self._cluster.is_closed or (asked_at >= since and opaque_id not in there)):
                    over.set_result(None)
            await asyncio.sleep(_SECONDS)
