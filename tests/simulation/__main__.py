"""The command behind `make simulate` and `make simulate-mutations`."""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator
from functools import partial

from simulation import runner
from simulation.mutations import MUTATIONS, first_missed

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
    parser.add_argument("--mutations", nargs="?", const="", help="take out each guard whose name has this in it")
    arguments = parser.parse_args()
    if arguments.mutations is not None:
        seeds = range(arguments.first, arguments.first + arguments.seeds)
        return _run_mutations(arguments.mutations, seeds, arguments.workers)
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


def _run_mutations(which: str, seeds: range, workers: int) -> int:
    """Print a table: which guard is missed after how many schedules."""
    titles = [title for title in MUTATIONS if which in title]
    missed = 0
    print(f"| taken out: the product does not | found after, of {len(seeds)} | by |\n| --- | --- | --- |")
    with multiprocessing.Pool(max(1, workers), maxtasksperchild=1) as pool:
        for title, count, problem in pool.imap_unordered(partial(first_missed, seeds=seeds), titles, chunksize=1):
            missed += count is not None
            found = "not found" if count is None else str(count)
            print(f"| {title}: {MUTATIONS[title].without} | {found} | {problem.partition(': ')[2][:110]} |", flush=True)
    print(f"{missed} of {len(titles)} found")
    return int(missed < len(titles))


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
