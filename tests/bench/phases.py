"""What is measured of any operator: a cold start, stops one by one, a storm of them, idling, a restart.

Each returns raw samples.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import machine
from bench.client import WriteCount, Writes, at_once, now
from bench.machine import Usage
from bench.samples import median, milliseconds
from bench.subject import Subject

CANARIES = 20
GAP = 0.01
"""Mean pause between two stops of a sequence, in seconds: each meets an operator at rest."""


@dataclass
class Block:
    """The samples of one phase of one subject, added up over its rounds."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    noise: list[float] = field(default_factory=list)
    """Cores used by strangers, in each round."""
    count: int = 0
    writes: Writes = field(default_factory=Writes)

    def add(self, other: "Block") -> None:
        for name, values in other.samples.items():
            self.samples.setdefault(name, []).extend(values)
        self.usage.add(other.usage)
        self.noise.append(round(other.usage.noise, 2))
        self.count += other.count
        self.writes += other.writes

    def as_json(self) -> dict[str, Any]:
        """Return percentiles of every series, writes and events for each stop, who used the CPU, and the samples."""
        return {
            **{name: milliseconds(values) for name, values in self.samples.items()},
            "writes_per_stop": round(self.writes.own / self.count, 3) if self.count else None,
            "events_per_stop": round(self.writes.events / self.count, 3) if self.count else None,
            "usage": self.usage.as_json(),
            "noise_of_rounds": self.noise,
            "samples_ms": {name: [round(v * 1000, 3) for v in values] for name, values in self.samples.items()},
        }


async def cold_start(subject: Subject, count: int) -> dict[str, Any]:
    """Create jobs that are asked to be started, then start the operator, and wait until all of them are."""
    jobs, writes = subject.jobs, WriteCount(subject.jobs)
    subject.names = [f"job-{number:05d}" for number in range(count)]
    await at_once(subject.names, jobs.create, 50)
    await jobs.quiet()
    await subject.machine.calm()
    await writes.begin()
    before = await jobs.server.requests(jobs.group)
    began = subject.start()
    shown = await asyncio.gather(*(jobs.until_done(name, 1, 900) for name in subject.names))
    await subject.serving()
    await jobs.quiet(2)
    after = await jobs.server.requests(jobs.group)
    made: Counter[str] = Counter()
    for (_, verb), number in (after - before).items():
        made[verb] += number
    written = await writes.end()
    return {
        "first_s": round(min(shown) - began, 3),
        "all_s": round(max(shown) - began, 3),
        "writes": written.own,
        "events": written.events,
        "requests": made.total(),
        "by_verb": dict(made),
        **machine.memory(subject.pid),
    }


async def stops(subject: Subject, names: Sequence[str], chance: random.Random) -> Block:
    """Stop jobs one by one. Series: stop (answer -> shown), echo (answer -> own change shown), patch, whole."""
    jobs, writes = subject.jobs, WriteCount(subject.jobs)
    block = Block({"stop": [], "echo": [], "patch": [], "whole": []}, count=len(names))
    await subject.machine.calm()
    await writes.begin()
    with subject.machine.measured() as block.usage:
        for name in names:
            sent, answered, generation = await jobs.ask(name, "stopped")
            shown = await jobs.until_done(name, generation)
            # The watch can be ahead of the answer.
            block.samples["stop"].append(max(0.0, shown - answered))
            block.samples["echo"].append(max(0.0, jobs.echoed[name, generation] - answered))
            block.samples["patch"].append(answered - sent)
            block.samples["whole"].append(shown - sent)
            await asyncio.sleep(chance.uniform(0, 2 * GAP))
    await jobs.quiet()
    block.writes = await writes.end()
    return block


async def storm(subject: Subject, width: int) -> Block:
    """Stop every job, `width` at a time. Series: storm (first sent -> last shown), sent (-> last answer), stop."""
    jobs, writes = subject.jobs, WriteCount(subject.jobs)
    await jobs.all_started(subject.names)
    block = Block({"stop": []}, count=len(subject.names))
    asked: list[tuple[str, float, int]] = []

    async def stop(name: str) -> None:
        _, answered, generation = await jobs.ask(name, "stopped")
        asked.append((name, answered, generation))

    await subject.machine.calm()
    await writes.begin()
    with subject.machine.measured() as block.usage:
        began = now()
        await at_once(subject.names, stop, width)
        sent = now() - began
        shown = await asyncio.gather(*(jobs.until_done(name, generation, 300) for name, _, generation in asked))
    block.samples["storm"] = [max(shown) - began]
    block.samples["sent"] = [sent]
    block.samples["stop"] = [max(0.0, at - answered) for at, (_, answered, _) in zip(shown, asked, strict=True)]
    await jobs.quiet()
    block.writes = await writes.end()
    return block


async def idle(subject: Subject, seconds: float) -> dict[str, Any]:
    """Let it be. Tells its writes, CPU time and memory."""
    await subject.jobs.quiet(3)
    await subject.jobs.server.await_events(subject.jobs.group)
    writes = WriteCount(subject.jobs)
    await writes.begin()
    with subject.machine.measured() as usage:
        await asyncio.sleep(seconds)
    written = await writes.end()
    return {
        "seconds": seconds,
        "writes": written.own + written.events,
        "cpu_seconds": round(usage.by_name[subject.name], 2),
        **machine.memory(subject.pid),
        "usage": usage.as_json(),
    }


async def restart(subject: Subject, chance: random.Random) -> dict[str, Any]:
    """Stop some jobs while the operator is down, then wait until it has seen them all. Other jobs are unchanged."""
    jobs, writes = subject.jobs, WriteCount(subject.jobs)
    await jobs.all_started(subject.names)
    ending = await subject.stop()
    await jobs.quiet(1)
    await writes.begin()
    canaries = chance.sample(subject.names, min(CANARIES, len(subject.names)))
    asked = [(name, (await jobs.ask(name, "stopped"))[2]) for name in canaries]
    await subject.machine.calm()
    began = subject.start()
    seen = asyncio.gather(*(jobs.until_done(name, generation, 300) for name, generation in asked))
    serving = await subject.serving()
    shown = await seen
    await jobs.quiet(2)
    written = await writes.end()
    figures = {
        "ended_s": round(ending, 2),
        "first_s": round(min(shown) - began, 3),
        "all_s": round(max(shown) - began, 3),
        "writes_beyond": written.own - len(canaries),
        "events_beyond": max(0, written.events - len(canaries)),
        **machine.memory(subject.pid),
    }
    return figures | ({"serving_s": round(serving - began, 3)} if serving is not None else {})


def storms(block: Block) -> dict[str, Any]:
    """Return a storm's figures, with the median over its rounds."""
    return block.as_json() | {
        "storm_s": median(block.samples["storm"]),
        "sent_s": median(block.samples["sent"]),
        "rounds": len(block.samples["storm"]),
    }
