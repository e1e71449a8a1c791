"""Measure the operator on a real API server: one table on the terminal and one JSON file.

With a peer (--yardstick), both operators run on the same API server and each round of a phase is done with one and then
with the other, in alternating order; read the ratios, not the milliseconds.
"""

import argparse
import asyncio
import gc
import json
import os
import platform
import random
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from bench import endpoint, phases, report, subject
from bench.client import Server
from bench.machine import Machine
from bench.phases import Block
from bench.samples import percentile
from bench.subject import Subject
from local_control_plane import ControlPlane
from support.api import Api

ROOT = Path(__file__).resolve().parents[2]
PHASES = ("memory", "restart", "stop", "endpoint", "storm", "waiters", "waits", "duckdb", "search")
"""In the order in which they run."""
APART = ("duckdb", "search")
"""Phases that are processes of their own, with what they need."""

console = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    console.print(f"bench: {text}", style="dim", markup=False, soft_wrap=True)


class Bench:
    """One run over all phases that are wanted. `result` grows as they end."""

    def __init__(self, options: argparse.Namespace, subjects: Sequence[Subject]) -> None:
        self._options, self._subjects = options, subjects
        self._chance = random.Random(options.seed)
        self.result: dict[str, dict[str, Any]] = {one.name: {} for one in subjects}

    async def run(self) -> None:
        try:
            for one in self._subjects:
                await one.jobs.open()
                say(f"creating {self._options.jobs:,} jobs, then starting {one.name}")
                self.result[one.name]["cold"] = await phases.cold_start(one, self._options.jobs)
            # The bench's own garbage collector must not show in the figures.
            gc.collect()
            gc.freeze()
            gc.disable()
            for name in PHASES:
                if name in self._options.only and name not in APART:
                    say(name)
                    await getattr(self, f"_{name}")()
        finally:
            for one in self._subjects:
                await one.stop()
                await one.jobs.close()

    async def _memory(self) -> None:
        for one in self._turn(0):
            self.result[one.name]["memory"] = await phases.idle(one, self._options.idle)

    async def _restart(self) -> None:
        for one in self._turn(0):
            self.result[one.name]["restart"] = await phases.restart(one, self._chance)

    async def _stop(self) -> None:
        def names(one: Subject) -> Iterator[Sequence[str]]:
            return self._parts(one, self._options.stops, self._options.rounds)

        parts = {one.name: names(one) for one in self._subjects}
        for one in self._subjects:
            await one.jobs.all_started(one.names)
        # The first stops of a process meet cold code and unopened connections.
        for one in self._subjects:
            await phases.stops(one, self._pick(one, 10), self._chance)
        blocks = await self._in_turn(
            self._options.rounds, lambda one: phases.stops(one, next(parts[one.name]), self._chance)
        )
        for one in self._subjects:
            self.result[one.name]["stop"] = blocks[one.name].as_json()

    async def _storm(self) -> None:
        blocks = await self._in_turn(self._options.storms, lambda one: phases.storm(one, self._options.width))
        for one in self._subjects:
            self.result[one.name]["storm"] = phases.storms(blocks[one.name])

    async def _endpoint(self) -> None:
        one = self._subjects[0]
        await endpoint.know_rights(one)
        await one.jobs.all_started(one.names)
        await endpoint.stops(one, self._pick(one, 10))
        block = Block()
        for part in self._parts(one, 2 * self._options.stops, self._options.rounds):
            block.add(await endpoint.stops(one, part))
        figures = block.as_json()
        figures["over"] = {
            name: round(1000 * (percentile(block.samples["endpoint"], at) - percentile(block.samples["bare"], at)), 2)
            for name, at in (("p50", 0.5), ("p99", 0.99))
        }
        self.result[one.name]["endpoint"] = figures

    async def _waiters(self) -> None:
        one = self._subjects[0]
        await endpoint.know_rights(one)
        self.result[one.name]["waiters"] = await endpoint.waiters(one, self._options.waiters)

    async def _waits(self) -> None:
        one = self._subjects[0]
        await endpoint.know_rights(one)
        options = self._options
        self.result[one.name]["waits"] = await endpoint.timed_out_waits(one, options.waiters, options.wait_rounds)

    async def _in_turn(self, rounds: int, phase: Callable[[Subject], Awaitable[Block]]) -> dict[str, Block]:
        """Do the phase with each subject in each round, in alternating order."""
        blocks = {one.name: Block() for one in self._subjects}
        for number in range(rounds):
            for one in self._turn(number):
                one.check()
                blocks[one.name].add(await phase(one))
        return blocks

    def _turn(self, number: int) -> Sequence[Subject]:
        return self._subjects if number % 2 == 0 else self._subjects[::-1]

    def _pick(self, one: Subject, count: int) -> Sequence[str]:
        """Choose jobs that are started now."""
        started = [name for name in one.names if one.jobs.state.get(name) == ("started", True)]
        return self._chance.sample(started, min(count, len(started)))

    def _parts(self, one: Subject, count: int, rounds: int) -> Iterator[Sequence[str]]:
        for _ in range(rounds):
            yield self._pick(one, -(-count // rounds))


async def measure(options: argparse.Namespace, plane: ControlPlane, folder: Path) -> dict[str, Any]:
    """Run the phases that need an API server."""
    machine = Machine(options.calm, say)
    for name in ("etcd", "kube-apiserver"):
        machine.know(name, plane.pids[name])
    server = Server(plane)
    try:
        subjects = [subject.ours(plane, server, machine, folder)]
        if options.yardstick:
            like_ours = options.yardstick_like_ours
            subjects.append(subject.peer(shlex.split(options.yardstick), plane, server, machine, folder, like_ours))
        bench = Bench(options, subjects)
        await bench.run()
        return bench.result
    finally:
        await server.close()


def prepare(plane: ControlPlane, others: Sequence[Path]) -> None:
    """Install the resources, and the store that our jobs name."""
    with Api(plane) as api:
        for path in [*sorted((ROOT / "crds").glob("*.yaml")), *others]:
            api.install(yaml.safe_load(path.read_text()))
        api.create(subject.STORE)


def duckdb(folder: Path) -> dict[str, Any]:
    """Compare a run of the embedded store with one direct statement, in a process of its own."""
    output = folder / "duckdb.json"
    subprocess.run([sys.executable, str(Path(__file__).with_name("duckdb_run.py")), "--json", str(output)], check=True)
    answer: dict[str, Any] = json.loads(output.read_text())
    return answer


def search(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Compare searches with what their parts cost, and runs and stops beside searches with those in quiet."""
    output = folder / "search.json"
    given = [f"--calm={options.calm}", f"--seed={options.seed}", *shlex.split(options.search)]
    program = str(Path(__file__).with_name("search_run.py"))
    subprocess.run([sys.executable, program, "--json", str(output), *given], check=True)
    answer: dict[str, Any] = json.loads(output.read_text())
    return answer


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=…", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1000, help="how many jobs (default: 1000)")
    every = ",".join(PHASES)
    parser.add_argument("--only", default=every.replace(",search", ""), help=f"of {every} (default: all but the last)")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json", help="file for the figures")
    parser.add_argument("--stops", type=int, default=300, help="stops one by one (default: 300)")
    parser.add_argument("--rounds", type=int, default=6, help="rounds that these are spread over (default: 6)")
    parser.add_argument("--storms", type=int, default=3, help="storms (default: 3; the median counts)")
    parser.add_argument("--width", type=int, default=50, help="stops at once in a storm (default: 50)")
    parser.add_argument("--waiters", type=int, default=10_000, help="clients that wait at once (default: 10000)")
    parser.add_argument("--wait-rounds", type=int, default=10, help="times that these wait in vain (default: 10)")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds to watch it idle (default: 30)")
    parser.add_argument("--calm", type=float, default=120.0, help="wait so many seconds in all for calm (default: 120)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of jobs (default: 1)")
    parser.add_argument("--yardstick", metavar="CMD", help="another operator's command; $BENCH_GROUP is its group")
    parser.add_argument("--yardstick-crd", type=Path, action="append", default=[], metavar="FILE", help="its CRD")
    parser.add_argument("--yardstick-like-ours", action="store_true", help="its jobs have the spec of ours")
    parser.add_argument("--search", default="", metavar="ARGS", help="for search_run.py, such as '--rows=10000000'")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the operators' logs and data here")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(PHASES):
        parser.error(f"--only: {', '.join(sorted(unknown))} unknown; choose from {', '.join(PHASES)}")
    return options


def main() -> None:
    """Run the bench."""
    options = options_of()
    with tempfile.TemporaryDirectory(prefix="rollup-bench-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
            "jobs": options.jobs,
            "seed": options.seed,
            "subjects": {"ours": {}},
        }
        if set(options.only) - set(APART):
            with ControlPlane.start() as plane:
                prepare(plane, options.yardstick_crd)
                result["subjects"] = asyncio.run(measure(options, plane, folder))
        if "duckdb" in options.only:
            say("duckdb")
            result["duckdb"] = duckdb(folder)
        if "search" in options.only:
            say("search")
            result["search"] = search(folder, options)
    result["goals"] = {row.path: row.goal for row in report.ROWS if row.goal}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(report.table(result))
    for note in report.notes(result):
        say(note)
    say(f"figures: {options.json}")


if __name__ == "__main__":
    main()
