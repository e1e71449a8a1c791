"""What the page keeps of the events about a job: anybody who may write events there decides how large they are."""

from typing import Any

import orjson

from rollup_operator.http.ui.events import KEPT, LONGEST, JobEvents
from rollup_operator.model.job_view import JobView
from support.observed_job import observed_job


class Reads:
    """A namespace with many large events about a job."""

    async def get(self, *_: object, **__: object) -> dict[str, Any]:
        return {"items": [event(n) for n in range(500)]}


def event(number: int) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"e{number}",
            "resourceVersion": str(number),
            "creationTimestamp": "2030-01-01T00:00:00Z",
            "managedFields": [{"fieldsV1": {"f": "x" * 1_000}}],
        },
        "type": "Warning",
        "reason": f"{number}{'r' * 50_000}",
        "message": "m" * 50_000,
        "series": {"count": 3, "lastObservedTime": "2030-01-01T00:00:05.000000Z"},
        "lastTimestamp": "2030-01-01T00:00:04Z",
    }


async def test_few_and_short_events_are_kept_the_newest_ones() -> None:
    reads: Any = Reads()
    found = await JobEvents(reads).about(JobView.of(observed_job()))
    assert found is not None
    assert [str(each["reason"])[:3] for each in found] == [str(n) for n in range(500 - KEPT, 500)]
    assert len(orjson.dumps(found)) < KEPT * 1.5 * LONGEST
    assert found[-1]["series"]["count"] == 3
