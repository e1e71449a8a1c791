"""Background tasks: each failure is logged with what follows, and what must go on goes on."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from rollup_operator.concurrency import background
from rollup_operator.concurrency.background import in_order, keep_running, side_by_side, spawn
from rollup_operator.shutdown import Ending

Work = Callable[[], Coroutine[Any, Any, None]]
PACKAGE = Path(background.__file__).parents[1]

AWAITED = {
    "app.py": "kopf's own task, which `run` awaits",
    "http/api/verify.py": "a verification, which its caller awaits",
    "http/jobs/desired_state.py": "writes, which their callers await",
    "http/jobs/shared_reads.py": "reads, which their callers await",
    "indexer/run.py": "a step of the run, which awaits it",
    "kube/answer_cache.py": "questions, which their callers await",
    "lifecycle/jobs/actor.py": "turns, which log what they raise and are tried again",
    "lifecycle/jobs/run_task.py": "runs, whose end the actor takes in",
    "lifecycle/jobs/verify_task.py": "verifications by schedule, whose end the actor takes in",
    "observability/figures.py": "a scrape, which its callers await",
    "observability/volume.py": "a question to the file system, which scrapes await",
    "plugin/changing.py": "the line that moves while a command waits: without it the command goes on",
    "plugin/forward.py": "the port-forward, which the command awaits at its end: until then calls say that it is gone",
    "plugin/watching.py": "a list that is shown again each second: without it, changes are still shown",
    "stores/duckdb/session.py": "the page read ahead, which the run awaits",
    "stores/opensearch/source/pages.py": "pages, which the run awaits",
    "stores/opensearch/search.py": "answers that are being read, which the search awaits",
    "stores/opensearch/session.py": "bulks, which the run awaits",
    "stores/opensearch/store.py": "the wait for a lost search of a verification, which awaits it",
    "stores/opensearch/transport/wire.py": "an exchange, which its caller awaits",
}
"""Modules that start tasks of their own, and who takes their errors."""


async def fail(text: str = "unforeseen") -> None:
    raise KeyError(text)


async def ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait({task})
    await asyncio.sleep(0)  # its callbacks


def test_no_module_starts_a_task_that_could_fail_in_silence() -> None:
    start = re.compile(r"(asyncio|loop|get_running_loop\(\))\.(create_task|ensure_future)\(")
    found = {str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py") if start.search(p.read_text())}
    assert found - {"concurrency/background.py"} == AWAITED.keys(), (
        "start it with background.spawn, or name who takes its errors"
    )


async def test_a_failure_is_logged_with_what_follows() -> None:
    with capture_logs() as logs:
        await ended(spawn("counting", fail(), follows="nobody counts"))
    [line] = logs
    assert (line["event"], line["log_level"]) == ("background task failed", "error")
    assert (line["task"], line["follows"]) == ("counting", "nobody counts")
    assert isinstance(line["exc_info"], KeyError)


async def test_an_end_and_a_cancellation_are_no_failures() -> None:
    with capture_logs() as logs:
        await ended(spawn("ending", asyncio.sleep(0), follows="nothing"))
        endless = spawn("endless", asyncio.Event().wait(), follows="nothing")
        endless.cancel()
        await asyncio.wait({endless})
    assert logs == []


async def test_what_must_go_on_begins_again_until_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.001)
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 4:
            await fail(str(begun))

    with capture_logs() as logs:
        await asyncio.wait_for(keep_running("counting", work), 5)
    assert begun == 4
    assert [line["task"] for line in logs] == ["counting"] * 3
    assert all(re.fullmatch(r"it begins again in \d+\.\d s", line["follows"]) for line in logs)


async def test_what_must_go_on_ends_when_it_is_cancelled() -> None:
    failing, begun = keep_running("failing", fail), asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    working = keep_running("working", work)
    with capture_logs():
        await begun.wait()  # the other one rests after its failure by now
    for task in (failing, working):
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()


async def returns() -> None:
    """Do what should not be over."""


@pytest.mark.parametrize(
    ("work", "failure"), [(fail, "electing: KeyError: 'unforeseen'"), (returns, "electing: it returned")]
)
async def test_a_process_ends_when_a_part_that_it_needs_is_over(work: Work, failure: str) -> None:
    ending = Ending()
    with capture_logs() as logs:
        ending.need(spawn("electing", work(), follows="this process ends"))
        await asyncio.wait_for(ending.asked(), 5)
    assert ending.failure == failure
    assert [line["log_level"] for line in logs] == ["error"]


async def test_a_part_that_is_cancelled_ends_nothing() -> None:
    ending = Ending()
    part = spawn("electing", asyncio.Event().wait(), follows="this process ends")
    ending.need(part)
    part.cancel()
    await ended(part)
    assert ending.failure is None


async def test_a_step_of_the_end_that_fails_holds_up_none_after_it() -> None:
    taken = list[str]()

    async def take(step: str) -> None:
        taken.append(step)

    with capture_logs() as logs:
        await in_order(
            ("runs end", lambda: taken.append("runs")),
            ("files are closed", fail),
            ("the lease is released", lambda: take("lease")),
        )
    assert taken == ["runs", "lease"]
    assert [line["step"] for line in logs] == ["files are closed"]
    assert logs[0]["log_level"] == "error"


async def test_tasks_side_by_side_end_with_what_the_first_to_fail_raises() -> None:
    cancelled = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def both() -> None:
        async with side_by_side() as group:
            group.create_task(waits())
            await asyncio.sleep(0)
            group.create_task(fail())

    with pytest.raises(KeyError, match="unforeseen"):
        await both()
    assert cancelled == [True]
