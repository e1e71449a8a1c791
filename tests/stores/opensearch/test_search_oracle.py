"""Random searches over a job's documents and its source's rows are answered as the node answers them over all rows.

SEARCH_EXAMPLES: how many searches. SEARCH_SEED: the number that everything is made of, 0 for any. SEARCH_DEBUG: what
differs is made smaller, and reasons of refusals are counted.
"""

import asyncio
import json
import os
import random
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from rollup_operator.query.answering.answer import Style, answer
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.fields import fields_of, kinds_of
from rollup_operator.query.planning.planner import Live, SearchPlan, plan
from rollup_operator.query.reading.request import parse_request
from rollup_operator.rollup.bounds import Bounds
from rollup_operator.stores.errors import SearchTooWide, StoreError
from rollup_operator.stores.search import Rows, Tier
from support.clustered import Clustered, clustered
from support.portions import result
from support.random_searches import (
    FIELDS,
    TIME,
    Chance,
    Requests,
    World,
    as_answered,
    differences,
    world,
)
from support.rounding import DAY
from support.store_http import StoreHttp, unique

EXAMPLES = int(os.environ.get("SEARCH_EXAMPLES", "150"))
SEED = int(os.environ.get("SEARCH_SEED", "1")) or random.randrange(2**32)
PER_WORLD = 25
DEBUG = os.environ.get("SEARCH_DEBUG")


