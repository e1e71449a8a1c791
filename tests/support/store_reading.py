"""Pages read from a real cluster, and rows for it."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Page, Source
from rollup_operator.stores.errors import StoreError
from rollup_operator.stores.opensearch.source.pages import Pages
from rollup_operator.stores.opensearch.target.encoder import Batch
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.retry import Patience
from support.embedded import Row
from support.store_http import StoreHttp

Documents = dict[str, dict[str, Any]]

EPOCH = 7
FIELDS = {"ts": "date", "value": "double", "term": "keyword", "size": "long"}


class AtOnce(Patience):
    """Tries again so often, without a pause."""

    TRIES = 8

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0

    async def pause(self, error: StoreError) -> None:
        self.failures += 1
        if not self.helps(error) or self.failures == self.TRIES:
            raise error
        await asyncio.sleep(0)


def opaque_id_of(job: JobConfig) -> str:
    """By what the requests of its run are known."""
    return f"rollup/{job.owner.uid}/{EPOCH}"


def pages_of(
    cluster: Cluster, job: JobConfig, bound_ms: int, *, first: int = 0, source: Source | None = None, **more: Any
) -> Pages:
    """The pages of a run of `job`."""
    own: dict[str, Any] = {"epoch": EPOCH, "opaque_id": opaque_id_of(job), "fields": {}, **more}
    return Pages(cluster, job, first=first, bound_ms=bound_ms, source=source, **own)


async def each(pages: Pages) -> AsyncIterator[Page]:
    """All pages to the end, in order."""
    position = None
    while True:
        page = await pages.next(position)
        if page.buckets:
            yield page
            position = page.last_key
        if page.exhausted:
            return


async def documents_of(pages: Pages) -> Documents:
    """All documents by id, each read once."""
    found: Documents = {}
    last = None
    async for page in each(pages):
        assert isinstance(page.handle, Batch)
        made = dict(documents(page.handle))
        assert len(made) == page.buckets
        assert not found.keys() & made.keys()
        found |= made
        assert last is None or last != page.last_key
        last = page.last_key
    return found


def documents(batch: Batch) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ids and sources of a batch."""
    for i in range(len(batch)):
        yield batch.id(i), batch.source(i)


def load(node: StoreHttp, index: str, rows: Iterable[Row], **fields: Any) -> None:
    """Make an index of these rows; what is None is missing."""
    node.create(index, FIELDS | fields)
    names = ("ts", "value", "term", "size")
    node.load(index, ({k: v for k, v in zip(names, row, strict=True) if v is not None} for row in rows))


def some_rows(count: int, start: int, span: int, seed: int = 1) -> list[Row]:
    """Rows with everything that real data has: skew, what is missing, negative and huge numbers, odd texts."""
    chance = random.Random(seed)

    def maybe(value: Any, share: float = 0.1) -> Any:
        return None if chance.random() < share else value

    def number() -> float:
        kind = chance.randrange(6)
        if kind == 0:
            return chance.uniform(-9, 9) * 10.0 ** chance.randrange(-300, 290)
        return float(chance.randrange(-100, 100)) if kind == 1 else chance.gauss(20, 5)

    return [
        (
            maybe(start + int(span * chance.random() ** 3), 0.01),
            maybe(number()),
            maybe(chance.choice(["a", "a", "a", "b", "it's", 'q"uote\\', "ünï\tcode\U0001f600", ", null"])),
            maybe(chance.randrange(-25, 60)),
        )
        for _ in range(count)
    ]
