"""The nodes that store tests stand on: what those tests, and whoever tries a store by hand, rely on."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from local_stores import Node, StoreNodeError
from local_stores import __file__ as package_file
from local_tools.process import ProcessId
from support.store_faults import CutSent, HalfBulk
from support.store_http import StoreHttp, unique
from support.store_proxy import StoreProxy

SOURCE_ROOT = Path(package_file).parent.parent


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "local_stores", *arguments],
        env=os.environ | {"PYTHONPATH": str(SOURCE_ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_documents_go_in_and_out(node: StoreHttp) -> None:
    index = node.create(unique("events"), {"ts": "date", "host": "keyword", "load": "double"})
    rows = [{"n": n, "ts": n * 1000, "host": f"h{n % 3}", "load": n / 7} for n in range(5001)]
    assert node.load(index, rows, id_field="n") == 5001
    assert node.count(index) == 5001
    assert node.count(index, {"term": {"host": "h0"}}) == 1667
    assert node.documents(index) == {str(row["n"]): row for row in rows}
    found = node.get(index, "7")
    assert found is not None
    assert found["_source"] == rows[7]
    assert node.get(index, "none") is None
    assert node.mapping(index)["properties"]["load"] == {"type": "double"}
    assert node.settings(index)["index.number_of_replicas"] == "0"
    node.delete(index)
    assert not node.exists(index)
    node.delete(index)


def test_what_a_node_has_not_collected_yet_refuses_no_request(node: StoreHttp) -> None:
    (stats,) = node.call("GET", "/_nodes/stats/breaker,jvm")["nodes"].values()
    assert stats["breakers"]["parent"]["estimated_size_in_bytes"] < 0.1 * stats["jvm"]["mem"]["heap_used_in_bytes"]


_left: set[str] = set()


@pytest.mark.parametrize("time_around", [1, 2])
def test_a_test_leaves_nothing_to_the_next(opensearch: StoreHttp, time_around: int) -> None:
    assert not opensearch.indices() & _left
    made = {
        opensearch.create(unique("plain")),
        opensearch.create(unique(".hidden"), settings={"index.hidden": True}),
        opensearch.create(closed := unique("closed")),
    }
    opensearch.call("POST", f"/{closed}/_close")
    assert opensearch.indices() >= made
    _left.update(made)


def test_a_killed_node_comes_back_with_its_data_at_the_same_address(node: StoreHttp) -> None:
    index = node.create(unique("events"))
    node.load(index, [{"n": n} for n in range(100)])
    before = node.node.process
    node.node.stop_now()
    assert not node.node.running
    with pytest.raises(OSError, match="refused"):
        node.call("GET", "/")
    node.node.restart()
    assert node.node.process != before
    node.wait(lambda it: it.call("GET", f"/_cluster/health/{index}")["status"] == "green")
    assert node.count(index) == 100


def test_a_frozen_node_answers_nothing_until_it_thaws(opensearch: StoreHttp) -> None:
    opensearch.node.freeze()
    with pytest.raises(TimeoutError):
        opensearch.call("GET", "/", timeout=0.2)
    opensearch.node.thaw()
    assert opensearch.call("GET", "/")["version"]["number"] == opensearch.node.kind.release


def slow_search(node: StoreHttp) -> tuple[str, dict[str, object]]:
    """An index, and a search of it that takes many seconds if nothing cancels it."""
    index = node.create(unique("many"))
    node.load(index, ({"n": n} for n in range(30_000)))
    source = "long x = doc['n'].value; for (int i = 0; i < 200000; i++) { x = x * 31 + i } return x != 1"
    return index, {"size": 0, "track_total_hits": True, "query": {"script": {"script": {"source": source}}}}


async def test_a_search_ends_when_its_client_has_closed(node: StoreHttp) -> None:
    index, body = slow_search(node)
    headers = {"X-Opaque-Id": "rollup/slow/1"}
    async with StoreProxy(node.url) as proxy, aiohttp.ClientSession(proxy.url, headers=headers) as client:
        search = asyncio.create_task(client.post(f"/{index}/_search", json=body).__aenter__())
        await proxy.until(lambda: proxy.requests and proxy.requests[0].sent)
        await asyncio.to_thread(node.wait, lambda it: it.tasks("rollup/slow/1"))
        search.cancel()
        cancelled = time.monotonic()
        await proxy.ended(proxy.requests[0])
        await asyncio.to_thread(node.wait, lambda it: not it.tasks("rollup/slow/1"))
        assert time.monotonic() - cancelled < 5
        assert proxy.requests[0].status is None


async def test_a_bulk_whose_connection_was_cut_is_carried_out(node: StoreHttp) -> None:
    index = node.create(unique("events"))
    lines = [part for n in range(3000) for part in ({"index": {"_id": str(n)}}, {"n": n})]
    data = ("\n".join(json.dumps(line) for line in lines) + "\n").encode()
    headers = {"Content-Type": "application/x-ndjson"}
    async with StoreProxy(node.url) as proxy, aiohttp.ClientSession(proxy.url, headers=headers) as client:
        proxy.on("POST", "_bulk", fault=CutSent())
        with pytest.raises(aiohttp.ClientError):
            await client.post(f"/{index}/_bulk", data=data)
        await asyncio.to_thread(node.wait, lambda it: it.count(index) == 3000)


async def test_half_a_bulk_is_there_and_the_answer_says_which(node: StoreHttp) -> None:
    index = node.create(unique("events"))
    lines = [part for n in range(10) for part in ({"index": {"_id": str(n)}}, {"n": n})]
    data = ("\n".join(json.dumps(line) for line in lines) + "\n").encode()
    headers = {"Content-Type": "application/x-ndjson"}
    async with StoreProxy(node.url) as proxy, aiohttp.ClientSession(proxy.url, headers=headers) as client:
        proxy.on("POST", "_bulk", fault=HalfBulk())
        async with client.post(f"/{index}/_bulk", data=data) as answer:
            items = (await answer.json())["items"]
    assert [(item["index"]["_id"], item["index"]["status"]) for item in items] == [
        (str(n), 201 if n % 2 == 0 else 429) for n in range(10)
    ]
    assert set(node.documents(index)) == {"0", "2", "4", "6", "8"}


@pytest.fixture
def killed_starter() -> Iterator[tuple[ProcessId, ProcessId, Path]]:
    """The node and the supervisor of a starter that has been killed, and their folder."""
    script = (
        "import json, sys; from local_stores import Node; from local_stores.state import NodeFolder;"
        "node = Node.start('opensearch2'); record = NodeFolder(node.directory).read();"
        "print(json.dumps([[p.pid for p in record.processes.values()], str(node.directory)]), flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(SOURCE_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as starter:
        assert starter.stdout is not None
        pids, folder = json.loads(starter.stdout.readline())
        processes = [ProcessId.of(pid) for pid in pids]
        assert all(process.alive() for process in processes)
        starter.send_signal(signal.SIGKILL)
        yield processes[0], processes[1], Path(folder)


def test_a_node_does_not_outlive_its_starter(killed_starter: tuple[ProcessId, ProcessId, Path]) -> None:
    first, second, folder = killed_starter
    assert first.wait(10)
    assert second.wait(10)
    assert not folder.exists()


def test_the_command_leaves_a_node_behind_until_down(tmp_path: Path, opensearch: StoreHttp) -> None:
    kind = opensearch.kind
    other = "opensearch2" if kind == "elasticsearch7" else "elasticsearch7"
    words = (kind, "--dir", str(tmp_path / "node"))
    try:
        up = command("up", *words, "--set", "http.max_content_length=1mb")
        assert up.returncode == 0, up.stderr
        node = Node.find(tmp_path / "node")
        assert node is not None
        assert up.stdout == f"STORE_URL={node.url}\n"
        assert node.url != opensearch.url
        first = StoreHttp(node)
        settings = first.call("GET", "/_nodes/settings")["nodes"].popitem()[1]["settings"]
        assert settings["http"]["max_content_length"] == "1mb"
        first.load("events", [{"n": 1}])
        assert not opensearch.exists("events")
        assert "runs already" in command("up", *words).stderr
        assert "green" in command("status", *words).stdout or "yellow" in command("status", *words).stdout
        assert command("down", *words, "--keep").stdout == "ended\n"
        assert not node.running
        assert command("status", *words).returncode == 3
        with pytest.raises(StoreNodeError, match=f"holds data of {kind}"):
            Node.start(other, directory=tmp_path / "node")
        with Node.start(kind, directory=tmp_path / "node") as again:
            assert StoreHttp(again).count("events") == 1
    finally:
        down = command("down", *words)
    assert down.stdout == "nothing was running\n"
    assert not (tmp_path / "node" / "data").exists()
    assert (tmp_path / "node" / "node.log").exists()


def test_what_keeps_a_node_from_starting_is_said(tmp_path: Path, opensearch: StoreHttp) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StoreNodeError, match=f"port {port} is taken; choose another"):
            Node.start(opensearch.kind, port=port)
    with pytest.raises(StoreNodeError, match=r"unknown setting \[no.such.setting\]"):
        Node.start(opensearch.kind, settings={"no.such.setting": 1}, directory=tmp_path)
    with pytest.raises(StoreNodeError, match="a node runs there"):
        Node.start(opensearch.kind, directory=opensearch.node.directory)
