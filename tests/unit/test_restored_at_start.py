"""Etcd is restored while an operator that has just begun lists jobs and stores: another one takes its place."""

import asyncio
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from rollup_operator.app import Operator
from rollup_operator.collector import Collector
from rollup_operator.kube.connection import Connection
from rollup_operator.kube.paths import jobs_path, stores_path
from rollup_operator.settings import Settings
from rollup_operator.shutdown import Ending
from rollup_operator.wiring import build
from support.wire_server import Answer, Request, wire_server
from unit.test_actor import raw

JOBS, STORES = jobs_path(), stores_path()
STORE = {
    "metadata": {"namespace": "n", "name": "default", "uid": "s", "resourceVersion": "150", "generation": 1},
    "spec": {"duckdb": {"database": "rollup.duckdb"}},
}
FAILED = Answer(500, {"kind": "Status", "reason": "InternalError", "message": "etcd has no leader", "code": 500})


def job(version: int, asked: str) -> dict[str, Any]:
    body = raw(1 if asked == "stopped" else 2, asked)
    body["metadata"]["resourceVersion"] = str(version)
    return dict(body)


def page(revision: int, items: Iterable[dict[str, Any]], more: str = "") -> Answer:
    return Answer(body={"metadata": {"resourceVersion": str(revision), "continue": more}, "items": list(items)})


@pytest.mark.parametrize("restored", [JOBS, STORES])
async def test_nothing_begins_on_a_list_from_before_a_restore(restored: str, tmp_path: Path) -> None:
    """The first page of a list comes from before the restore, the rest fails, and the list of the next try is older."""
    first = {
        JOBS: [page(200, [job(150, "started")], "more"), FAILED, page(100, [job(90, "stopped")])],
        STORES: [page(200, [STORE], "more"), FAILED, page(100, [])],
    }[restored]
    others = {
        JOBS: page(200, [job(150, "started")]),
        STORES: page(200, [STORE]),
    }

    def behave(request: Request) -> Answer:
        path = urlsplit(request.target).path
        if path == restored and first:
            return first.pop(0)
        return others.get(path, Answer(404, {"kind": "Status", "reason": "NotFound", "code": 404}))

    async with wire_server(behave) as server:
        settings = Settings(data_root=tmp_path, http_port=0, leader_election=False)
        connection = Connection(server=server.url, ssl=ssl.create_default_context())
        ending = Ending()
        parts = build(settings, connection, ending)
        operator = Operator(settings, connection, lambda _: None, parts, ending, Collector())
        async with asyncio.timeout(20):
            await operator._begin()
            assert ending.restart is not None
            assert not parts.gate.open
            await operator._end()
        ending.over()
        await asyncio.gather(*(client.close() for client in parts.clients))
    written = {(r.method, r.target) for r in server.arrived if r.method != "GET"}
    assert not written
