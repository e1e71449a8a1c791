"""Runs schedules: one by its seed, or many, and tells what was found."""

import asyncio
import gc
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import structlog

from simulation.schedule import draw
from simulation.world import Broken, World


def run(seed: int) -> str | None:
    """Run a schedule. Returns what promise was broken; None: all were kept."""
    try:
        return _run(seed, None)
    finally:
        _clean_up()


def _clean_up() -> None:
    """Free what is left of the processes of a schedule, whose coroutines end here; what they log then says nothing."""
    asyncio.set_event_loop(None)  # A coroutine that asks for the thread's loop would have one made that nobody closes.
    with _logs(_drop, 50):
        gc.collect()


def story(seed: int) -> list[str]:
    """Run a schedule once more, and return line by line who did what when; the last line says how it ended."""
    lines: list[str] = []

    def tell(at: float, who: str, what: str) -> None:
        lines.append(f"{at:9.3f} s  {who:<10} {what}")

    schedule = draw(seed)
    lines.append(f"seed {seed}: API server {schedule.api.name}, cluster {schedule.store.name}")
    try:
        problem = _run(seed, tell)
    finally:
        _clean_up()
    lines.append(f"broken: {problem}" if problem else "every promise was kept")
    return lines


def _run(seed: int, tell: Any) -> str | None:
    world = World(draw(seed), tell)
    with _logs_of(world):
        try:
            world.run()
        except Broken as e:
            return str(e)
    return None


@contextmanager
def undisturbed() -> Iterator[None]:
    """Collect garbage between schedules only, and say nothing of the coroutines of processes that were killed."""
    hook = sys.unraisablehook
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a coroutine that was never awaited
            yield
    finally:
        gc.collect()
        gc.enable()
        gc.unfreeze()
        sys.unraisablehook = hook


def _logs_of(world: World) -> AbstractContextManager[None]:
    """Take what the product logs into the story. An error in the log is a broken promise."""

    def take(_logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        replica = next((r for r in world.replicas if r.loop is world.clock.running), None)
        who = replica.name if replica is not None else ""
        text = " ".join([str(event.pop("event")), *(f"{k}={v}" for k, v in event.items())])
        if method in ("error", "exception", "critical"):
            world.fail(f"{who} logs an error: {text}")
        else:
            world.story(who, f"log: {text}")
        raise structlog.DropEvent

    return _logs(take, logging.INFO if world.is_logged else logging.ERROR)


@contextmanager
def _logs(take: Callable[..., str], level: int) -> Iterator[None]:
    before = structlog.get_config()
    wrapper = structlog.make_filtering_bound_logger(level)
    structlog.configure(processors=[_with_error, take], wrapper_class=wrapper)
    try:
        yield
    finally:
        structlog.configure(**before)


def _with_error(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if event.pop("exc_info", None):
        event["error"] = repr(sys.exc_info()[1])
    return event


def _drop(*_: object) -> str:
    raise structlog.DropEvent
