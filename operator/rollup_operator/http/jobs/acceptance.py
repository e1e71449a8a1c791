"""Waits until the operator has observed what a call has written, so that a read after the call shows it.

```
  the write ──▶ generation G ──▶ watch ──▶ the job's actor ──▶ status.observedGeneration ≥ G ──▶ watch ──▶ the answer
                     └───────────────────── nobody answers: ACCEPT_SECONDS ────────────────────▶ the answer
```

An actor publishes G together with the state that it decided on. So whoever sees G sees `started` after a start, and
`stopping` or `stopped` after a stop. The write stands, whatever the outcome of the wait.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rollup_operator.http.ports import Jobs
from rollup_operator.model.job_view import JobView
from rollup_operator.model.stop_verdict import StopProgress

ACCEPT_SECONDS = 1.0
"""How long to wait if there is no leader."""

LONGEST_SECONDS = 5.0
"""How long to wait at most if the leader is busy: under a storm of calls the last are late, not lost."""


class Acceptances:
    """Waits of one process. A wait costs one future, one timer and one subscription."""

    def __init__(
        self, jobs: Jobs, seconds: float = ACCEPT_SECONDS, *, answering: Callable[[], bool] = lambda: False
    ) -> None:
        """`answering` says whether a leader exists, here or elsewhere, and was heard of just now."""
        self._jobs, self._seconds, self._answering = jobs, seconds, answering
        self._last = float("-inf")

    def noted(self) -> None:
        """Note that the operator has just answered a wait."""
        self._last = asyncio.get_running_loop().time()

    def until(self, recorded: float) -> float:
        """Return when to stop waiting for a write of that time, by the event loop's clock. It may grow."""
        last = asyncio.get_running_loop().time() if self._answering() else max(recorded, self._last)
        return min(last + self._seconds, recorded + max(self._seconds, LONGEST_SECONDS))

    def of(self, uid: str) -> "Acceptance":
        """Prepare to wait for the write to this job, which is made within the `with` of the returned object."""
        return Acceptance(uid, self, self._jobs)


class Acceptance:
    """The wait of one call. Use within `with`, around the write: a view that overtakes its answer counts."""

    def __init__(self, uid: str, home: Acceptances, jobs: Jobs) -> None:
        self._home, self._jobs = home, jobs
        self._progress = StopProgress(uid)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Self:
        self._unsubscribe = self._jobs.subscribe(self._progress.uid, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unsubscribe()
        del self._unsubscribe  # it refers to this wait
        self._done.cancel()

    async def wait(self, written: JobView) -> None:
        """Return once the operator has observed the write with this answer, or seems not to."""
        loop = asyncio.get_running_loop()
        recorded = loop.time()
        self._progress.written(written)
        self._check()
        while not self._done.done() and (left := self._home.until(recorded) - loop.time()) > 0:
            if (await asyncio.wait({self._done}, timeout=left))[0]:
                self._home.noted()

    def _hear(self, body: JobView | None) -> None:
        self._progress.hear(body)
        self._check()

    def _check(self) -> None:
        if self._progress.accepted and not self._done.done():
            self._done.set_result(None)
