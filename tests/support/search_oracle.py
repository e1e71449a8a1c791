"""Asks random searches of a job's documents and its source's rows, and a node the same over all rows.

SEARCH_EXAMPLES: how many searches of all kinds of stores together. SEARCH_SEED: the number that everything is made of,
0 for any. SEARCH_DEBUG: reasons of refusals are counted.
"""

import asyncio
import json
import math
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from rollup_operator.http.api.search_fields import tell_kinds
from rollup_operator.query.answering.answer import Style, answer
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.fields import fields_of, kinds_of
from rollup_operator.query.planning.planner import Live, SearchPlan, plan
from rollup_operator.query.reading.request import parse_request
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.errors import StoreError
from rollup_operator.stores.search import Partials, Rows, Tier
from support.portions import result
from support.random_searches import Requests
from support.random_worlds import PHASES, TIME, Chance, World, lists, values, world
from support.rounding import DAY
from support.search_front import front
from support.search_judge import Found, Judge, Part, Reply
from support.search_places import Copy, Place, lacking
from support.store_http import StoreHttp

Body = dict[str, Any]
Differences = Awaitable[list[str]]

EXAMPLES = int(os.environ.get("SEARCH_EXAMPLES", "5000"))
SEED = int(os.environ.get("SEARCH_SEED", "1")) or random.randrange(2**32)
SHARES: Mapping[str, float] = {
    "opensearch3": 0.54,
    "opensearch2": 0.2,
    "elasticsearch7": 0.1,
    "elasticsearch8": 0.05,
    "elasticsearch9": 0.05,
    "duckdb": 0.06,
}
"""How many of the searches a kind of store gets. Nodes are much like one another, and a file takes the longest."""
PER_WORLD = 100
"""Searches of the same rows and jobs."""
BATCH = 50
"""Searches that are judged together."""
WORLDS = 2
"""Made and asked at a time: while one waits for its node, the other works."""
_TRIES = 250
"""Smaller bodies that are tried of a search whose answer differs."""
_SHRUNK = 3
"""Differences of a test that are made smaller."""


class Oracle:
    """One world in a store, and on a node."""

    def __init__(self, place: Place, node: StoreHttp, of: World, seed: int, first: int = 0) -> None:
        """`first`: the number of the first job."""
        self.place, self.of, self.seed = place, of, seed
        self.chance = Chance(seed)
        self.jobs = [place.job(first + i, changes) for i, changes in enumerate(of.jobs)]
        self.copy = Copy(node, self.chance.choice([1, 1, 2]))
        every = [*of.rows, *of.late]
        most = max(math.fsum(abs(v) for v in values(every, field)) for field in ("delay", "price"))
        ids = [job.job_id for job in self.jobs]
        late = dict.fromkeys(ids, self.copy.name) if of.late else {}
        known = dict(zip(ids, self.jobs, strict=True))
        self.judge = Judge([self.copy], known, dict.fromkeys(ids, self.copy), 1e-12 * most, late, lists(of))

    async def prepare(self) -> list[asyncio.Task[Any]]:
        """Put the rows there, and bring the jobs to where they are; returns what is under way still."""
        of, place = self.of, self.place
        await asyncio.to_thread(self.copy.add, of.rows)
        parts = self.chance.choice([1, 1, 2])
        for i in range(parts):
            await place.add(str(i), of.rows[i::parts])
        running = []
        complete: list[JobConfig] = []
        past = moment(of.begin + (of.days + 40) * DAY)
        for job, phase in zip(self.jobs, of.phases, strict=True):
            if phase in ("part", "after", "deleted"):
                ran = await place.run(job, moment(of.middle) if phase == "part" else past)
                assert ran.outcome == "Completed", ran
                complete += [job] if phase != "part" else []
            elif phase == "stopped":
                await place.run(job, past, lambda run: run.progress.pages >= 2)
            elif phase == "during":
                if self.chance.often(0.7):  # it would have no page before it is searched
                    await place.run(job, past, lambda run: run.progress.pages >= 2)
                running.append(asyncio.ensure_future(place.run(job, past)))
        if all(phase == "deleted" for phase in of.phases):
            tiers = await self.tiers()
            begin = max((t.begin_ms for t in tiers), default=0)
            end = min((t.end_ms for t in tiers), default=0)
            if len(tiers) == len(of.jobs) and begin < end:
                await place.remove(begin, end)
                self.judge.gone = True
        if of.late:
            await place.add("late", of.late)
            await asyncio.to_thread(self.copy.add, of.late, late=True)
            for job in complete:
                if "deleted" not in of.phases and job.spec.lookback is not None:
                    assert (await place.run(job, past)).outcome == "Completed"
                    del self.judge.late[job.job_id]
        return running

    async def tiers(self) -> list[Tier]:
        return list(await self.place.store.tiers([self.place.target]))

    async def ask(self, bodies: Sequence[Body], style: Style) -> list[Reply]:
        """Answer searches as the endpoint does, read of the store together."""
        tiers = await self.tiers()
        like = self.jobs[0]
        rows = Rows(self.place.pattern, like.spec, like.job_id)
        if tell_kinds(tiers):
            live = Live(rows, fields_of(tiers))
        else:
            found = await self.place.store.fields(rows.index_pattern, self.place.target, like.spec)
            live = Live(rows, kinds_of(found, TIME))
        plans: list[SearchPlan | SearchRefused] = []
        for body in bodies:
            plans.append(_planned(body, tiers, live))
            await asyncio.sleep(0)
        fetches = [f for each in plans if isinstance(each, SearchPlan) for f in each.reads]
        try:
            parts = list(await self.place.store.search(fetches)) if fetches else []
        except StoreError as e:
            if len(bodies) > 1:
                return [reply for body in bodies for reply in await self.ask([body], style)]
            return [e]
        replies: list[Reply] = []
        for each in plans:
            replies.append(each if isinstance(each, SearchRefused) else _answered(each, parts, style))
            await asyncio.sleep(0)
        return replies

    async def compare(self, bodies: Sequence[Body], *, typed_keys: bool = False) -> list[list[str]]:
        """Return how answers differ, for each search."""
        replies: list[Reply] = []
        for i in range(0, len(bodies), self.place.at_once):
            replies += await self.ask(bodies[i : i + self.place.at_once], Style(typed_keys=typed_keys))
        return await self.judge.differences(bodies, replies, {"typed_keys": typed_keys})

    async def compare_one(self, body: Body, *, typed_keys: bool) -> list[str]:
        """Return how the answer to a search differs."""
        return (await self.compare([body], typed_keys=typed_keys))[0]

    def told(self) -> str:
        """Return what one has to know of the world to ask it again."""
        jobs = [{name: job[name] for name in job if name != "pageSize"} for job in self.of.jobs]
        return f"world {self.seed}: {jobs} {self.of.phases}"