class Oracle:
    """One world on a node."""

    def __init__(self, at: Clustered, of: World, seed: int) -> None:
        self.at, self.of, self.seed = at, of, seed
        self.copy = unique("copy")
        at.source, at.target = unique("rows"), unique("out")
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.rows_are_gone = False

    async def prepare(self) -> list[asyncio.Task[Any]]:
        """Put the rows there, and bring the jobs to where they are; returns what is under way still."""
        node, of = self.at.node, self.of
        chance = Chance(self.seed)
        parts = chance.choice([1, 1, 2])
        for index in [f"{self.at.source}-{i}" for i in range(parts)] + [f"{self.copy}-{i}" for i in range(parts)]:
            node.create(index, FIELDS)
        for i in range(parts):
            rows = of.rows[i::parts]
            for name in (self.at.source, self.copy):
                node.load(f"{name}-{i}", rows)
        running = []
        self.jobs = []
        gone: list[tuple[int, int]] = []
        for i, (spec, phase) in enumerate(zip(of.jobs, of.phases, strict=True)):
            job = self.at.job(job_id=f"job{i}", uid=str(i), indexPattern=f"{self.at.source}-*", **spec)
            self.jobs.append(job)
            late = of.begin + (of.days + 40) * DAY
            self.at.now = datetime.fromtimestamp((of.middle if phase == "part" else late) / 1000, UTC)
            if phase in ("part", "after", "deleted"):
                claim = await self.at.completed(job)
                if phase == "deleted":
                    gone.append((0, claim.watermark_ms))
            elif phase == "stopped":
                await self.at.run(job, halt_when=lambda run: run.progress.pages >= 2)
            elif phase == "during":
                running.append(asyncio.ensure_future(self.at.run(job)))
        self.rows_are_gone = len(gone) == len(of.jobs)
        if self.rows_are_gone:
            end = min(end for _, end in gone)
            for i in range(parts):
                query = {"range": {TIME: {"gte": 0, "lt": end, "format": "epoch_millis"}}}
                node.delete_documents(f"{self.at.source}-{i}", query)
                node.refresh(f"{self.at.source}-{i}")
        return running

    async def tiers(self) -> list[Tier]:
        return list(await self.at.store.tiers([self.at.target]))

    async def ask(self, body: dict[str, Any]) -> tuple[SearchPlan, dict[str, Any]]:
        """Answer a search as the endpoint does."""
        request = parse_request(body)
        tiers = await self.tiers()
        like = self.jobs[0]
        rows = Rows(f"{self.at.source}-*", like.spec, like.job_id)
        if tiers:
            live = Live(rows, fields_of(tiers))
        else:
            found = await self.at.store.fields(rows.index_pattern, self.at.target, like.spec)
            live = Live(rows, kinds_of(found, TIME))
        now = max((tier.end_ms for tier in tiers), default=0)
        made = plan(request, tiers, live, now)
        parts = made.checked(await self.at.store.search(made.reads)) if made.reads else []
        return made, result(answer(made, parts, Style()))

    async def compare(self, body: dict[str, Any]) -> list[str] | None:
        """Return how answers differ; None: ours refuses."""
        try:
            made, ours = await self.ask(body)
        except SearchRefused as e:
            self.seen["refused"] += 1
            return await self.untrue(body, e.reason)
        except SearchTooWide:
            self.seen["refused"] += 1
            return []
        except StoreError as e:
            return [f"our store raises {type(e).__name__}: {e}"]
        chosen = (made.report or {}).get("jobs", ())
        ids = {each["job_id"] for each in chosen}
        if len(ids) > 1 and "rounded" in made.report:
            self.seen["rounded by several jobs"] += 1
            return []
        job = next((j for j in self.jobs if j.job_id in ids), self.jobs[0])
        asked = as_answered(body, made, Bounds.of(job.spec.groups.date_histogram))
        if asked is None:
            self.seen["date_range rounded"] += 1
            return []
        status, theirs = await asyncio.to_thread(self.at.node.ask, "POST", f"/{self.copy}-*/_search", asked)
        self.seen["answered"] += 1
        self.seen["rolled"] += bool(chosen)
        if status >= 400:
            self.seen["node refuses"] += 1
            return [f"the node answers {status}: {json.dumps(theirs)[:600]}"]
        ours.pop("_rollup", None)
        return differences(ours, {k: theirs[k] for k in ("hits", "aggregations") if k in theirs})

    async def untrue(self, body: dict[str, Any], reason: str) -> list[str]:
        """Return what is wrong with the reason of a refusal: it names a job or a limit, or the node refuses as well."""
        if DEBUG:
            self.seen[f"refused: {reason[:150]}"] += 1
        if "are gone from" in reason and not self.rows_are_gone:
            return [f"refused although all rows are there: {reason}"]
        named = re.match(r"(Job|Field) \[(.*?)\]", reason)
        if named is not None:
            known = {j.job_id for j in self.jobs} if named[1] == "Job" else FIELDS
            return [] if named[2] in known else [f"refused without reason: {reason}"]
        if re.match("The buckets of time lie in|Trying to create too many buckets", reason):
            return []
        status, _ = await asyncio.to_thread(self.at.node.ask, "POST", f"/{self.copy}-*/_search", body)
        return [] if status >= 400 else [f"refused without reason: {reason}"]

    async def tell(self, body: dict[str, Any], found: list[str]) -> None:
        small = await self.shrunk(body, _kind(found[0])) if DEBUG else body
        again = await self.compare(small) if small is not body else found
        jobs = [{name: job[name] for name in ("groups", "metrics")} for job in self.of.jobs]
        lines = [f"world {self.seed}: {jobs} {self.of.phases}", json.dumps(small), *(again or found)[:4]]
        self.wrong.append("\n  ".join(lines))

    async def shrunk(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
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
                    found = await self.compare(smaller)
                except Exception:
                    continue
                if found and _kind(found[0]) == kind:
                    body, again = smaller, True
                    break
        return body


def _kind(line: str) -> str:
    return (
        line[:60]
        if line.startswith(("the node", "our", "refused"))
        else line.split(":", maxsplit=1)[0].rpartition(".")[2]
    )


def _smaller(body: Any) -> Any:
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


@pytest.mark.timeout(120 + EXAMPLES)
async def test_random_searches_are_answered_as_over_all_rows(opensearch3: StoreHttp) -> None:
    await oracle(opensearch3)


async def oracle(node: StoreHttp) -> None:
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    print(f"SEARCH_SEED={SEED}")
    for number in range(-(-EXAMPLES // PER_WORLD)):
        async with clustered(node) as at:
            seed = SEED + number
            chance = Chance(seed)
            of = world(chance)
            one = Oracle(at, of, seed)
            running = await one.prepare()
            requests = Requests(chance, of)
            for _ in range(PER_WORLD):
                body = requests.one()
                found = await one.compare(body)
                if found:
                    await one.tell(body, found)
            for task in running:
                assert (await task).outcome == "Completed"
            node.delete(f"{at.source}-*,{one.copy}-*,{at.target}")
            seen += one.seen
            wrong += one.wrong
        if len(wrong) >= 12:
            break
    print(dict(seen))
    assert not wrong, f"SEARCH_SEED={SEED} {dict(seen)}: {len(wrong)} differ\n" + "\n".join(wrong[:12])
