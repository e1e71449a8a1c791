"""Random searches over files and what is rolled up of them are answered as a node answers them over all rows."""

from contextlib import AbstractAsyncContextManager
from itertools import count
from pathlib import Path

import pytest

from support.random_worlds import Chance, World, lists
from support.search_oracle import EXAMPLES, compared
from support.search_places import Files, in_files
from support.store_http import StoreHttp


@pytest.mark.timeout(300 + EXAMPLES)
async def test_random_searches_are_answered_as_a_node_answers_them(opensearch3: StoreHttp, tmp_path: Path) -> None:
    folders = count()

    def placed(of: World, chance: Chance) -> AbstractAsyncContextManager[Files]:
        page_seconds = 1e-6 if {"stopped", "during"} & {*of.phases} else 0.5
        kind = chance.choice(["TIMESTAMP", "TIMESTAMPTZ"])
        return in_files(tmp_path / str(next(folders)), lists(of), kind, page_seconds)

    await compared(opensearch3, placed, "duckdb")
