"""What is kept of what callers send is small, whatever they send."""

import contextlib
import tracemalloc
from collections.abc import Callable

import pytest

from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.protocol.filter_path import Filter
from rollup_operator.model.cron_fields import ScheduleError
from rollup_operator.model.schedule import Schedule
from support import bodies
from support.http_calls import call, served
from support.http_double import Cluster

CALLS = 100
MOST = 4 * 2**20
"""Bytes that may be left of so many calls."""


def long_schedule(number: int) -> object:
    return Schedule.parse(f"0 0 0 {'1,' * 30_000}{number % 28 + 1} 1 ?{' ' * number}")


def long_path(number: int) -> object:
    return Filter("a" + "." * 7000 + "b" * number)


def many_names(number: int) -> object:
    return Filter(",".join(f"{'*e' * 8}.{name}{number}" for name in range(60)))


@pytest.mark.parametrize("read", [long_schedule, long_path, many_names])
def test_little_is_kept(read: Callable[[int], object]) -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(CALLS):
            with contextlib.suppress(ApiError, ScheduleError):  # a refusal will do
                read(number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < MOST


async def test_a_long_cron_expression_is_not_sent_back() -> None:
    async with served(Cluster()) as client:
        status, answer = await call(client, "PUT", "/_rollup/job/x", bodies.sensor(cron=f"0 0 0 1{',1' * 30_000} 1 ?"))
    assert status == 400
    assert "is longer than 256 characters: shorten it" in answer["error"]["reason"]
    assert len(str(answer)) < 4000
