"""Waits until goals are reached, by watching; at the deadline one read of each open job decides.

A watch that ends or breaks begins anew after the jobs were read, so nothing that happens meanwhile is missed.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rollup_operator.explaining.goals import End, Goal
from rollup_operator.kube.client import KubeError, NotFound
from rollup_operator.kube.paths import jobs_path
from rollup_operator.model.job_view import JobView
from rollup_operator.plugin.cluster import NamespaceClient, failure

ALONE = 16
"""Up to this number, each job has its own watch, which needs rights on it only; more share one watch of all."""

LAST_READ = 5.0
"""Seconds that the last read may take."""


@dataclass
class _Scope:
    """The jobs of one watch: one job or, without a name, all."""

    name: str | None
    goals: dict[str, Goal]
    """By the job's name."""

    @property
    def open(self) -> list[Goal]:
        return [goal for goal in self.goals.values() if goal.end is End.PENDING]


async def settle(
    cluster: NamespaceClient, goals: Sequence[Goal], deadline: float | None, heard: Callable[[], None] = lambda: None
) -> None:
    """Return when every goal has ended, or at `deadline` by the event loop's clock: what is PENDING then timed out.

    Without a deadline the wait ends with the last goal. `heard` is called after each change.
    """
    pending = {goal.newest.name: goal for goal in goals if goal.end is End.PENDING}
    if not pending:
        return
    scopes = [_Scope(name, {name: goal}) for name, goal in pending.items()]
    if len(pending) > ALONE:
        scopes = [_Scope(None, pending)]
    try:
        async with asyncio.timeout_at(deadline), asyncio.TaskGroup() as group:
            for scope in scopes:
                group.create_task(_follow(cluster, scope, heard))
    except TimeoutError:
        # Where the API server does not answer, what was seen last stands.
        with contextlib.suppress(TimeoutError, KubeError):
            async with asyncio.timeout(LAST_READ):
                await asyncio.gather(*(_read(cluster, scope) for scope in scopes if scope.open))


async def _follow(cluster: NamespaceClient, scope: _Scope, heard: Callable[[], None]) -> None:
    since = str(min(goal.newest.version for goal in scope.open))
    troubles = 0
    while True:
        try:
            if troubles:
                await asyncio.sleep(random.uniform(0.5, 1.0) * min(5.0, 0.1 * 2 ** min(troubles, 6)))  # noqa: S311  # jitter
                since = await _read(cluster, scope)
                heard()
            if not scope.open:
                return
            async with contextlib.aclosing(cluster.follow(scope.name, since)) as changes:
                async for type_, body in changes:
                    troubles = 0
                    _tell(scope, body["metadata"]["name"], None if type_ == "DELETED" else JobView.of(body))
                    heard()
                    if not scope.open:
                        return
        except KubeError as e:
            if e.status in (401, 403):
                for goal in scope.open:
                    goal.fail(f"the request stands, but the plugin cannot wait for it: {failure(e, 'watch').message}")
                return
        troubles += 1


async def _read(cluster: NamespaceClient, scope: _Scope) -> str:
    """Read the open jobs once. Returns the version from which to watch on. Raises KubeError."""
    if scope.name is not None:
        try:
            body = await cluster.kube.get(jobs_path(cluster.namespace, scope.name))
        except NotFound:
            _tell(scope, scope.name, None)
            return ""
        _tell(scope, scope.name, JobView.of(body))
        return str(body["metadata"]["resourceVersion"])
    version, seen = "", set()
    async for page in cluster.kube.pages(jobs_path(cluster.namespace)):
        version = page["metadata"]["resourceVersion"]
        for body in page["items"]:
            seen.add(body["metadata"]["name"])
            _tell(scope, body["metadata"]["name"], JobView.of(body))
    for name in scope.goals.keys() - seen:
        _tell(scope, name, None)
    return version


def _tell(scope: _Scope, name: str, body: JobView | None) -> None:
    if (goal := scope.goals.get(name)) is not None:
        goal.hear(body)