@dataclass
class Report:
    """What differs in all worlds of a test."""

    wrong: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    async def note(
        self, call: str, of: Sequence[Oracle], body: Body, found: Sequence[str], again: Callable[[Body], Differences]
    ) -> None:
        """Note how an answer differs, if it does, for the smallest body that `again` finds to differ alike."""
        if not found:
            return
        if len(self.wrong) < _SHRUNK:
            body, found = await shrunk(body, found, again)
        self.wrong.append("\n  ".join([call, *(one.told() for one in of), json.dumps(body), *found[:4]]))


async def shrunk(body: Body, found: Sequence[str], again: Callable[[Body], Differences]) -> tuple[Body, Sequence[str]]:
    """Leave out what a difference does not need; `again` returns how a body's answer differs."""
    kind, left = _kind(found[0]), _TRIES
    smaller = _smaller(body)
    while left and (less := next(smaller, None)) is not None:
        left -= 1
        try:
            differs = await again(less)
        except Exception:
            continue  # it is no request any more
        if differs and _kind(differs[0]) == kind:
            body, found, smaller = less, differs, _smaller(less)
    return body, found


def _planned(body: Body, tiers: Sequence[Tier], live: Live) -> SearchPlan | SearchRefused:
    try:
        return plan(parse_request(body), tiers, live, int(time.time() * 1000))
    except SearchRefused as e:
        return e


def _answered(made: SearchPlan, parts: list[Partials], style: Style) -> Reply:
    """Answer by the first of the parts, which are gone then."""
    own = [parts.pop(0) for _ in made.reads]
    try:
        return Found(made.request.aggregations, result(answer(made, made.checked(own), style)))
    except SearchRefused as e:
        return e


