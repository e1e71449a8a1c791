"""Whose claims are held in a cluster: listing them whatever lies beside them, and being the last to hold one."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from rollup_operator.rollup.identity import Owner
from rollup_operator.stores.errors import Fenced
from rollup_operator.stores.opensearch import claims, records
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.errors import Odd
from rollup_operator.stores.opensearch.transport.request import Request
from support.embedded import config

Document = dict[str, Any]


def held(job_id: str) -> Document:
    """The record of a job that a process has claimed."""
    record = records.next_epoch(records.first(config(), 1), "somebody", 1)
    key = (record.claim.key[0], job_id)
    return records.to_document(replace(record, claim=replace(record.claim, key=key), owner=owner(job_id)))


def owner(job_id: str) -> Owner:
    return Owner("here", "team", job_id, f"uid-of-{job_id}")


def garbage(job_id: str) -> Document:
    """What no operator wrote."""
    return {"rollup_index": held("any")["rollup_index"], "job_id": job_id, "holder": "anybody", "epoch": "newest"}


def cluster(*documents: Document) -> Cluster:
    """A cluster whose index of claims has these documents, in the order in which it lists them."""

    def sort(document: Document) -> list[str]:
        return [document["rollup_index"], document["job_id"]]

    async def send(request: Request, *_: object) -> Document:
        if "_refresh" in request.target:
            return {"_shards": {"failed": 0}}
        assert request.data is not None
        body = orjson.loads(request.data)
        found = [d for d in documents if sort(d) > body.get("search_after", [])]
        return {"hits": {"hits": [{"_id": "any", "_source": d, "sort": sort(d)} for d in found[: body["size"]]]}}

    return speaking(send)


def speaking(send: Any) -> Cluster:
    """A cluster whose answers `send` gives."""

    async def close() -> None:
        """Nothing is open."""

    async def session() -> Any:
        return SimpleNamespace(close=close)

    return Cluster(("http://here:9200",), session, send=send)


@pytest.mark.parametrize("size", [1, 2, 3, 500])
async def test_a_record_that_no_operator_wrote_hides_no_claim(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(claims, "_LISTED_AT_ONCE", size)
    found = await claims.held(cluster(garbage("a"), held("b"), garbage("c"), held("d"), garbage("e")), "me")
    assert found == [owner("b"), owner("d")]
    with pytest.raises(Odd):
        await claims.known(cluster(garbage("a"), held("b")))


async def test_a_claim_of_ones_own_is_not_listed() -> None:
    assert await claims.held(cluster(held("a"), held("b")), "somebody") == []


async def test_a_claim_that_is_taken_while_it_waits_for_earlier_requests_begins_no_run() -> None:
    mine = config()
    record, version = held(mine.job_id), 1
    looks = 0

    async def send(request: Request, *_: object) -> Any:
        nonlocal record, version, looks
        if "/_tasks" in request.target:
            looks += 1
            if looks == 1:  # another leader takes the job while what is at work is waited for
                record, version = record | {"holder": "another", "epoch": record["epoch"] + 1}, version + 1
                earlier = {"headers": {"X-Opaque-Id": f"rollup/{record['owner']['uid']}/1"}}
                return {"nodes": {"node": {"tasks": {"1": earlier}}}}
            return {"nodes": {}}
        if "/_doc/" in request.target and request.method == "PUT":
            assert request.data is not None
            record, version = orjson.loads(request.data), version + 1
            return {"_seq_no": version, "_primary_term": 1}
        if "/_doc/" in request.target:
            return {"_seq_no": version, "_primary_term": 1, "_source": record}
        return {}

    record |= {"owner": {"cluster": "here", "namespace": "team", "name": mine.job_id, "uid": "of-an-earlier-one"}}
    record |= {"config_hash": mine.config_hash}
    said: list[str] = []
    before = record["holder"]
    with pytest.raises(Fenced, match="another") as raised:
        await claims.take(speaking(send), mine, "me", lambda _: False, waits=said.append)
    assert raised.value.uncertain
    assert said == [f"waiting until nothing of {before}, which held the claim, is in progress"]
