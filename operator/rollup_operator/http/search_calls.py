"""The calls that search, and those that clients make before: what each reads of its request."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from rollup_operator.http.access import store_errors
from rollup_operator.http.access.authentication import namespace_of
from rollup_operator.http.access.bodies import Bodies, json_object
from rollup_operator.http.access.permits import PERMIT
from rollup_operator.http.access.store_errors import discreet
from rollup_operator.http.api.search import Scope, Searches
from rollup_operator.http.api.search_errors import refusals
from rollup_operator.http.protocol import answers, errors
from rollup_operator.http.protocol.answers import Form
from rollup_operator.http.protocol.dialects import Dialect
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.protocol.parameters import Parameters
from rollup_operator.query.answering.answer import Style
from rollup_operator.query.fields import Fields, field_caps, field_mappings, mappings
from rollup_operator.query.msearch import Item, items
from rollup_operator.query.reading.request import Door, with_parameters
from rollup_operator.query.sources import IndexOptions, Logical, names_in

IGNORED = (
    "batched_reduce_size",
    "ccs_minimize_roundtrips",
    "max_concurrent_searches",
    "max_concurrent_shard_requests",
    "pre_filter_shard_size",
    "preference",
    "request_cache",
    "routing",
    "search_type",
)
"""Parameters of searches that make no difference to an answer from summaries."""

IN_BODY = (
    "analyzer",
    "default_operator",
    "df",
    "explain",
    "from",
    "lenient",
    "q",
    "size",
    "sort",
    "terminate_after",
    "timeout",
    "track_total_hits",
)
"""Parameters that a body can have as well."""

MOST_FIELDS = 1_000
"""Names of fields in one request. Each wildcard is compared with all fields."""

SIDE_BY_SIDE = 4
"""Searches of one `_msearch` that are answered at a time."""


@dataclass(frozen=True, slots=True)
class SearchCalls:
    """Each call reads its request, has its work done, and answers. All raise ApiError."""

    dialect: Dialect
    cluster: str
    """What this cluster is called."""
    bodies: Bodies
    searches: Searches

    async def rollup_search(self, request: web.Request) -> web.Response:
        """Search as Elasticsearch's `_rollup_search` does."""
        return await self._search(request, "rollup_search")

    async def search(self, request: web.Request) -> web.Response:
        """Search a source over rolled and live data."""
        return await self._search(request, "search")

    async def msearch(self, request: web.Request) -> web.Response:
        """Answer several searches; one that fails does not fail the others."""
        parameters = Parameters(request, self.dialect)
        options, style, form = self._read(request, parameters)
        parameters.finish()
        names = _names(request)

        def cut(data: bytes) -> list[Item]:
            with refusals():
                return items(data, names, options)

        await self.searches.require(namespace_of(request), request[PERMIT])
        asked = await self.bodies.read(request, cut, lines=True)
        scope = await self._scope(request)
        places = asyncio.Semaphore(SIDE_BY_SIDE)
        began = asyncio.get_running_loop().time()

        async def one(item: Item) -> dict[str, Any]:
            async with places:
                try:
                    async with discreet(scope.permit):
                        sources = await self.searches.sources(scope, item.names, item.options, "search")
                        found = await self.searches.search(scope, sources, item.body, "search", style)
                        return {**found, "status": 200}
                except ApiError as e:
                    return e.envelope()

        with closing(scope):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(item)) for item in asked]
            took = round((asyncio.get_running_loop().time() - began) * 1000)
            headers = await store_errors.warning(scope.permit, scope.lacking)
            responses = [task.result() for task in tasks]
            return await answers.answer({"took": took, "responses": responses}, form, headers=headers)

    async def query(self, request: web.Request) -> web.Response:
        """Refuse a query in ES|QL, which newer dashboards can send, and name what to use."""
        parameters = Parameters(request, self.dialect)
        Form.wanted(request, parameters)
        for name in ("allow_partial_results", "delimiter", "drop_null_columns"):
            parameters.text(name)
        parameters.finish()
        await self.searches.require(namespace_of(request), request[PERMIT])
        raise errors.illegal_argument(
            "ES|QL is not supported: it asks for rows, and what is rolled up has none. Use [_search] or [_msearch] "
            "with aggregations; in Grafana, choose the query type Metrics"
        )

    async def field_caps(self, request: web.Request) -> web.Response:
        """Show which fields can be searched, and their types."""
        parameters = Parameters(request, self.dialect)
        options, _, form = self._read(request, parameters)
        wanted = names_in(parameters.text("fields") or "")
        for name in ("include_unmapped", "include_empty_fields", "filters", "types"):
            parameters.text(name)
        parameters.finish()
        scope, sources = await self._sources(request, options)
        body = await self.bodies.read(request, json_object, needed=False)
        wanted += _fields_of(body)
        if not wanted:
            raise errors.illegal_argument("specified fields can't be null or empty")
        if len(wanted) > MOST_FIELDS:
            raise errors.illegal_argument(f"[fields] has [{len(wanted)}] names, more than the limit of [{MOST_FIELDS}]")
        found, headers = await self._fields(request, scope, sources)
        return await answers.answer(await asyncio.to_thread(field_caps, found, wanted), form, headers=headers)

    async def mapping(self, request: web.Request) -> web.Response:
        """Show the fields as a mapping."""
        parameters = Parameters(request, self.dialect)
        options, _, form = self._read(request, parameters)
        self._ignore_master(parameters)
        await self.bodies.refuse(request)
        found, headers = await self._fields(request, *await self._sources(request, options))
        return await answers.answer(mappings(found), form, headers=headers)

    async def field_mapping(self, request: web.Request) -> web.Response:
        """Show some fields as mappings."""
        parameters = Parameters(request, self.dialect)
        options, _, form = self._read(request, parameters)
        parameters.boolean("include_defaults", False)
        self._ignore_master(parameters)
        await self.bodies.refuse(request)
        found, headers = await self._fields(request, *await self._sources(request, options))
        names = names_in(request.match_info["field"])
        return await answers.answer(field_mappings(found, names), form, headers=headers)

    async def health(self, request: web.Request) -> web.Response:
        """Tell clients that check a cluster first that this endpoint answers."""
        parameters = Parameters(request, self.dialect)
        form = Form.wanted(request, parameters)
        for name in ("level", "local", "master_timeout", "timeout", "expand_wildcards"):
            parameters.text(name)
        for name in [name for name in request.query if name.startswith("wait_for_")]:
            parameters.text(name)
        parameters.finish()
        await self.bodies.refuse(request)
        await self.searches.require(namespace_of(request), request[PERMIT])
        return await answers.answer(
            {
                "cluster_name": self.cluster,
                "status": "green",
                "timed_out": False,
                "number_of_nodes": 1,
                "number_of_data_nodes": 1,
                "active_primary_shards": 0,
                "active_shards": 0,
                "relocating_shards": 0,
                "initializing_shards": 0,
                "unassigned_shards": 0,
                "unassigned_primary_shards": 0,
                "delayed_unassigned_shards": 0,
                "number_of_pending_tasks": 0,
                "number_of_in_flight_fetch": 0,
                "task_max_waiting_in_queue_millis": 0,
                "active_shards_percent_as_number": 100.0,
            },
            form,
        )

    async def _search(self, request: web.Request, door: Door) -> web.Response:
        parameters = Parameters(request, self.dialect)
        options, style, form = self._read(request, parameters)
        given = {name: parameters.text(name) for name in IN_BODY}
        parameters.finish()
        scope = await self._scope(request)
        async with discreet(scope.permit):
            sources = await self.searches.sources(scope, _names(request), options, door)
        body = await self.bodies.read(request, json_object, needed=False)
        body = with_parameters(body, {name: value for name, value in given.items() if value is not None})
        with closing(scope):
            async with discreet(scope.permit):
                found = await self.searches.search(scope, sources, body, door, style)
            headers = await store_errors.warning(scope.permit, scope.lacking)
            return await answers.answer(found, form, headers=headers)

    async def _scope(self, request: web.Request) -> Scope:
        return await self.searches.scope(namespace_of(request), request[PERMIT])

    def _read(self, request: web.Request, parameters: Parameters) -> tuple[IndexOptions, Style, Form]:
        """Read the parameters that all these calls take."""
        options = parameters.index_options()
        style = Style(
            typed_keys=parameters.boolean("typed_keys", False),
            total_as_int=parameters.boolean("rest_total_hits_as_int", False),
            partial=parameters.boolean("allow_partial_search_results", True),
        )
        for name in IGNORED:
            parameters.text(name)
        return options, style, Form.wanted(request, parameters)

    @staticmethod
    def _ignore_master(parameters: Parameters) -> None:
        for name in ("local", "master_timeout", "timeout", "include_type_name"):
            parameters.text(name)
        parameters.finish()

    async def _sources(self, request: web.Request, options: IndexOptions) -> tuple[Scope, list[Logical]]:
        scope = await self._scope(request)
        async with discreet(scope.permit):
            return scope, await self.searches.sources(scope, _names(request), options, "search")

    async def _fields(
        self, request: web.Request, scope: Scope, sources: Sequence[Logical]
    ) -> tuple[list[tuple[str, Fields]], Mapping[str, str]]:
        """Return the fields of each source, and the headers of the answer."""
        async with discreet(scope.permit):
            found = await self.searches.fields(scope, sources, _names(request))
        return found, await store_errors.warning(scope.permit, scope.lacking)


def _fields_of(body: Mapping[str, Any]) -> list[str]:
    """Return the fields that a body of `_field_caps` names. Raises ApiError 400."""
    given = body.get("fields", [])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ApiError(400, "parsing_exception", "[fields] must be a name, or a list of names")
    return [part for name in names for part in names_in(name)]


def _names(request: web.Request) -> list[str]:
    return names_in(request.match_info.get("index", ""))
