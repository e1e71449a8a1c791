"""Filters of answers that are as bad as they can be written cost no more than their refusal, or than any other."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.protocol.filter_path import Filter
from support.portions import result

JOBS = 1000
SECONDS = 3.0
"""Of processor time for an answer with a thousand jobs: without a filter that is some tenths."""

PATHS = {
    "one long path": ".".join(["**.*"] * 1500),
    "many paths": ",".join(".".join([f"**.*x{number}"] * 8) for number in range(64)),
    "many exclusions": ",".join("-" + ".".join([f"**.*x{number}"] * 8) for number in range(63)),
    "a long pattern": "**." + "*e" * 1000,
    "as many as it may have": ",".join(f"**.{'*e' * 40}{number}" for number in range(8)),
    "stars": "**." + "*" * 7000,
    "dots": "." * 7000,
    "backslashes": "\\." * 3500,
}


def answer() -> dict[str, Any]:
    def jobs() -> Iterator[dict[str, Any]]:
        for number in range(JOBS):
            config = {f"element_{field}": {"e" * 60: number} for field in range(20)}
            yield {"config": config | {"id": f"job-{number}"}, "status": {"job_state": "stopped"}, "stats": {}}

    return {"jobs": jobs()}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("path", PATHS.values(), ids=list(PATHS))
def test_a_filter_costs_little(path: str) -> None:
    assert len(quote(path, safe="*,.-\\")) <= 8192, "the server takes no longer request line"
    began = time.thread_time()
    with contextlib.suppress(ApiError):  # a refusal will do
        result(Filter(path).applied(answer()))
    assert time.thread_time() - began < SECONDS
