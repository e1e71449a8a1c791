"""What the book of stores knows, and forgets."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from rollup_operator.kube.client import Unreachable
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
