"""The command behind `make simulate` and `make simulate-mutations`."""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator

from simulation import runner

CHUNK = 25
"""Seeds that a worker takes at a time."""

REPORT_SECONDS = 10.0


def main() -> int:
    """Return 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="simulation", description="Run the operator under random schedules.")
    parser.add_argument("--seed", type=int, help="tell the story of this one")
    parser.add_argument("--seeds", type=int, default=1000, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--workers", type=int, default=1, help="how many processes run them")
    parser.add_argument("--keep-going", action="store_true", help="go on after the first that breaks a promise")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _tell(arguments.seed)
    return _run_many(range(arguments.first, arguments.first + arguments.seeds), arguments.workers, arguments.keep_going)


def _tell(seed: int) -> int:
    with runner.undisturbed():
        lines = runner.story(seed)
    print("\n".join(lines))
    return int(lines[-1].startswith("broken"))


def _run_many(seeds: range, workers: int, keep_going: bool) -> int:
    began = reported = time.monotonic()
    broken: list[int] = []
    done = 0
    for seed, problem in _results(seeds, workers):
        done += 1
        if problem is not None:
            broken.append(seed)
            print(f"seed {seed}: {problem}", flush=True)
            if not keep_going:
                break
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            print(f"{done} schedules, {_pace(done, began)} a minute, {len(broken)} broken", flush=True)
    print(f"{done} schedules from seed {seeds.start} on, {_pace(done, began)} a minute, {len(broken)} broken")
    if broken:
        print(f"the story of the first: make simulate SEED={broken[0]}")
    return int(bool(broken))


def _pace(done: int, began: float) -> int:
    return round(done / max(1e-9, time.monotonic() - began) * 60)


def _results(seeds: range, workers: int) -> Iterator[tuple[int, str | None]]:
    chunks = (seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK))
    if workers <= 1:
        for chunk in chunks:
            with runner.undisturbed():
                for seed in chunk:
                    yield seed, runner.run(seed)
        return
    with multiprocessing.Pool(workers) as pool:
        for results in pool.imap(_chunk, chunks):
            yield from results


def _chunk(seeds: range) -> list[tuple[int, str | None]]:
    with runner.undisturbed():
        return [(seed, runner.run(seed)) for seed in seeds]


if __name__ == "__main__":
    sys.exit(main())
