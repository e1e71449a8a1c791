"""The nodes that store tests stand on: what those tests, and whoever tries a store by hand, rely on."""

from support.store_http import StoreHttp, unique


def test_documents_go_in_and_out(node: StoreHttp) -> None:
    index = node.create(unique("events"), {"ts": "date", "host": "keyword", "load": "double"})
    rows = [{"n": n, "ts": n * 1000, "host": f"h{n % 3}", "load": n / 7} for n in range(7001)]
    assert node.load(index, rows, id_field="n") == 7001
    assert node.count(index) == 7001
    assert node.count(index, {"term": {"host": "h0"}}) == 2334
    assert node.documents(index) == {str(row["n"]): row for row in rows}
    found = node.get(index, "7")
    assert found is not None
    assert found["_source"] == rows[7]
    assert node.mapping(index)["properties"]["load"] == {"type": "double"}
    assert node.settings(index)["index.number_of_replicas"] == "0"
    node.delete(index)
    assert not node.exists(index)
