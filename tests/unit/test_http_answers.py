"""The text of an answer: the same as in one piece, but written in portions."""

import tracemalloc
from typing import Any

import orjson
import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11, Payload
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.http.protocol.answers import CHUNK, Form, answer
from support import serving
from support.http_double import Cluster
from support.portions import watched


def text(body: object) -> bytes:
    return body.decode().encode() if isinstance(body, Payload) else body


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=30,
)


@pytest.mark.parametrize(("pretty", "option"), [(False, 0), (True, orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)])
@given(body=st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
async def test_an_answer_is_written_as_in_one_piece(pretty: bool, option: int, body: dict[str, Any]) -> None:
    assert text((await answer(body, Form(pretty=pretty))).body) == orjson.dumps(body, option=option)


@pytest.mark.parametrize("pretty", [False, True])
async def test_a_long_answer_holds_the_loop_for_a_portion_at_a_time(pretty: bool) -> None:
    jobs = [{"config": {"id": f"job-{n}", "metrics": ["min", "max"] * 200}} for n in range(8_000)]
    by_pattern = {f"source-{n}": {"rollup_jobs": [job]} for n, job in enumerate(jobs)}
    for body in ({"jobs": jobs}, by_pattern):
        async with watched() as loop:
            await answer(body, Form(pretty=pretty))
        assert loop.longest < 0.06


async def test_a_long_answer_takes_little_more_memory_than_its_text() -> None:
    body = {"buckets": [{"key": n, "doc_count": 0} for n in range(5_000)]}
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        written = (await answer(body, Form())).body
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most - before < 12 * len(text(written))


@pytest.mark.parametrize("headers", [{}, {"Accept-Encoding": "gzip"}])
@pytest.mark.parametrize("version", [HttpVersion10, HttpVersion11])
async def test_a_long_answer_arrives_whole(headers: dict[str, str], version: HttpVersion) -> None:
    cluster = Cluster()
    for n in range(1_000):
        cluster.create(f"job-{n:04}", metrics=[{"field": "load", "metrics": ["min", "max"]}] * 10)
    async with serving.served(cluster) as endpoint, serving.calling(endpoint, version=version) as client:
        status, answered = await serving.call(client, "GET", "/_rollup/job", headers=headers)
        assert (status, len(answered["jobs"]), len(orjson.dumps(answered)) > CHUNK) == (200, 1_000, True)
        status, answered = await serving.call(client, "GET", "/_rollup/job?filter_path=**.id", headers=headers)
        assert answered == {"jobs": [{"config": {"id": f"job-{n:04}"}} for n in range(1_000)]}
        async with client.head("/_rollup/job", headers=headers) as answer:
            assert (answer.status, await answer.read()) == (200, b"")
