"""An OpenSearch or Elasticsearch of the user's, in place of the embedded store: what it is, and the flights into it."""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rollup_demo import data
from rollup_demo.errors import DemoError, UsageError

VARIABLE = "ROLLUP_STORE_URL"
"""Names it."""

INDEX = "flights"

_CHUNK = 5_000
_WORD_SECONDS = 5.0
_NUMBERS = ("dep_delay", "arr_delay", "air_time", "distance")
_MAPPINGS = {
    "properties": {
        "time_hour": {"type": "date"},
        "carrier": {"type": "keyword"},
        "origin": {"type": "keyword"},
        "dest": {"type": "keyword"},
        "flight": {"type": "long"},
        **{name: {"type": "double"} for name in _NUMBERS},
    }
}


@dataclass(frozen=True)
class SearchNode:
    """A node that answers at a URL."""

    url: str
    kind: str
    """`opensearch` or `elasticsearch`, as a RollupStore has it."""
    version: str

    @classmethod
    def at(cls, url: str) -> "SearchNode":
        """Ask who answers. Raises UsageError when the URL will not do or nobody of the two answers there."""
        where = urlsplit(url)
        if where.scheme not in ("http", "https") or not where.hostname or where.path not in ("", "/"):
            raise UsageError(f"{VARIABLE}={url}: must be a base URL, such as http://127.0.0.1:9200")
        if where.username:
            raise UsageError(
                f"{VARIABLE} holds a password: the demo takes none; make a RollupStore with a Secret instead, as "
                "docs/rollupstore.md says"
            )
        base = f"{where.scheme}://{where.netloc}"
        try:
            status, said = _send(base, "GET", "/")
            about = said["version"]
            number = str(about["number"])
        except (OSError, http.client.HTTPException) as error:
            raise UsageError(f"{VARIABLE}={url}: no answer there ({error}); start a node, or unset it") from None
        except (TypeError, KeyError):
            raise UsageError(f"{VARIABLE}={url}: neither OpenSearch nor Elasticsearch answers there") from None
        if status != 200:
            raise UsageError(f"{VARIABLE}={url}: answered {status}; the demo needs a node without a login")
        kind = "opensearch" if about.get("distribution") == "opensearch" else "elasticsearch"
        return cls(base, kind, number)

    @property
    def host(self) -> str:
        """The host alone, as the operator's list of allowed ones has it."""
        return urlsplit(self.url).hostname or ""

    @property
    def title(self) -> str:
        """For people."""
        return f"{'OpenSearch' if self.kind == 'opensearch' else 'Elasticsearch'} {self.version}"

    def load_flights(self, say: Callable[[str], None]) -> int:
        """Put the flights into index `flights` by bulk unless they are all there; return how many there are.

        Raises DemoError when the node refuses something, or holds another index of that name.
        """
        rows, columns = data.flights()
        status, answer = _send(self.url, "GET", f"/{INDEX}/_count")
        if status == 200:
            if answer["count"] == len(rows):
                say(f"index {INDEX}: {len(rows):,} documents are there already")
                return len(rows)
            raise DemoError(
                f"index {INDEX} of {self.url} holds {answer['count']:,} documents and not the {len(rows):,} flights; "
                f"delete it if it is not needed: curl -XDELETE {self.url}/{INDEX}"
            )
        self._expect("PUT", f"/{INDEX}", {"settings": {"number_of_replicas": 0}, "mappings": _MAPPINGS})
        next_word = time.monotonic() + _WORD_SECONDS
        for start in range(0, len(rows), _CHUNK):
            if time.monotonic() > next_word:
                next_word += _WORD_SECONDS
                say(f"index {INDEX}: {start:,} of {len(rows):,} documents")
            lines = []
            for number, row in enumerate(rows[start : start + _CHUNK], start):
                lines += [{"index": {"_id": str(number)}}, dict(zip(columns, row, strict=True))]
            body = "".join(json.dumps(line) + "\n" for line in lines).encode()
            if self._expect("POST", f"/{INDEX}/_bulk?filter_path=errors", body)["errors"]:
                raise DemoError(f"{self.url} refused some of the flights; delete index {INDEX} and try again")
        self._expect("POST", f"/{INDEX}/_refresh")
        say(f"index {INDEX}: {len(rows):,} documents")
        return len(rows)

    def store_manifest(self) -> str:
        """Return the RollupStore `default` that leads here."""
        return (
            f"# {self.title}, which holds the source and takes the result.\n"
            "apiVersion: rollup-operator.dev/v1alpha1\nkind: RollupStore\nmetadata:\n  name: default\n"
            f"spec:\n  {self.kind}:\n    hosts: [{self.url}]\n"
        )

    def _expect(self, method: str, path: str, body: object = None) -> Any:
        status, answer = _send(self.url, method, path, body)
        if status not in (200, 201):
            raise DemoError(f"{method} {self.url}{path} was answered {status}: {json.dumps(answer)[:500]}")
        return answer


def _send(url: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
    where = urlsplit(url)
    connect = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    connection = connect(where.netloc, timeout=60)
    try:
        headers = {"Content-Type": "application/x-ndjson" if isinstance(body, bytes) else "application/json"}
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body)
        connection.request(method, path, sent, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text) if text.startswith("{") else text
    finally:
        connection.close()
