"""What the book of stores knows, and forgets."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from rollup_operator.concurrency import background
from rollup_operator.kube.client import Conflict, Unreachable
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.stores import known_store
from rollup_operator.lifecycle.stores.book import StoreBook
from rollup_operator.model.conditions import Reason
from rollup_operator.rollup.identity import Owner
from rollup_operator.stores.base import Checkup
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
        self.refused_thrice, self.done = asyncio.Event(), asyncio.Event()

    async def patch(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body["metadata"]["resourceVersion"])
        if self.asked[-1] != "2":
            if len(self.asked) == 3:
                self.refused_thrice.set()
            raise Conflict(409, "Conflict", "the object has been modified")
        self.done.set()
        return {"metadata": {"resourceVersion": "3"}, "status": body["status"]}


async def test_a_status_is_written_on_the_version_that_it_was_decided_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_store, "CONFLICT_SECONDS", 0.01)
    gate, server = Gate(), ServerOfOneObject()
    kube: Any = server
    made: Any = Unsuitable()
    book = StoreBook(kube=kube, make=lambda *_: made, now=lambda: datetime.now(UTC), gate=gate)
    gate.lead()
    spec = {"opensearch": {"hosts": ["https://opensearch.team:9200"]}}
    metadata = {"namespace": "team", "name": "cluster", "uid": "1", "resourceVersion": "1", "generation": 1}
    book.observe({"metadata": metadata, "spec": spec})
    await asyncio.wait_for(server.refused_thrice.wait(), 5)
    assert set(server.asked) == {"1"}
    book.observe({"metadata": metadata | {"resourceVersion": "2"}, "spec": spec})
    await asyncio.wait_for(server.done.wait(), 5)
    await book.close()


async def test_a_store_that_cannot_be_used_has_an_event_even_if_the_watch_is_quicker_than_the_answer() -> None:
    gate, told = Gate(), asyncio.Queue[tuple[Any, ...]]()
    metadata = {"namespace": "team", "name": "cluster", "uid": "1", "generation": 1}
    spec = {"opensearch": {"hosts": ["https://opensearch.team:9200"]}}

    class Server(NoServer):
        async def patch(self, _: object, body: Mapping[str, Any], **__: object) -> Mapping[str, Any]:
            written = {"metadata": metadata | {"resourceVersion": "2"}, "spec": spec, "status": body["status"]}
            book.observe(written)
            return written

    kube: Any = Server()
    made: Any = Unsuitable()
    now = partial(datetime.now, UTC)
    book = StoreBook(kube=kube, make=lambda *_: made, now=now, gate=gate, record=lambda *event: told.put_nowait(event))
    gate.lead()
    book.observe({"metadata": metadata | {"resourceVersion": "1"}, "spec": spec})
    about, reason, note = await asyncio.wait_for(told.get(), 5)
    assert (about.kind, about.name, reason) == ("RollupStore", "cluster", Reason.INVALID_SPEC)
    assert "too old" in note
    await book.close()


async def test_who_leads_no_more_forgets_what_was_wrong_with_a_store() -> None:
    gate, store = Gate(), Unsuitable()
    unused: Any = NoServer()
    made: Any = store
    book = StoreBook(kube=unused, make=lambda *_: made, now=lambda: datetime.now(UTC), gate=gate)
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


class Idle:
    """A cluster that is well, and whose claims nobody holds."""

    distribution = "opensearch"

    async def check(self) -> Checkup:
        return Checkup("3.0.0")

    async def held(self, _: str) -> Sequence[Owner]:
        return ()

    async def retire(self) -> None:
        """Nothing is open."""

    async def close(self) -> None:
        """Nothing is open."""


class Stores:
    """A book that leads, and the edits of one store."""

    def __init__(self) -> None:
        self.gate, self.version = Gate(), 0
        kube: Any = NoServer()
        made: Any = Idle()
        self.book = StoreBook(kube=kube, make=lambda *_: made, now=lambda: datetime.now(UTC), gate=self.gate)
        self.lead()

    def lead(self) -> None:
        self.gate.lead()
        self.book.lead()

    async def lose(self) -> None:
        self.gate.shut()
        await self.book.stand_down()

    def apply(self, runs: Any = None, *, uid: str = "1", host: str = "opensearch") -> dict[str, Any]:
        self.version += 1
        spec = {"opensearch": {"hosts": [f"https://{host}.team:9200"]}}
        metadata = {"namespace": "team", "name": "cluster", "uid": uid}
        metadata |= {"resourceVersion": str(self.version), "generation": self.version}
        body = {"metadata": metadata, "spec": spec if runs is None else spec | {"maxConcurrentRuns": runs}}
        self.book.observe(body)
        return body


class Runs:
    """Runs of the store's jobs: each waits for a slot, and holds it until it ends."""

    def __init__(self, book: StoreBook) -> None:
        self._book = book
        self.holding = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._ends = asyncio.Queue[None]()

    async def _run(self) -> None:
        slots = self._book.slots(KEY)
        await slots.acquire()
        self.holding += 1
        try:
            await self._ends.get()
        finally:
            self.holding -= 1
            slots.release()

    async def begin(self, number: int) -> int:
        """Begin so many; return how many of all hold a slot then."""
        self._tasks += [asyncio.create_task(self._run()) for _ in range(number)]
        return await self.settled()

    async def end(self, number: int) -> int:
        for _ in range(number):
            self._ends.put_nowait(None)
        return await self.settled()

    async def settled(self) -> int:
        for _ in range(20):  # turns of the loop: each run has at most a few steps to make
            await asyncio.sleep(0)
        return self.holding

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def stores() -> AsyncIterator[Stores]:
    made = Stores()
    yield made
    await made.book.close()