def moment(ms: int) -> datetime:
    """Return that time."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def _kind(line: str) -> str:
    if line.startswith(("the node", "our", "refused")):
        return line[:60]
    path = line.split(":", maxsplit=1)[0].split(".")
    return f"{path[1]}…{path[-1]}" if len(path) > 1 else path[0]


def _smaller(body: Any) -> Iterator[Any]:
    if isinstance(body, dict):
        for key in body:
            if key != "size":
                yield {k: v for k, v in body.items() if k != key}
        for key, value in body.items():
            for less in _smaller(value):
                yield {**body, key: less}
    elif isinstance(body, list):
        for i in range(len(body)):
            yield body[:i] + body[i + 1 :]
        for i, value in enumerate(body):
            for less in _smaller(value):
                yield [*body[:i], less, *body[i + 1 :]]


async def compared(
    node: StoreHttp,
    placed: Callable[[World, Chance], AbstractAsyncContextManager[Place]],
    kind: str,
) -> None:
    """Compare a kind's share of the searches, and a few more that are asked of the endpoint."""
    examples = round(EXAMPLES * SHARES[kind])
    print(f"SEARCH_SEED={SEED} {examples} searches")
    lacks = await asyncio.to_thread(lacking, node)
    report, turns = Report(), asyncio.Semaphore(WORLDS)

    async def one(number: int, count: int) -> None:
        async with turns:
            if len(report.wrong) < 12:
                await _world(node, placed, lacks, Size(number, count), report)

    async with asyncio.TaskGroup() as group:
        for number, first in enumerate(range(0, examples, PER_WORLD)):
            group.create_task(one(number, min(PER_WORLD, examples - first)))
    seen, wrong = dict(report.seen), report.wrong
    print(seen)
    # Of few worlds, none may have anything rolled up.
    assert examples < 1_000 or seen["rolled"] * 5 > seen["answered"], seen
    assert not wrong, f"SEARCH_SEED={SEED} {seen}: {len(wrong)} differ\n" + "\n".join(wrong[:12])


@dataclass(frozen=True)
class Size:
    """Of what one world is made, and how often it is searched."""

    number: int
    count: int

    @property
    def seed(self) -> int:
        return SEED + self.number

    @property
    def small(self) -> bool:
        """Whether its answers are short."""
        return bool(self.number % 4)

    @property
    def phase(self) -> str:
        """That of the first job: all have their turns, in worlds of both sizes."""
        first = PHASES.index("after")
        return PHASES[(first + self.number + self.number // len(PHASES)) % len(PHASES)]


async def _world(
    node: StoreHttp,
    placed: Callable[[World, Chance], AbstractAsyncContextManager[Place]],
    lacks: Collection[str],
    size: Size,
    report: Report,
) -> None:
    chance = Chance(size.seed)
    of = world(chance, small=size.small, phase=size.phase)
    async with placed(of, chance) as place:
        one = await asyncio.to_thread(Oracle, place, node, of, size.seed)
        running = await one.prepare()
        requests = Requests(chance, of, lacks, 2 if size.small else 3)
        made = [requests.one() for _ in range(size.count)]
        batches = [(made[i : i + BATCH], chance.often(0.2)) for i in range(0, size.count, BATCH)]
        answers = [one.compare(bodies, typed_keys=typed_keys) for bodies, typed_keys in batches]
        for (bodies, typed_keys), found in zip(batches, await asyncio.gather(*answers), strict=True):
            for body, differs in zip(bodies, found, strict=True):
                await report.note("search", [one], body, differs, partial(one.compare_one, typed_keys=typed_keys))
        await _at_the_endpoint([one], requests, PER_WORLD // 10, report)
        for task in running:
            assert (await task).outcome == "Completed"
        if chance.often(0.3):
            other_rows = world(chance, small=size.small)
            # Rows of several values count in each bucket; a run that is under way reads some of those that come late.
            phases = ["before" if other_rows.many else chance.choice(PHASES) for _ in of.jobs]
            late = () if "during" in phases else other_rows.late
            again = replace(other_rows, jobs=of.jobs, phases=phases, late=late)
            async with placed(again, chance) as beside:
                other = await asyncio.to_thread(Oracle, beside, node, again, size.seed, len(of.jobs))
                running = await other.prepare()
                await _at_the_endpoint([one, other], requests, PER_WORLD // 10, report)
                await asyncio.gather(*running)
                await asyncio.to_thread(other.copy.delete)
        await asyncio.to_thread(one.copy.delete)
    report.seen += one.judge.seen


async def _at_the_endpoint(of: Sequence[Oracle], requests: Requests, count: int, report: Report) -> None:
    """Ask the endpoint for one or two worlds."""
    chance, judge = requests.chance, of[0].judge
    for other in of[1:]:
        judge = judge.together(other.judge)
    async with front([one.place for one in of], judge, chance) as endpoint:

        async def of_several(body: Body) -> list[str]:
            return (await endpoint.msearch([body]))[0]

        bodies = [requests.one() for _ in range(count)]
        for body, found in zip(bodies, await endpoint.msearch(bodies), strict=True):
            await report.note("_msearch", of, body, found, of_several)
        body = requests.one()
        await report.note("_search", of, body, await endpoint.search(body), endpoint.search)
        parts: list[Part] = ["all"]
        if len(of) == 1:
            parts += ["documents"] if await of[0].tiers() else []
            parts += ["rows"] if "deleted" not in of[0].of.phases else []
        for _ in range(-(-count // 5)):
            body, part = requests.one_of_rollup_search(), chance.choice(parts)
            ask = partial(endpoint.rollup_search, part=part)
            await report.note(f"_rollup_search of {part}", of, body, await ask(body), ask)
