"""Asks random searches of the endpoint: several in one call, by any name of a source, of several sources, and as
Elasticsearch's `_rollup_search` has them.
"""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.request import parse_request
from rollup_operator.rollup.identity import JobConfig
from support.http_double import Cluster
from support.random_worlds import Chance
from support.search_judge import Found, Judge, Part, Reply
from support.search_places import Place
from support.serving import Client, calling, served

Body = dict[str, Any]

_OF_ELASTICSEARCH = (
    "There is not a rollup job that has a [",
    "Unsupported Query in search request: [",
    "Unable to translate aggregation tree into Rollup.",
    "Field [",
    "The source ",
    "The fields that the search groups by hold values of other kinds",
)
"""How refusals begin that name no job."""


class Front:
    """The endpoint over one or several sources, each in a store of its own."""

    def __init__(self, client: Client, places: Sequence[Place], judge: Judge, chance: Chance) -> None:
        self._client, self._places, self._judge, self._chance = client, places, judge, chance

    async def msearch(self, bodies: Sequence[Body]) -> list[list[str]]:
        """Return how the answers of one call differ from what is right."""
        parameters = {"typed_keys": self._chance.often(0.3)}
        lines = "".join(f"{json.dumps(self._header())}\n{json.dumps(body)}\n" for body in bodies)
        answers = (await self._post("/_msearch", lines, parameters))[1]["responses"]
        replies = [_reply(body, each["status"], each) for body, each in zip(bodies, answers, strict=True)]
        return await self._judged(bodies, replies, parameters)

    async def search(self, body: Body) -> list[str]:
        """Return how an answer of `_search` differs from what is right."""
        as_int = body.get("track_total_hits", True) is True and self._chance.often(0.5)
        parameters = {"typed_keys": self._chance.often(0.3), "rest_total_hits_as_int": as_int}
        found = await self._post(f"/{_quoted(self._names())}/_search", json.dumps(body), parameters)
        return (await self._judged([body], [_reply(body, *found)], parameters))[0]

    async def rollup_search(self, body: Body, part: Part) -> list[str]:
        """Return how an answer of `_rollup_search` differs from what is right."""
        parameters = {"typed_keys": self._chance.often(0.3)}
        rolled, live = [p.target for p in self._places], [p.pattern for p in self._places]
        names = {"all": rolled + live, "documents": rolled, "rows": live}[part]
        found = await self._post(f"/{_quoted(names)}/_rollup_search", json.dumps(body), parameters)
        return (await self._judged([body], [_reply(body, *found)], parameters, part, total=False))[0]

    async def _judged(
        self,
        bodies: Sequence[Body],
        replies: Sequence[Reply | None],
        parameters: Mapping[str, bool],
        part: Part = "all",
        *,
        total: bool = True,
    ) -> list[list[str]]:
        known = [(body, reply) for body, reply in zip(bodies, replies, strict=True) if reply is not None]
        given, answers = [body for body, _ in known], [reply for _, reply in known]
        found = iter(await self._judge.differences(given, answers, parameters, part, total=total))
        return [[] if reply is None else next(found) for reply in replies]

    async def _post(self, path: str, data: str, parameters: Mapping[str, bool]) -> tuple[int, Body]:
        query = "&".join(f"{name}=true" for name, wanted in parameters.items() if wanted)
        headers = {"Content-Type": "application/x-ndjson" if path == "/_msearch" else "application/json"}
        async with self._client.post(f"{path}?{query}", data=data, headers=headers) as answer:
            found = await answer.json()
            assert answer.status in (200, 400), found
            return answer.status, found

    def _header(self) -> Body:
        names = self._names()
        return {"index": ",".join(names) if self._chance.often(0.5) else names}

    def _names(self) -> list[str]:
        """Return names that mean all of each source."""
        chance = self._chance
        if len(self._places) > 1 and chance.often(0.2):
            return ["*"]
        found = []
        for place in self._places:
            ways = [[place.target], [place.pattern], [place.target, place.pattern], [f"{place.target[:-1]}*"]]
            found += chance.choice(ways)
        return found


def _quoted(names: Sequence[str]) -> str:
    return quote(",".join(names), safe=",*")


def _reply(body: Body, status: int, found: Mapping[str, Any]) -> Reply | None:
    """Return what was answered; None: a refusal that cannot be judged, or other intervals than were asked for."""
    if status >= 400:
        reason = found["error"]["reason"]
        return None if reason.startswith(_OF_ELASTICSEARCH) else SearchRefused(reason)
    if "interval" in found.get("_rollup", {}):
        return None
    return Found(parse_request(body).aggregations, dict(found))


@asynccontextmanager
async def endpoint(places: Sequence[Place], jobs: Iterable[JobConfig]) -> AsyncIterator[Client]:
    """Serve the sources, each from a store of its own, and the jobs over them."""
    cluster = Cluster()
    cluster.shelves.clear()
    for i, place in enumerate(places):
        cluster.shelves["default", f"store{i}"] = place.store  # type: ignore[assignment]
    for job in jobs:
        number = next(i for i, place in enumerate(places) if place.pattern == job.spec.index_pattern)
        spec = job.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        cluster.create(job.job_id, **{**spec, "storeRef": {"name": f"store{number}"}})
    async with served(cluster) as at, calling(at) as client:
        yield client


@asynccontextmanager
async def front(places: Sequence[Place], judge: Judge, chance: Chance) -> AsyncIterator[Front]:
    """Serve the sources of a judge."""
    async with endpoint(places, judge.jobs.values()) as client:
        yield Front(client, places, judge, chance)
