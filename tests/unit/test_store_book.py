"""What the book of stores knows, and forgets."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from rollup_operator.kube.client import Conflict, Unreachable
from rollup_operator.lifecycle import store_watch
from rollup_operator.lifecycle.leadership import Gate
from rollup_operator.lifecycle.stores import StoreBook
from rollup_operator.stores.errors import StoreUnavailable, StoreUnsuitable

KEY = "team", "cluster"


class Unsuitable:
    """A cluster that cannot be used as it is."""

    distribution = "opensearch"

    def __init__(self) -> None:
        self.looked = asyncio.Event()

    async def check(self) -> None:
        self.looked.set()
        raise StoreUnsuitable("its version is too old")

    async def close(self) -> None:
        """Nothing is open."""


class NoServer:
    """An API server that is away."""

    async def patch(self, *_: object) -> None:
        raise Unreachable("away", sent=False)


class ServerOfOneObject:
    """An API server that has version 2 of the store, and refuses patches that were decided on another."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.done = asyncio.Event()

    async def patch(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body["metadata"]["resourceVersion"])
        if self.asked[-1] != "2":
            raise Conflict(409, "Conflict", "the object has been modified")
        self.done.set()
        return {"metadata": {"resourceVersion": "3"}, "status": body["status"]}


async def test_a_status_is_written_on_the_version_that_it_was_decided_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_watch, "CONFLICT_SECONDS", 0.01)
    gate, server = Gate(), ServerOfOneObject()
    kube: Any = server
    made: Any = Unsuitable()
    book = StoreBook(kube=kube, make=lambda *_: made, now=lambda: datetime.now(UTC), changed=lambda _: None, gate=gate)
    gate.lead()
    spec = {"opensearch": {"hosts": ["https://opensearch.team:9200"]}}
    metadata = {"namespace": "team", "name": "cluster", "uid": "1", "resourceVersion": "1", "generation": 1}
    book.observe({"metadata": metadata, "spec": spec})
    await made.looked.wait()
    await asyncio.sleep(0.05)
    assert set(server.asked) == {"1"}
    book.observe({"metadata": metadata | {"resourceVersion": "2"}, "spec": spec})
    await asyncio.wait_for(server.done.wait(), 5)
    await book.close()


async def test_who_leads_no_more_forgets_what_was_wrong_with_a_store() -> None:
    gate, store = Gate(), Unsuitable()
    unused: Any = NoServer()
    made: Any = store
    book = StoreBook(
        kube=unused, make=lambda *_: made, now=lambda: datetime.now(UTC), changed=lambda _: None, gate=gate
    )
    gate.lead()
    spec = {"opensearch": {"hosts": ["https://opensearch.team:9200"]}}
    metadata = {"namespace": "team", "name": "cluster", "uid": "1", "resourceVersion": "1", "generation": 1}
    book.observe({"metadata": metadata, "spec": spec})
    await store.looked.wait()
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="too old"):
        await book.open(KEY)
    gate.shut()
    await book.stand_down()
    assert await book.open(KEY) is store
    await book.close()
