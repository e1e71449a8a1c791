"""Searches while the operators that answer them end, are killed and lose the lease: a whole answer, or none.

Each answer of 200 is that of all rows, whatever a run has rolled up by then. Anything else says 503 and when to try
again, or the connection ends, since the process that had it is gone.
"""

import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

from support.api import Api
from support.backfill import PAGE_SECONDS, begun
from support.data import PATTERN
from support.operator import Operator
from support.operator_fixtures import StartOperator
from support.replicas import SHORT_LEASE, election, wait_leads
from support.threads import repeating

LOST = ("the lease cannot be used", "halting: the lease is not renewed", "write failed", "watch", "Watch")
"""What a leader may say that was frozen for longer than its lease."""
ASKED = {
    "size": 0,
    "aggs": {
        "days": {
            "date_histogram": {"field": "picked_up", "fixed_interval": "1d"},
            "aggs": {"m": {"sum": {"field": "size"}}},
        }
    },
}
EACH = 3
"""Clients of each replica."""
HOURS = 2_000


@dataclass
class Searching:
    """Clients that search through one replica, again and again, and what came of it."""

    operator: Operator
    path: str
    expected: list[tuple[Any, ...]]
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)
    answered: threading.Condition = field(default_factory=threading.Condition)

    def search(self) -> None:
        """Search once."""
        try:
            answer = self.operator.request("POST", self.path, ASKED, timeout=20)
        except (OSError, http.client.HTTPException) as e:
            outcome = type(e).__name__
        else:
            outcome = str(answer.status)
            if answer.status == 200:
                days = answer.body["aggregations"]["days"]["buckets"]
                whole = [(day["key"], day["doc_count"], pytest.approx(day["m"]["value"])) for day in days]
                good = whole == self.expected and answer.body["hits"]["total"]["value"] == sum(n for _, n, _ in whole)
            else:
                good = answer.status == 503 and "Retry-After" in answer.headers
            if not good:
                self.wrong.append(answer)
        with self.answered:
            self.outcomes[outcome] += 1
            self.answered.notify_all()

    def wait(self, outcome: str, more: int = 3) -> None:
        """Return once so many more searches have had this outcome."""
        with self.answered:
            before = self.outcomes[outcome]
            assert self.answered.wait_for(lambda: self.outcomes[outcome] >= before + more, 60), self.outcomes


@contextmanager
def searching(*all_of: Searching) -> Iterator[None]:
    """Let clients search meanwhile."""
    with repeating(EACH * len(all_of), lambda n: all_of[n % len(all_of)].search(), pause=0.05):
        yield


@pytest.mark.timeout(300)
def test_searches_are_answered_whole_or_not_at_all_while_another_takes_over(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    settings = election(api, lease_seconds=SHORT_LEASE)
    replicas = [start_operator(page_seconds=PAGE_SECONDS, settings=settings, expected=LOST)]
    wait_leads(api, replicas[0])
    replicas.append(start_operator(page_seconds=PAGE_SECONDS, settings=settings, expected=LOST))
    begun(api, folder, hours=HOURS)
    with duckdb.connect() as db:
        expected = db.execute(
            "SELECT epoch_ms(time_bucket(INTERVAL '1 day', picked_up)) AS day, count(*), sum(size) "
            f"FROM read_parquet('{folder}/{PATTERN}') GROUP BY 1 ORDER BY 1"
        ).fetchall()
    path = f"/namespaces/{api.namespace}/hourly/_search"
    first, second = (Searching(replica, path, expected) for replica in replicas)
    with searching(first, second):
        first.wait("200")
        second.wait("503")  # it stands by
        first.operator.terminate()
        wait_leads(api, second.operator)
        second.wait("200")
        assert first.operator.ended() == 0
        first.operator.start()
        second.operator.freeze()
        wait_leads(api, first.operator, 40)
        first.wait("503")  # the file is the frozen process's as long as that exists
        second.operator.thaw()
        second.wait("503")
        first.wait("200")
        first.operator.kill()
        wait_leads(api, second.operator, 40)
        second.wait("200")
    assert [*first.wrong, *second.wrong] == []