@pytest.fixture
async def runs(stores: Stores) -> AsyncIterator[Runs]:
    made = Runs(stores.book)
    yield made
    await made.close()


async def test_a_lower_limit_holds_for_runs_that_began_before_it(stores: Stores, runs: Runs) -> None:
    stores.apply(4)
    assert await runs.begin(6) == 4
    stores.apply(2)
    assert await runs.begin(1) == 4
    assert await runs.end(2) == 2
    assert await runs.end(1) == 2


async def test_a_higher_limit_lets_waiting_runs_start_at_once(stores: Stores, runs: Runs) -> None:
    stores.apply(1)
    assert await runs.begin(5) == 1
    stores.apply(3)
    assert await runs.settled() == 3


async def test_every_edit_keeps_the_slots_that_are_held(stores: Stores, runs: Runs) -> None:
    stores.apply(2)
    assert await runs.begin(4) == 2
    stores.apply(2, host="elsewhere")
    assert await runs.begin(1) == 2
    stores.apply("many")  # refused: the limit stays as it was
    assert await runs.begin(1) == 2
    stores.apply(3)
    assert await runs.settled() == 3


async def test_a_store_that_is_created_again_counts_the_runs_of_its_predecessor(stores: Stores, runs: Runs) -> None:
    before = stores.apply(2)
    assert await runs.begin(3) == 2
    stores.book.gone(before["metadata"]["uid"])
    assert await runs.begin(1) == 2
    stores.apply(2, uid="2")
    assert await runs.begin(1) == 2
    assert await runs.end(1) == 2


async def test_runs_that_outlive_a_leadership_count_in_the_next(stores: Stores, runs: Runs) -> None:
    stores.apply(2)
    assert await runs.begin(2) == 2
    await stores.lose()
    stores.lead()
    assert await runs.begin(2) == 2
    assert await runs.end(1) == 2


async def test_runs_that_began_before_their_store_was_known_count(stores: Stores, runs: Runs) -> None:
    assert await runs.begin(2) == 1
    stores.apply(2)
    assert await runs.begin(2) == 2


class Asked:
    """A store whose closing a test answers: an exception is raised."""

    distribution = "opensearch"

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def check(self) -> Checkup:
        return Checkup("3.0.0")

    async def held(self, _: str) -> Sequence[Owner]:
        return ()

    async def close(self) -> None:
        self.asked += 1
        if isinstance(answer := self.answers.pop(0), Exception):
            raise answer


def book_of(store: object, server: object = None, **spec: Any) -> StoreBook:
    """A book that leads and knows one store."""
    kube: Any = server or NoServer()
    made: Any = store
    gate = Gate()
    book = StoreBook(kube=kube, make=lambda *_: made, now=lambda: datetime.now(UTC), gate=gate)
    gate.lead()
    metadata = {"namespace": "team", "name": "cluster", "uid": "1", "resourceVersion": "2", "generation": 1}
    body = {"metadata": metadata, "spec": {"opensearch": {"hosts": ["https://opensearch.team:9200"]}}}
    book.observe(body | spec)
    return book


@pytest.mark.parametrize(
    "status",
    [{"health": "purple"}, {"conditions": "none"}, {"conditions": [{"type": "Ready"}]}, {"version": 3}],
)
async def test_a_status_that_this_version_cannot_read_is_replaced(status: dict[str, Any]) -> None:
    server = ServerOfOneObject()
    book = book_of(Idle(), server, status=status)
    await asyncio.wait_for(server.done.wait(), 5)
    await book.close()


async def test_a_check_that_fails_as_nobody_foresaw_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.001)

    class Failing(ServerOfOneObject):
        failures = 3

        async def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            if self.failures:
                self.failures -= 1
                raise KeyError("metadata")
            return await super().patch(path, body)

    server = Failing()
    book = book_of(Idle(), server)
    await asyncio.wait_for(server.done.wait(), 5)
    await book.close()


async def test_a_store_that_cannot_be_closed_keeps_no_other_open() -> None:
    book, stores = book_of(first := Asked(KeyError("_shards"))), [first]
    second: Any = Asked(None)
    stores.append(second)
    book._make = lambda *_: second
    metadata = {"namespace": "team", "name": "other", "uid": "2", "resourceVersion": "3", "generation": 1}
    book.observe({"metadata": metadata, "spec": {"opensearch": {"hosts": ["https://opensearch.team:9200"]}}})
    await book.close()
    assert [store.asked for store in stores] == [1, 1]


