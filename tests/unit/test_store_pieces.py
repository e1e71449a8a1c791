"""Long answers of a cluster are cut and parsed piece by piece: what comes out is the same."""

import random
import time
from typing import Any

import orjson
import pytest

from rollup_operator.stores.opensearch.transport import answers, pieces
from rollup_operator.stores.opensearch.transport.answers import TooRich

TEXTS = ["", 'a"b', "\\", '\\"', "}{][", '"buckets":[{', "buckets", "ä\n", ","]


def level(chance: random.Random, depth: int) -> dict[str, Any]:
    """A bucket with lists of buckets in it."""
    found: dict[str, Any] = {"key": chance.choice(TEXTS), "doc_count": chance.randrange(9), "c": {"value": 1.5}}
    for i in range(chance.randrange(3) if depth else 0):
        found[f"l{i}"] = {"buckets": [level(chance, depth - 1) for _ in range(chance.choice([0, 1, 2, 9]))], "n": []}
    return found


@pytest.mark.parametrize("size", [1, 50, 300])
def test_pieces_come_to_the_whole(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(pieces, "PIECE", size)
    for seed in range(150):
        chance = random.Random(seed)
        answer = {"responses": [{"aggregations": level(chance, 4)} for _ in range(3)]}
        for raw in (orjson.dumps(answer), orjson.dumps(answer, option=orjson.OPT_INDENT_2)):
            assert pieces.load(raw) == answer


def test_no_piece_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    raws: list[int] = []

    def parsed(raw: bytes) -> Any:
        raws.append(len(raw))
        return answers.whole(raw)

    monkeypatch.setattr(pieces, "whole", parsed)
    inner = {"buckets": [{"key": f"t{n}", "doc_count": n, "c": {"value": n}} for n in range(50_000)]}
    answer = {"responses": [{"aggregations": {"l0": {"buckets": [{"key": 1, "l0": inner}]}}}]}
    assert pieces.load(orjson.dumps(answer)) == answer
    assert max(raws) < 2 * pieces.PIECE


def test_too_rich_and_broken_texts_are_refused() -> None:
    with pytest.raises(TooRich):
        pieces.load(b'{"buckets":[' * 500_000)
    for raw in (b'{"buckets":[{' * 15_000, b'{"a":"' + b"x" * 300_000, b'{"buckets":[{}]}]}' + b" " * 200_000):
        with pytest.raises((orjson.JSONDecodeError, TooRich)):
            pieces.load(raw)


@pytest.mark.parametrize(
    "unit", [b'\\"', b'"', b"\\", b'"\\', b'"[', b"[", b'{"a":', b'"buckets":[', b'"buckets":[{"a":"']
)
def test_an_answer_that_never_ends_is_refused_in_linear_time(unit: bytes) -> None:
    def seconds(count: int) -> float:
        raw = b'{"responses":[{"aggregations":{"buckets":["' + unit * count
        began = time.thread_time()
        with pytest.raises((orjson.JSONDecodeError, TooRich)):
            pieces.load(raw)
        return time.thread_time() - began

    assert min(seconds(200_000) for _ in range(3)) < 0.5
