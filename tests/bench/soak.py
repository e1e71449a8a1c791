"""Use an operator for a long time, and see whether it comes back to what it was: memory, open files, tasks.

A bounded load on a real API server: stops, starts, edits, runs, lists, and waits that time out. Every minute prints one
line; the summary compares the first rest with the last. Exit code 1: something grew, or a call was answered wrongly.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from bench import run, subject
from bench.client import Server, at_once, now
from bench.endpoint import know_rights
from bench.machine import Machine
from bench.subject import Subject
from local_control_plane import ControlPlane
from local_tools.ports import free_ports

MERGE = {"Content-Type": "application/merge-patch+json"}
REST = 45.0
"""Seconds without load before a measurement: garbage is collected at least every 30."""

MOST_MIB = 20.0
MOST_SHARE = 0.1
MOST_FILES = 20
MOST_TASKS = 20
"""How much more there may be at the end than after the warm-up."""


@dataclass(frozen=True)
class Level:
    """What the process has."""

    rss_mib: float
    files: int
    tasks: int

    def __str__(self) -> str:
        return f"{self.rss_mib:.0f} MiB, {self.files} open files, {self.tasks} tasks"


class Soak:
    """The load on one operator."""

    def __init__(self, one: Subject, metrics_port: int, seed: int) -> None:
        self._one, self._metrics = one, f"http://127.0.0.1:{metrics_port}/metrics"
        self._chance = random.Random(seed)
        self.calls: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()

    async def level(self) -> Level:
        """Measure now."""
        process = psutil.Process(self._one.pid)
        async with aiohttp.ClientSession() as session, session.get(self._metrics) as answer:
            text = await answer.text()
        tasks = next(float(line.split()[1]) for line in text.splitlines() if line.startswith("rollup_operator_tasks "))
        return Level(process.memory_info().rss / 2**20, process.num_fds(), int(tasks))

    async def load(self, seconds: float, width: int) -> None:
        """Make calls, `width` at a time."""
        end = now() + seconds
        headers = {"Authorization": f"Bearer {self._one.token}"}
        async with aiohttp.ClientSession(self._one.url, headers=headers) as session:

            async def lane() -> None:
                while now() < end:
                    await self._call(session)

            await asyncio.gather(*(lane() for _ in range(width)))

    async def _call(self, session: aiohttp.ClientSession) -> None:
        name = self._chance.choice(self._one.names)
        job, jobs = f"/_rollup/job/{name}", self._one.jobs
        kind = self._chance.choices(
            ("stop", "wait", "timeout", "start", "get", "list", "data", "edit", "run"), (8, 8, 6, 16, 8, 1, 1, 4, 3)
        )[0]
        match kind:
            case "stop":
                await self._http(session, "POST", f"{job}/_stop", {200}, kind)
            case "wait":
                await self._http(session, "POST", f"{job}/_stop?wait_for_completion=true&timeout=20s", {200, 409}, kind)
            case "timeout":
                path = f"{job}/_stop?wait_for_completion=true&timeout=1nanos"
                await self._http(session, "POST", path, {200, 409, 500}, kind)
            case "start":
                await self._http(session, "POST", f"{job}/_start", {200, 500}, kind)
            case "get":
                await self._http(session, "GET", job, {200}, kind)
            case "list":
                await self._http(session, "GET", "/_rollup/job?filter_path=jobs.status", {200}, kind)
            case "data":
                await self._http(session, "GET", "/_rollup/data/_all", {200}, kind)
            case "edit":
                spec = {"spec": {"pageSize": self._chance.randrange(100, 1_000)}}
                await jobs.server.call("PATCH", f"{jobs.path}/{name}", spec, MERGE)
                self.calls[kind] += 1
            case _:
                note = {"metadata": {"annotations": {"rollup-operator.dev/run-requested-at": str(now())}}}
                await jobs.server.call("PATCH", f"{jobs.path}/{name}", note, MERGE)
                self.calls[kind] += 1

    async def _http(self, session: aiohttp.ClientSession, method: str, path: str, good: set[int], kind: str) -> None:
        async with session.request(method, path) as answer:
            await answer.read()
        self.calls[kind] += 1
        if answer.status not in good:
            self.wrong[f"{kind}: {answer.status}"] += 1


async def soak(options: argparse.Namespace, plane: ControlPlane, folder: Path) -> bool:
    """Run; return whether all came back."""
    (port,) = free_ports(1)
    machine, server = Machine(0.0, run.say), Server(plane)
    one = subject.ours(plane, server, machine, folder)
    one.environment = {**one.environment, "ROLLUP_METRICS_PORT": str(port), "ROLLUP_SWEEP_SECONDS": "10"}
    load = Soak(one, port, options.seed)
    try:
        await one.jobs.open()
        one.names = [f"job-{number:05d}" for number in range(options.jobs)]
        run.say(f"creating {options.jobs:,} jobs")
        await at_once(one.names, one.jobs.create, 50)
        one.start()
        await one.serving()
        await one.jobs.all_started(one.names)
        await know_rights(one)
        run.say("warming up for a minute")
        await load.load(60, options.width)
        await asyncio.sleep(REST)
        before = await load.level()
        print(f"minute  0: {before}", flush=True)
        for minute in range(1, options.minutes + 1):
            await load.load(60, options.width)
            one.check()
            print(f"minute {minute:2}: {await load.level()}, {load.calls.total():,} calls", flush=True)
        await asyncio.sleep(REST)
        after = await load.level()
        await one.jobs.all_started(one.names)
        print(f"at rest: before {before}; after {options.minutes} minutes {after}")
        print(f"calls: {json.dumps(dict(sorted(load.calls.items())))}; wrong answers: {dict(load.wrong) or 'none'}")
        grown = after.rss_mib - before.rss_mib
        return (
            not load.wrong
            and grown <= MOST_MIB + MOST_SHARE * before.rss_mib
            and after.files <= before.files + MOST_FILES
            and after.tasks <= before.tasks + MOST_TASKS
        )
    finally:
        await one.stop()
        await one.jobs.close()
        await server.close()


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="make soak ARGS=…", description=__doc__)
    parser.add_argument("--minutes", type=int, default=30, help="how long the load lasts (default: 30)")
    parser.add_argument("--jobs", type=int, default=1_000, help="how many jobs (default: 1000)")
    parser.add_argument("--width", type=int, default=8, help="calls at once (default: 8)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of calls (default: 1)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="rollup-soak-") as temporary, ControlPlane.start() as plane:
        run.prepare(plane, ())
        good = asyncio.run(soak(options, plane, Path(temporary)))
    print("all came back" if good else "something grew, or a call was answered wrongly")
    sys.exit(not good)


if __name__ == "__main__":
    main()
