"""Times the callbacks of event loops: nothing of the operator may hold a loop for 50 ms of processor time, or block in
it for 250 ms.

The processor time of its thread times each callback, so other processes do not lengthen it; the time of the garbage
collector is left out. A thread samples what long callbacks do. What a test does itself, in the task that it shares
with its callee, does not count. A callback is blocked while it sleeps or waits in the kernel, not while it waits for a
processor on a busy machine.

As a program, it runs the operator and logs what held its loop as errors: `python -m support.loop_guard run …`.
"""

import ast
import asyncio
import faulthandler
import gc
import json
import linecache
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

PROCESSOR_SECONDS = 0.050
BLOCKED_SECONDS = 0.250

DEEPEST = 30
"""How many frames a report shows at most: a finalizer that runs amid the operator's code may log, which is deep."""

THREAD = "loop guard"
"""The name of the thread that samples."""

_SAMPLE_EVERY = 0.010
_FILE = '  File "'
_OURS = f"{Path('rollup_operator')}/"
_TESTS = str(Path(__file__).resolve().parents[1])


class Frame(NamedTuple):
    """A function that runs."""

    file: str
    line: int
    function: str

    @property
    def text(self) -> str:
        """As a traceback shows it."""
        code = linecache.getline(self.file, self.line).strip()
        return f'{_FILE}{self.file}", line {self.line}, in {self.function}\n' + (f"    {code}\n" if code else "")


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
    stack: list[str] = field(default_factory=list)


class LoopGuard:
    """Times every callback of every event loop of this process, while `on_guard`."""

    def __init__(self, report: Callable[[str], None]) -> None:
        """`report` is called with each callback that held its loop, in that loop's thread."""
        self._report = report
        self._turns: dict[int, _Turn] = {}
        self._collecting = 0.0

    @contextmanager
    def on_guard(self) -> Iterator[None]:
        """Time callbacks while the block runs."""
        run: Any = asyncio.Handle._run
        turns = self._turns

        def timed_by_guard(handle: asyncio.Handle) -> None:
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
        asyncio.Handle._run = timed_by_guard  # type: ignore[method-assign]
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
            self._report(f"held for {processor * 1000:.0f} ms of processor time, in\n{''.join(turn.stack)}")
        elif (blocked := turn.blocked * _SAMPLE_EVERY) >= BLOCKED_SECONDS:
            self._report(f"blocked for {blocked * 1000:.0f} ms, in\n{''.join(turn.stack)}")

    def _sample(self, end: threading.Event) -> None:
        with tempfile.TemporaryFile(buffering=0) as dump:
            while not end.wait(_SAMPLE_EVERY):
                now = time.monotonic()
                for turn in list(self._turns.values()):
                    if now - turn.began >= 2 * _SAMPLE_EVERY:
                        self._look(turn, _frames_of(turn.thread, dump))

    def _look(self, turn: _Turn, frames: Sequence[Frame]) -> None:
        if not any(frame.function == "timed_by_guard" for frame in frames):
            return  # it has ended, or it is too deep in calls for the dump
        turn.samples += 1
        if is_ours(frames):
            turn.ours += 1
            turn.blocked += _sleeps(turn.native)
            turn.stack = [frame.text for frame in reversed(frames[:DEEPEST])]

    def _collects(self, phase: str, _: dict[str, int]) -> None:
        if (turn := self._turns.get(threading.get_ident())) is None:
            return
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            turn.collected += time.thread_time() - self._collecting


def _frames_of(thread: int, dump: IO[bytes]) -> list[Frame]:
    """What a thread runs, from the innermost frame outwards; `dump` is a file to write into.

    Frame objects of another thread that runs on are dangerous: CPython 3.11 crashes now and then when they are walked
    (https://github.com/python/cpython/issues/99110), and what they held is freed in the wrong thread. So the
    interpreter writes down what runs, and makes no objects for that.
    """
    dump.seek(0)
    dump.truncate()
    faulthandler.dump_traceback(dump)
    dump.seek(0)
    frames, inside = [], False
    for line in dump.read().decode(errors="replace").splitlines():
        if not line.startswith(" "):
            inside = f"hread 0x{thread:016x} " in line  # Thread, or Current thread
        elif inside and line.startswith(_FILE):
            file, _, rest = line.removeprefix(_FILE).rpartition('", line ')
            number, _, function = rest.partition(" in ")
            with suppress(ValueError):  # a line that is not known
                frames.append(Frame(file, int(number), function))
    return frames


def is_ours(frames: Sequence[Frame]) -> bool:
    """Whether the operator's code runs there, and neither a test that it calls nor since a test called a function."""
    ours, test = None, False
    for at in frames:
        if _OURS in at.file:
            ours = at
        elif at.file.startswith(_TESTS):
            if ours is None:
                return False
            test = True
    return ours is not None and (not test or (ours.line, ours.function) in _lines_of_coroutines(ours.file))


@cache
def _lines_of_coroutines(file: str) -> frozenset[tuple[int, str]]:
    """Each line that stands in a coroutine or an asynchronous generator, with its name."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return frozenset(
        (line, node.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
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
