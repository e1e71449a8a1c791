"""Times the callbacks of event loops: nothing of the operator may hold a loop for 50 ms of processor time, or block in
it for 250 ms.

The processor time of its thread times each callback, so other processes do not lengthen it; the time of the garbage
collector is left out. A thread samples what long callbacks do. What a test does itself, in the task that it shares
with its callee, does not count. A callback is blocked while it sleeps or waits in the kernel, not while it waits for a
processor on a busy machine.

As a program, it runs the operator and logs what held its loop as errors: `python -m support.loop_guard run …`.
"""

import asyncio
import gc
import inspect
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

PROCESSOR_SECONDS = 0.050
BLOCKED_SECONDS = 0.250

DEEPEST = 30
"""How many frames a report shows at most: a finalizer that runs amid the operator's code may log, which is deep."""

THREAD = "loop guard"
"""The name of the thread that samples."""

_SAMPLE_EVERY = 0.010
_OURS = f"{Path('rollup_operator')}/"
_TESTS = str(Path(__file__).resolve().parents[1])


@dataclass
class _Turn:
    """A callback that runs."""

    began: float
    thread: int
    native: int
    collected: float = 0.0
    samples: int = 0
    ours: int = 0
    blocked: int = 0
    stack: traceback.StackSummary = field(default_factory=traceback.StackSummary)


class LoopGuard:
    """Times every callback of every event loop of this process, while `on_guard`."""

    def __init__(self, report: Callable[[str], None]) -> None:
        """`report` is called with each callback that held its loop, in that loop's thread."""
        self._report = report
        self._turns: dict[int, _Turn] = {}
        self._collecting = 0.0
        self._timed: CodeType | None = None

    @contextmanager
    def on_guard(self) -> Iterator[None]:
        """Time callbacks while the block runs."""
        run: Any = asyncio.Handle._run
        turns = self._turns

        def timed(handle: asyncio.Handle) -> None:
            thread = threading.get_ident()
            outer = turns.get(thread)
            turn = turns[thread] = _Turn(time.monotonic(), thread, threading.get_native_id())
            processor = time.thread_time()
            try:
                run(handle)
            finally:
                processor = time.thread_time() - processor - turn.collected
                if outer is None:
                    del turns[thread]
                else:
                    turns[thread] = outer
                if processor > PROCESSOR_SECONDS or turn.blocked:
                    self._judge(turn, processor)

        end = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(end,), name=THREAD, daemon=True)
        self._timed = timed.__code__
        asyncio.Handle._run = timed  # type: ignore[method-assign]
        gc.callbacks.append(self._collects)
        sampler.start()
        try:
            yield
        finally:
            asyncio.Handle._run = run  # type: ignore[method-assign]
            gc.callbacks.remove(self._collects)
            end.set()
            sampler.join()

    def _judge(self, turn: _Turn, processor: float) -> None:
        # Sampling needs a processor, too: without samples nothing says whose callback it was.
        if processor > PROCESSOR_SECONDS and turn.samples and turn.ours * 2 >= turn.samples:
            self._report(f"held for {processor * 1000:.0f} ms of processor time, in\n{''.join(turn.stack.format())}")
        elif (blocked := turn.blocked * _SAMPLE_EVERY) >= BLOCKED_SECONDS:
            self._report(f"blocked for {blocked * 1000:.0f} ms, in\n{''.join(turn.stack.format())}")

    def _sample(self, end: threading.Event) -> None:
        while not end.wait(_SAMPLE_EVERY):
            now = time.monotonic()
            for turn in list(self._turns.values()):
                if now - turn.began < 2 * _SAMPLE_EVERY:
                    continue
                frames = _frames_of(turn.thread)
                if self._timed not in {frame.f_code for frame in frames}:
                    continue  # some of them ended amid the walk, so that those further out are missing
                turn.samples += 1
                if is_ours(frames):
                    turn.ours += 1
                    turn.blocked += _sleeps(turn.native)
                    innermost = [(frame, frame.f_lineno) for frame in reversed(frames[:DEEPEST])]
                    turn.stack = traceback.StackSummary.extract(iter(innermost), lookup_lines=False)

    def _collects(self, phase: str, _: dict[str, int]) -> None:
        if (turn := self._turns.get(threading.get_ident())) is None:
            return
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            turn.collected += time.thread_time() - self._collecting


def _frames_of(thread: int) -> list[FrameType]:
    """What a thread runs, from the innermost frame outwards. No collection begins amid that.

    Each step makes an object of a frame, and a collection that begins with it may let other threads run. CPython 3.11
    then goes on with a frame that has ended meanwhile, and crashes. Amid the first step it holds a lock of all threads,
    too: a finalizer that lets others run, as that of a DuckDB connection does, would wait for ever for one that ends
    (https://github.com/python/cpython/issues/106883).
    """
    frames = []
    collects = gc.isenabled()
    gc.disable()
    try:
        at = sys._current_frames().get(thread)
        while at is not None:
            frames.append(at)
            at = at.f_back
    finally:
        if collects:
            gc.enable()
    return frames


def is_ours(frames: list[FrameType]) -> bool:
    """Whether the operator's code runs there, and neither a test that it calls nor since a test called a function."""
    ours, test = None, False
    for at in frames:
        if _OURS in at.f_code.co_filename:
            ours = at
        elif at.f_code.co_filename.startswith(_TESTS):
            if ours is None:
                return False
            test = True
    return ours is not None and (
        not test or bool(ours.f_code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR))
    )


def _sleeps(native: int) -> bool:
    try:
        state = Path(f"/proc/self/task/{native}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state in ("S", "D")


def main() -> None:
    """Run the operator; what holds its loop is an error in its log, which the tests look at."""
    from rollup_operator.cli import main as operator

    def report(text: str) -> None:
        print(json.dumps({"level": "error", "event": "event loop held", "what": text}), file=sys.stderr, flush=True)

    with LoopGuard(report).on_guard():
        operator()


if __name__ == "__main__":
    main()