async def test_a_deleted_store_does_not_come_back_by_a_body_that_is_late(stores: Stores) -> None:
    body = stores.apply(2)
    stores.book.gone(body["metadata"]["uid"])
    late = body["metadata"] | {"resourceVersion": "99"}
    stores.book.observe(body | {"metadata": late})
    assert stores.book.usable("team") == []


async def test_a_list_that_shows_a_store_that_was_gone_tells_of_a_restore() -> None:
    metadata = {"namespace": "team", "name": "cluster", "uid": "1", "resourceVersion": "2", "generation": 1}

    class Listed(NoServer):
        async def pages(self, _: str, *, metadata_only: bool = False) -> AsyncIterator[dict[str, Any]]:
            yield {"items": [{"metadata": metadata}], "metadata": {"resourceVersion": "9"}}

    kube: Any = Listed()
    made: Any = Idle()
    found: list[str] = []
    book = StoreBook(
        kube=kube, make=lambda *_: made, now=lambda: datetime.now(UTC), gate=Gate(), went_back=found.append
    )
    book.observe({"metadata": metadata, "spec": {"opensearch": {"hosts": ["https://opensearch.team:9200"]}}})
    await book.sweep()
    assert found == []
    book.gone("1")
    await book.sweep()
    assert found == ["team/cluster is in a list, and its uid, 1, was gone before"]
    await book.close()


class Telling(Idle):
    """A cluster whose answers about claims a test gives."""

    def __init__(self) -> None:
        self.listings: asyncio.Queue[Sequence[Owner] | Exception] = asyncio.Queue()

    async def held(self, _: str) -> Sequence[Owner]:
        answer = await self.listings.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("failure", [StoreUnavailable("red"), KeyError("hits")])
async def test_whoever_begins_to_lead_lists_claims_and_wakes_the_jobs_of_a_store_that_has_any(
    failure: Exception,
) -> None:
    mine, other = Owner("here", "team", "job", "1"), Owner("here", "team", "other", "2")
    gate, woken, store = Gate(), asyncio.Event(), Telling()
    made: Any = store
    kube: Any = NoServer()
    book = StoreBook(kube=kube, make=lambda *_: made, now=lambda: datetime.now(UTC), gate=gate, check_seconds=0.03)
    gate.lead()
    body = {"metadata": {"namespace": "team", "name": "cluster", "uid": "1", "resourceVersion": "2", "generation": 1}}
    book.observe(body | {"spec": {"opensearch": {"hosts": ["https://opensearch.team:9200"]}}})
    book.subscribe(lambda _: woken.set())
    try:
        async with asyncio.timeout(5):
            assert book.held(KEY, mine) is None
            store.listings.put_nowait(failure)
            store.listings.put_nowait([earlier := replace(mine, uid="of an earlier one")])
            await woken.wait()
            assert book.held(KEY, mine)
            assert book.held(KEY, other) is False
            assert book.held(("team", "unknown"), mine) is False
            woken.clear()
            store.listings.put_nowait([earlier])
            store.listings.put_nowait([earlier, other])
            await woken.wait()
            assert book.held(KEY, other)
            gate.shut()
            await book.stand_down()
            gate.lead()
            book.lead()
            assert book.held(KEY, mine) is None
    finally:
        await book.close()


async def test_a_store_that_cannot_be_used_tells_of_no_claim() -> None:
    book = book_of(store := Unsuitable())
    await store.looked.wait()
    await asyncio.sleep(0)
    assert book.held(KEY, Owner("here", "team", "job", "1")) is False
    await book.close()


async def test_who_names_many_stores_that_are_missing_takes_no_time_from_others() -> None:
    book = book_of(Idle())
    for number in range(2_000):
        meta = {"namespace": "team", "name": f"store-{number:04}", "uid": f"u{number}", "resourceVersion": "3"}
        book.observe({"metadata": {**meta, "generation": 1}, "spec": {}})
    began = time.process_time()
    for number in range(1_000):
        trouble = book.trouble((KEY[0], f"sotre-{number:04}"))
        assert trouble is not None
    assert time.process_time() - began < 1
    assert "did you mean" in str(book.trouble((KEY[0], "sotre-0001")))
    book.gone("u7")
    assert "and 1990 more" in str(book.trouble((KEY[0], "nothing")))
    await book.close()


async def test_a_store_that_is_missing_is_reported_with_those_that_there_are() -> None:
    book = book_of(Unsuitable())
    for name, said in (("clusters", "(did you mean 'cluster'?)"), ("default", "(there is 'cluster')")):
        trouble = book.trouble((KEY[0], name))
        assert trouble is not None
        assert f"no RollupStore named {name!r} in namespace 'team' {said}" in trouble.message
    elsewhere = book.trouble(("other", "cluster"))
    assert elsewhere is not None
    assert "did you mean" not in elsewhere.message
    await book.close()
