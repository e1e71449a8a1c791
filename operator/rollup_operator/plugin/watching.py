"""`get --watch`: the jobs as they are, and each change until Ctrl-C.

A terminal shows one table that is written again, so that ages and progress move; elsewhere each change is a line.
"""

import asyncio
import contextlib
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NoReturn, Protocol

from rollup_operator.kube.client import Body, KubeError
from rollup_operator.plugin import views
from rollup_operator.plugin.cluster import NamespaceClient, failure, name_of
from rollup_operator.plugin.outcome import Chosen, Code, Where
from rollup_operator.plugin.output import Output, live_table
from rollup_operator.plugin.tables import Cell

TURN = 1.0
"""Seconds between two renewals of the table on a terminal."""

_Jobs = dict[tuple[str, str], Body]


class _Shows(Protocol):
    def __call__(self, jobs: _Jobs, changed: tuple[str, str] | None) -> None:
        """Show the jobs; `changed`: the one that did, None: all may have."""


async def watch(where: Where, output: Output, chosen: Chosen) -> Code:
    """Show the chosen jobs and what happens to them, until an interrupt. Raises Failure."""
    names = None if chosen.names is None else {name_of(word) for word in chosen.names}
    wide = output.format == "wide"
    jobs: _Jobs = {}
    with _showing(output, wide=wide, namespaces=chosen.everywhere) as show:
        async with NamespaceClient.open(where) as cluster:
            turning = asyncio.create_task(_turn(jobs, show)) if sys.stdout.isatty() else None
            try:
                await _follow(cluster, chosen, names, jobs, show)
            except asyncio.CancelledError:
                return Code.INTERRUPTED  # the way in which a watch ends: there is nothing to report
            finally:
                if turning is not None:
                    turning.cancel()


async def _turn(jobs: _Jobs, show: _Shows) -> None:
    while True:
        await asyncio.sleep(TURN)
        show(jobs, None)


async def _follow(
    cluster: NamespaceClient, chosen: Chosen, names: set[str] | None, jobs: _Jobs, show: _Shows
) -> NoReturn:
    troubles = 0
    while True:
        found, since = await cluster.listed(chosen)
        before = dict(jobs)
        jobs.clear()
        jobs |= {_key(body): body for body in found if names is None or body["metadata"]["name"] in names}
        if troubles == 0:
            show(jobs, None)
        else:
            for key in [key for key, body in jobs.items() if body != before.get(key)]:
                show(jobs, key)
        try:
            async with contextlib.aclosing(cluster.follow_all(chosen, since)) as changes:
                async for type_, body in changes:
                    key = _key(body)
                    if names is not None and key[1] not in names:
                        continue
                    if type_ == "DELETED":
                        jobs.pop(key, None)
                    else:
                        jobs[key] = body
                    show(jobs, key)
        except KubeError as e:
            if e.status in (401, 403):
                raise failure(e, "watch") from e
        troubles += 1
        await asyncio.sleep(random.uniform(0.5, 1.0))  # noqa: S311  # jitter


@contextlib.contextmanager
def _showing(output: Output, *, wide: bool, namespaces: bool) -> Iterator[_Shows]:
    heads = views.heads(wide=wide, namespaces=namespaces)
    spare = views.WIDE_SPARE if wide else views.SPARE

    def rows(bodies: list[Body]) -> list[list[Cell]]:
        now = datetime.now(UTC)
        return [views.row(body, now, wide=wide, namespaces=namespaces) for body in bodies]

    if sys.stdout.isatty():
        with live_table() as write:
            yield lambda jobs, _: write(heads, rows([jobs[key] for key in sorted(jobs)]), spare)
        return
    lines = output.growing_table(heads)

    def show(jobs: _Jobs, changed: tuple[str, str] | None) -> None:
        keys = sorted(jobs) if changed is None else [changed] if changed in jobs else []
        lines(rows([jobs[key] for key in keys]))

    yield show


def _key(body: Body) -> tuple[str, str]:
    return body["metadata"]["namespace"], body["metadata"]["name"]
