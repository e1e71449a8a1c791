"""What a cluster says when it refuses costs time linear in its length, and little of it is read."""

import time

import pytest

from rollup_operator.stores.opensearch.transport.errors import classify
from rollup_operator.stores.redaction import Redactor

SECONDS = 0.5
"""Of processor time."""

REASONS = {
    "blanks": " " * 60_000 + "z",
    "a megabyte of blanks": " " * 2**20 + "z",
    "rejections": "rejected execution of " * 20_000,
    "half a rejection": "rejected execution of a on b[name = " + "x on y[name = " * 20_000,
    "sources": " at [Source: " * 50_000,
    "blocks": "[FORBIDDEN/" * 50_000,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["x", "cluster_block_exception", "illegal_argument_exception", "mapper_exception"])
@pytest.mark.parametrize("reason", REASONS.values(), ids=list(REASONS))
def test_a_reason_is_read_in_time(reason: str, kind: str) -> None:
    cause = {"type": kind, "reason": reason, "caused_by": {"type": kind, "reason": reason}}
    began = time.thread_time()
    error = classify(400, {"error": cause | {"root_cause": [cause]}}, "looking", Redactor.of(["hunter2!", "x" * 900]))
    assert time.thread_time() - began < SECONDS
    assert len(str(error)) < 2500
