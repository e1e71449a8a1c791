"""What a deleted job left in a database is counted and purged, and nothing of a job that claims it meanwhile."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from rollup_operator.model.conditions import Reason
from rollup_operator.stores.base import Purged, Retained
from rollup_operator.stores.duckdb import claims
from rollup_operator.stores.errors import Fenced
from support.embedded import Embedded, agree, config, spec, truth
from support.rounding import HOUR, hour, ms
from support.store_turns import nobody_writes, waits_to_write

ROWS = [(ms("2024-03-01T00:00") + i * HOUR // 7, float(i % 13), "ab"[i % 2], i % 40) for i in range(700)]
JOB = config(spec("in/rows.parquet"))
AGAIN = config(spec("in/rows.parquet", metrics=[{"field": "value", "metrics": ["max"]}]), uid="2", hash_="other")


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    made = Embedded(tmp_path)
    made.write("in/rows.parquet", ROWS)
    return made


async def test_a_job_that_was_created_again_runs_after_the_purge(embedded: Embedded) -> None:
    await embedded.completed(JOB)
    store = embedded.store()
    await embedded.completed(config(spec("in/rows.parquet"), "neighbour"), store=store)
    refused = await embedded.run(AGAIN, store=store)
    assert getattr(refused.error, "reason", None) is Reason.CONFIG_CHANGED
    count = len(embedded.documents(JOB))
    assert await store.retained(JOB.key) == Retained(JOB.owner, count)
    assert await store.purge(JOB.key, JOB.owner, "me") == Purged(count)
    assert not embedded.export(JOB).exists()
    assert await store.retained(JOB.key) is None
    agree(embedded.documents(replace(JOB, job_id="neighbour")), truth(ROWS, hour))
    await embedded.completed(AGAIN, store=store)
    assert len(embedded.documents(AGAIN)) == count
    await store.close()


async def test_what_another_job_has_claimed_meanwhile_stays(embedded: Embedded) -> None:
    await embedded.completed(JOB)
    store = embedded.store()
    heir = replace(JOB, owner=replace(JOB.owner, uid="2"))
    with nobody_writes(embedded.base) as lane:
        purging = asyncio.ensure_future(store.purge(JOB.key, JOB.owner, "me"))
        await waits_to_write(embedded.base, "purging")
        await asyncio.to_thread(claims.take, lane, JOB.key, "next", heir.owner, heir.config_hash, "{}")
    with pytest.raises(Fenced, match="uid 2, has them"):
        await purging
    agree(embedded.documents(JOB), truth(ROWS, hour))
    assert [row.claim.holder for row in await embedded.held()] == ["next"]
    await store.close()


async def test_where_nothing_was_ever_claimed_there_is_nothing(embedded: Embedded) -> None:
    store = embedded.store()
    assert await store.retained(JOB.key) is None
    with pytest.raises(Fenced, match="their record is gone"):
        await store.purge(JOB.key, JOB.owner, "me")
    await embedded.completed(JOB, store=store)
    assert await store.retained(("out", "other")) is None
    await store.close()
