"""Stores that hang while users search them: neither runs nor stops of other stores wait for that."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

from rollup_operator.model.store import ClusterStoreSpec
from rollup_operator.sharing.memory import Budgets
from rollup_operator.sharing.shares import Account, Shares
from rollup_operator.stores.opensearch import ClusterStore, Connections, HostRules
from support.hostile_cluster import honest
from support.hostile_host import hostile_host

MIB = 2**20
SEARCHES = 20


class Stores:
    """Stores of one namespace, with the budgets of a small pod."""

    def __init__(self) -> None:
        budgets = Budgets.of(1024 * MIB)
        self._answers, self._pages = Shares(budgets.answers), Shares(budgets.pages)
        self._searches = Shares(budgets.searches)

    def of(self, url: str) -> ClusterStore:
        spec = ClusterStoreSpec.model_validate({"hosts": [url], "requestTimeoutSeconds": 20})
        connections = Connections("opensearch", spec, read_secret=_no_secret, rules=HostRules.read(["127.0.0.1"]))
        client = connections.cluster(
            answers=Account(self._answers, "team"),
            pages=Account(self._pages, "team"),
            searches=Account(self._searches, "team"),
        )
        return ClusterStore("opensearch", client, is_alive=bool)

    @property
    def held(self) -> int:
        """Bytes."""
        return self._answers.taken + self._pages.taken + self._searches.taken


async def _no_secret(_: str) -> dict[str, bytes]:
    raise AssertionError


@asynccontextmanager
async def stalling() -> AsyncIterator[tuple[str, list[str]]]:
    """A cluster that begins each answer, a long one, and never ends it. Yields its URL, and what it was asked."""
    asked: list[str] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError, asyncio.IncompleteReadError):
            asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2097152\r\n\r\n{")
            gone = asyncio.ensure_future(reader.read())
            await asyncio.wait({gone, asyncio.ensure_future(over.wait())}, return_when=asyncio.FIRST_COMPLETED)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        over.set()
        server.close()


async def test_answers_that_never_end_take_no_memory_of_runs_and_stops() -> None:
    """A stop reads answers as well: it waited for room for 10 s, and then could not tell whether the job is quiet."""
    async with stalling() as (url, asked):
        with hostile_host(honest) as good:
            stores = Stores()
            slow, other = stores.of(url), stores.of(good.url)
            searches = [asyncio.ensure_future(slow.tiers(["out"])) for _ in range(SEARCHES)]
            async with asyncio.timeout(10):
                while len(asked) < SEARCHES:  # noqa: ASYNC110  # the other side tells nobody
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            began = time.monotonic()
            await other.check()
            assert time.monotonic() - began < 5
            for search in searches:
                search.cancel()
            ended = await asyncio.gather(*searches, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
            for store in (slow, other):
                await store.close()
            assert stores.held == 0
