"""The commands that change jobs: stop, start, run, delete."""

import asyncio
import time
from collections.abc import Callable, Sequence

from rollup_operator.explaining.goals import Ran
from rollup_operator.explaining.summary import summary
from rollup_operator.explaining.text import about, spoken
from rollup_operator.model.counts import counted
from rollup_operator.model.times import duration
from rollup_operator.plugin.actions import Action
from rollup_operator.plugin.cluster import NamespaceClient
from rollup_operator.plugin.outcome import Chosen, Code, WaitLimit, Where
from rollup_operator.plugin.output import Output, Shows, progress, say
from rollup_operator.plugin.results import Result, code_of

TURN = 0.5
"""Seconds between two renewals of the line that moves."""

SURE = 5
"""Per cent from which on it is said how many rows there are in all."""

PAUSE = 2.0
"""Seconds between two lines, at least, where no line moves."""


async def act(where: Where, output: Output, verb: str, chosen: Chosen, wait: WaitLimit | None) -> Code:
    """Carry out the action on the chosen jobs, and write each result. Returns the exit code."""
    with progress() as (show, moves):
        line = WaitingLine(show, moves=moves)
        action = Action(verb, chosen, wait, heard=line.hear)
        async with NamespaceClient.open(where) as cluster:
            turning = asyncio.create_task(line.turn())
            try:
                results = await action.carry_out(cluster)
            except asyncio.CancelledError:
                results = action.results(cluster.namespace, interrupted=True)
            finally:
                turning.cancel()
    if not results and not output.for_programs:
        output.complain("note", chosen.described(cluster.namespace))
    return _write(output, results)


class WaitingLine:
    """The line that says what a wait is at.

    On a terminal it is one line that moves: between two reports of the operator the remaining time is counted down.
    Elsewhere each report is a line of its own, but for those that another one follows within PAUSE seconds.
    """

    def __init__(self, show: Shows, *, moves: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._show, self._moves, self._clock = show, moves, clock
        self._action: Action | None = None
        self._began = clock()
        self._reported: tuple[object, float] = (None, 0.0)
        """The last report of the one job's progress, and when it came."""
        self._shown: tuple[object, float] = (None, float("-inf"))
        """What the last line was about, and when it was written. Only where lines do not move."""

    def hear(self, action: Action) -> None:
        """Take what has changed."""
        self._action = action
        if len(action.open) == 1:
            report = action.open[0].newest.status.progress
            if report != self._reported[0]:
                self._reported = report, self._clock()
        self.write()

    async def turn(self) -> None:
        """Write the line again and again: what time changes, and what came too soon after the last line."""
        while True:
            await asyncio.sleep(TURN)
            self.write()

    def write(self) -> None:
        """Write the line as of now."""
        if self._action is None or not self._action.open:
            return
        now = self._clock()
        if not self._moves:
            what = subject(self._action)
            if what == self._shown[0] or now - self._shown[1] < PAUSE:
                return
            self._shown = what, now
        self._show(*waiting(self._action, now - self._reported[1], now - self._began))


def _write(output: Output, results: Sequence[Result]) -> Code:
    code = code_of(results)
    if output.for_programs:
        output.document({"command": output.command, "exitCode": code, "jobs": [r.document() for r in results]})
        return code
    for result in results:
        name = f"rollupjob/{result.name}"
        if result.code is Code.DONE:
            say(f"{name} {result.message}", indent=2)
        else:
            output.complain("error", f"{name}: {result.message}")
        if result.warning:
            output.complain("warning", f"{name}: {result.warning}")
    return code


def subject(action: Action) -> object:
    """Return what a wait is at: what changes with it is worth a line."""
    if len(action.open) != 1:
        return len(action.open)
    newest = action.open[0].newest
    return summary(newest).text, newest.status.progress


def waiting(action: Action, since_report: float, since_begin: float) -> tuple[str, float | None]:
    """Describe the current wait, with its percentage if there is one."""
    goals = action.open
    limit = action.wait.seconds if action.wait is not None else None
    head = "waiting" if limit is None else f"waiting up to {duration(limit)}"
    if len(goals) != 1:
        done = len(action.goals) - len(goals)
        text = f"{head} for {counted(len(goals), 'rollup job')} {goals[0].aim}, {done:,} done"
        return text, 100 * done / len(action.goals)
    goal, newest = goals[0], goals[0].newest
    report = newest.status.progress
    if not isinstance(goal, Ran) or report is None:
        after = f", {duration(since_begin)} so far" if since_begin >= 1 else ""
        behind = newest.status.observed_generation < newest.generation
        state = "not seen by the operator yet" if behind else f"now {summary(newest).text}"
        return f"{head} for {newest.name} {goal.aim}, {state}{after}", None
    parts = [newest.name, f"{report.percent} %"]
    if rows := goal.rows:
        whole = f" of ~{about(rows * 100 // report.percent):,}" if report.percent >= SURE else ""
        parts.append(f"{rows:,}{whole} rows")
    if report.remaining_seconds is not None:
        left = report.remaining_seconds - since_report
        parts.append(f"about {spoken(left)} left" if left >= 1 else "almost done")
    return "  ".join(parts), report.percent
