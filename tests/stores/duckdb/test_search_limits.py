"""An answer over files has as many buckets as allowed, and not one more."""

from pathlib import Path

import pytest

from support.search_limits import answers_as_many_as_allowed
from support.search_places import in_files


@pytest.mark.slow
async def test_an_answer_has_as_many_buckets_as_allowed_and_not_one_more(tmp_path: Path) -> None:
    async with in_files(tmp_path, (), "TIMESTAMP", 0.5) as place:
        await answers_as_many_as_allowed(place)
