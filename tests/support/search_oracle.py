"""Asks random searches of a job's documents and its source's rows, and a node the same over all rows.

SEARCH_EXAMPLES: how many searches of each test. SEARCH_SEED: the number that everything is made of, 0 for any.
SEARCH_DEBUG: what differs is made smaller, and reasons of refusals are counted.
"""

import asyncio
import json
import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
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
from support.search_judge import DEBUG, Found, Judge, Part, Reply
from support.search_places import Copy, Place, lacking
from support.store_http import StoreHttp

Body = dict[str, Any]

EXAMPLES = int(os.environ.get("SEARCH_EXAMPLES", "60"))
FEW = min(EXAMPLES, 15)
"""On nodes that are much like another one."""
SEED = int(os.environ.get("SEARCH_SEED", "1")) or random.randrange(2**32)
PER_WORLD = 50
"""Searches of the same rows and jobs."""
BATCH = 25
"""Searches that are judged together."""


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
        late = {job.job_id: self.copy.name for job in self.jobs} if of.late else {}
        self.judge = Judge([self.copy], {job.job_id: job for job in self.jobs}, 1e-12 * most, late, lists(of))
        self.wrong: list[str] = []

    async def prepare(self) -> list[asyncio.Task[Any]]:
        """Put the rows there, and bring the jobs to where they are; returns what is under way still."""
        of, place = self.of, self.place
        await asyncio.to_thread(self.copy.add, of.rows)
        parts = self.chance.choice([1, 1, 2])
        for i in range(parts):
            await place.add(str(i), of.rows[i::parts])
        running = []
        complete: list[JobConfig] = []
        past = _moment(of.begin + (of.days + 40) * DAY)
        for job, phase in zip(self.jobs, of.phases, strict=True):
            if phase in ("part", "after", "deleted"):
                ran = await place.run(job, _moment(of.middle) if phase == "part" else past)
                assert ran.outcome == "Completed", ran
                complete += [job] if phase != "part" else []
            elif phase == "stopped":
                await place.run(job, past, lambda run: run.progress.pages >= 2)
            elif phase == "during":
                running.append(asyncio.ensure_future(place.run(job, past)))
        if all(phase == "deleted" for phase in of.phases):
            tiers = await self.tiers()
            begin, end = max(t.begin_ms for t in tiers), min(t.end_ms for t in tiers)
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

    async def tell(self, body: Body, found: list[str], typed_keys: bool) -> None:
        """Note what differs."""
        small = await self._shrunk(body, _kind(found[0]), typed_keys) if DEBUG else body
        again = (await self.compare([small], typed_keys=typed_keys))[0] if small is not body else found
        jobs = [{name: job[name] for name in job if name != "pageSize"} for job in self.of.jobs]
        lines = [f"world {self.seed}: {jobs} {self.of.phases}", json.dumps(small), *(again or found)[:4]]
        self.wrong.append("\n  ".join(lines))

    async def _shrunk(self, body: Body, kind: str, typed_keys: bool) -> Body:
        """Leave out what the difference does not need."""
        tries = 0
        again = True
        while again:
            again = False
            for smaller in _smaller(body):
                tries += 1
                if tries > 250:
                    return body
                try:
                    (found,) = await self.compare([smaller], typed_keys=typed_keys)
                except Exception:
                    continue
                if found and _kind(found[0]) == kind:
                    body, again = smaller, True
                    break
        return body


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


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _kind(line: str) -> str:
    if line.startswith(("the node", "our", "refused")):
        return line[:60]
    return line.split(":", maxsplit=1)[0].rpartition(".")[2]


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
    examples: int = EXAMPLES,
) -> None:
    """Compare so many searches, and a few more that are asked of the endpoint."""
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    print(f"SEARCH_SEED={SEED}")
    lacks = await asyncio.to_thread(lacking, node)
    left, seed = examples, SEED - 1
    while left > 0:
        seed += 1
        small = bool((seed - SEED) % 4)
        count = min(left, PER_WORLD)
        left -= count
        chance = Chance(seed)
        of = world(chance, small=small)
        async with placed(of, chance) as place:
            one = Oracle(place, node, of, seed)
            running = await one.prepare()
            requests = Requests(chance, of, lacks, 2 if small else 3)
            for i in range(0, count, BATCH):
                bodies = [requests.one() for _ in range(min(BATCH, count - i))]
                typed_keys = chance.often(0.2)
                for body, found in zip(bodies, await one.compare(bodies, typed_keys=typed_keys), strict=True):
                    if found:
                        await one.tell(body, found, typed_keys)
            wrong += await _at_the_endpoint([one], requests, PER_WORLD // 10)
            for task in running:
                assert (await task).outcome == "Completed"
            if chance.often(0.3):
                again = replace(
                    world(chance, small=small),
                    jobs=of.jobs,
                    phases=[chance.choice(PHASES) for _ in of.jobs],
                    many=False,
                )
                async with placed(again, chance) as beside:
                    other = Oracle(beside, node, again, seed, len(of.jobs))
                    running = await other.prepare()
                    wrong += await _at_the_endpoint([one, other], requests, PER_WORLD // 10)
                    await asyncio.gather(*running)
                    other.copy.delete()
            one.copy.delete()
        seen += one.judge.seen
        wrong += one.wrong
        if len(wrong) >= 12:
            break
    print(dict(seen))
    assert not wrong, f"SEARCH_SEED={SEED} {dict(seen)}: {len(wrong)} differ\n" + "\n".join(wrong[:12])


async def _at_the_endpoint(of: Sequence[Oracle], requests: Requests, count: int) -> list[str]:
    """Ask the endpoint for one or two worlds; returns what differs."""
    chance, judge = requests.chance, of[0].judge
    for other in of[1:]:
        judge = judge.together(other.judge)
    wrong: list[str] = []

    def note(call: str, body: Body, found: Sequence[str]) -> None:
        if found:
            worlds = [f"world {one.seed}: {[*one.of.jobs]} {one.of.phases}" for one in of]
            wrong.append("\n  ".join([call, *worlds, json.dumps(body), *found[:4]]))

    async with front([one.place for one in of], judge, chance) as endpoint:
        bodies = [requests.one() for _ in range(count)]
        for body, found in zip(bodies, await endpoint.msearch(bodies), strict=True):
            note("_msearch", body, found)
        body = requests.one()
        note("_search", body, await endpoint.search(body))
        parts: list[Part] = ["all"]
        if len(of) == 1:
            parts += ["documents"] if await of[0].tiers() else []
            parts += ["rows"] if "deleted" not in of[0].of.phases else []
        for _ in range(-(-count // 5)):
            body, part = requests.one_of_rollup_search(), chance.choice(parts)
            note(f"_rollup_search of {part}", body, await endpoint.rollup_search(body, part))
    return wrong
