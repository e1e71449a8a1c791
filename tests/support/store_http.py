"""A node as tests see it: plain calls, documents in and out, and what runs there. It goes past every proxy."""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote, urlencode

from local_stores import Node, api

Body = dict[str, Any]

_CHUNK = 5000


class StoreError(Exception):
    """The node refused: `status`, and `body` as it came."""

    def __init__(self, method: str, path: str, status: int, body: Any) -> None:
        self.status = status
        self.body = body
        super().__init__(f"{method} {path}: {status} {json.dumps(body)[:2000]}")


def unique(word: str) -> str:
    """A name that no other test uses: `events` becomes `events-1f0c9a3e`."""
    return f"{word}-{uuid.uuid4().hex[:8]}"


class StoreHttp:
    """Synchronous calls to one node. Threads may share it. Calls raise StoreError for any answer of 400 and above."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.url = node.url

    @property
    def kind(self) -> str:
        """One of `local_stores.KINDS`."""
        return self.node.kind.name

    @property
    def distribution(self) -> str:
        """`opensearch` or `elasticsearch`, as a RollupStore names it."""
        return self.node.kind.product.lower()

    @property
    def has_scripts(self) -> bool:
        """Whether it runs Painless, in pipelines and queries."""
        return self.kind not in ("elasticsearch8", "elasticsearch9")

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        **query: Any,
    ) -> tuple[int, Any]:
        """Any request, any answer: status and body. `query` becomes the query string."""
        words = {k: str(v).lower() if isinstance(v, bool) else v for k, v in query.items()}
        target = f"{path}?{urlencode(words)}" if words else path
        sent = {**api.basic(self.node.login), **(headers or {})}
        return api.request(self.url, method, target, body, headers=sent, timeout=timeout)

    def call(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        """A request that must succeed; returns the body."""
        status, answer = self.ask(method, path, body, **more)
        if status >= 400:
            raise StoreError(method, path, status, answer)
        return answer

    # -- indices and documents ---------------------------------------------------------------------------------------

    def create(
        self, index: str, properties: Mapping[str, Any] | None = None, *, settings: Mapping[str, Any] | None = None
    ) -> str:
        """Make an index with these fields, `{"ts": "date", "host": {"type": "keyword"}}`; returns its name.

        One shard and no replica unless `settings` say otherwise.
        """
        fields = {k: {"type": v} if isinstance(v, str) else v for k, v in (properties or {}).items()}
        body = {
            "settings": {"number_of_shards": 1, "number_of_replicas": 0, **(settings or {})},
            "mappings": {"properties": fields},
        }
        self.call("PUT", f"/{index}", body)
        return index

    def load(
        self, index: str, documents: Iterable[Mapping[str, Any]], *, id_field: str | None = None, refresh: bool = True
    ) -> int:
        """Index documents by bulk, each verified; returns how many. `id_field` names the field that is their id too."""
        count = 0
        remaining: Iterator[Mapping[str, Any]] = iter(documents)
        while chunk := list(islice(remaining, _CHUNK)):
            lines: list[str] = []
            for document in chunk:
                action = {} if id_field is None else {"_id": str(document[id_field])}
                lines += (json.dumps({"index": action}), json.dumps(document))
            answer = self.call("POST", f"/{index}/_bulk", ("\n".join(lines) + "\n").encode(), timeout=120)
            failed = [item for item in answer["items"] if item["index"]["status"] >= 300]
            if failed:
                raise StoreError("POST", f"/{index}/_bulk", failed[0]["index"]["status"], failed[0])
            count += len(chunk)
        if refresh:
            self.refresh(index)
        return count

    def refresh(self, index: str) -> None:
        self.call("POST", f"/{index}/_refresh")

    def count(self, index: str, query: Mapping[str, Any] | None = None) -> int:
        """How many documents there are, those not yet refreshed too."""
        self.refresh(index)
        return int(self.call("POST", f"/{index}/_count", None if query is None else {"query": query})["count"])

    def search(self, index: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        return self.call("POST", f"/{index}/_search", dict(body or {}), **query)

    def get(self, index: str, id_: str) -> Body | None:
        """One document as the node keeps it, `_source`, `_version`, `_seq_no` and all; None if there is none."""
        status, answer = self.ask("GET", f"/{index}/_doc/{quote(id_, safe='')}")
        if status == 404:
            return None
        if status >= 400:
            raise StoreError("GET", f"/{index}/_doc/{id_}", status, answer)
        found: Body = answer
        return found

    def documents(self, index: str, query: Mapping[str, Any] | None = None) -> dict[str, Body]:
        """All documents by id: `{"_id": source}`."""
        self.refresh(index)
        found: dict[str, Body] = {}
        body = {"size": _CHUNK, "query": query or {"match_all": {}}, "sort": ["_doc"]}
        answer = self.search(index, body, scroll="1m")
        while hits := answer["hits"]["hits"]:
            found.update({hit["_id"]: hit["_source"] for hit in hits})
            answer = self.call("POST", "/_search/scroll", {"scroll": "1m", "scroll_id": answer["_scroll_id"]})
        self.call("DELETE", "/_search/scroll", {"scroll_id": answer["_scroll_id"]})
        return found

    def delete_documents(self, index: str, query: Mapping[str, Any]) -> None:
        """Delete what a query finds, which not every kind of node can do by itself."""
        ids = self.documents(index, query)
        lines = "".join(json.dumps({"delete": {"_id": id_}}) + "\n" for id_ in ids)
        if ids:
            self.call("POST", f"/{index}/_bulk", lines.encode(), refresh=True)

    def copy(self, index: str, to: str) -> None:
        """Put the documents of an index into another one, under their ids."""
        found = self.documents(index)
        lines = [json.dumps(each) for id_, source in found.items() for each in ({"index": {"_id": id_}}, source)]
        if lines:
            self.call("POST", f"/{to}/_bulk", ("\n".join(lines) + "\n").encode(), refresh=True)

    def mapping(self, index: str) -> Body:
        """The mappings of one index, `_meta` among them."""
        (found,) = self.call("GET", f"/{index}/_mapping").values()
        mappings: Body = found["mappings"]
        return mappings

    def settings(self, index: str) -> Body:
        """The settings of one index, flat: `{"index.codec": "default"}`."""
        (found,) = self.call("GET", f"/{index}/_settings", flat_settings=True).values()
        settings: Body = found["settings"]
        return settings

    def set_settings(self, index: str, **settings: Any) -> None:
        """Change an index's settings: `set_settings(name, **{"index.blocks.write": True})`."""
        self.call("PUT", f"/{index}/_settings", settings)

    def exists(self, index: str) -> bool:
        return self.ask("GET", f"/{index}")[0] == 200

    def delete(self, index: str) -> None:
        """Delete an index or a pattern, whether it is there or not."""
        self.call("DELETE", f"/{index}", ignore_unavailable=True, expand_wildcards="all")

    def indices(self) -> set[str]:
        """All indices, hidden and closed ones too."""
        rows = self.call("GET", "/_cat/indices", format="json", h="index", expand_wildcards="all")
        return {row["index"] for row in rows}

    def data_streams(self) -> set[str]:
        status, answer = self.ask("GET", "/_data_stream")
        return {stream["name"] for stream in answer["data_streams"]} if status == 200 else set()

    # -- what runs there ---------------------------------------------------------------------------------------------

    def tasks(self, opaque_id: str = "", *, actions: str = "indices:data/*") -> list[Body]:
        """What runs now for requests whose X-Opaque-Id begins like that, children too."""
        nodes = self.call("GET", "/_tasks", detailed=True, actions=actions)["nodes"].values()
        return [
            task
            for node in nodes
            for task in node["tasks"].values()
            if task["headers"].get("X-Opaque-Id", "").startswith(opaque_id)
        ]

    def wait(self, question: Callable[["StoreHttp"], Any], *, seconds: float = 10.0, what: str = "") -> Any:
        """Ask until the answer is true, for what a node has no event of; returns it."""
        deadline = time.monotonic() + seconds
        while not (answer := question(self)):
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or question}"
            time.sleep(0.01)
        return answer

    def wipe(self, keep: Sequence[set[str]] = (set(), set())) -> None:
        """Delete all indices and data streams but those to keep, given as (indices, data streams)."""
        for name in self.data_streams() - keep[1]:
            self.call("DELETE", f"/_data_stream/{name}")
        gone = self.indices() - keep[0]
        if gone:
            names = ",".join(quote(name, safe="") for name in sorted(gone))
            self.call("DELETE", f"/{names}", ignore_unavailable=True)
