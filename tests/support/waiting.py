"""What tests wait for, as questions to a body."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from support.api import Api, Body

NEVER = "0 0 0 1 1 ? 2099"
"""A cron expression whose tick no test lives to see."""

WRONG_CRON = "0 0 0 32 * ?"
"""A cron expression that the API server accepts and the operator cannot use."""


def status(body: Body) -> Body:
    found: Body = body.get("status", {})
    return found


def runs(body: Body) -> int:
    """How many runs have begun, those that failed and the one under way included, as the job itself counts."""
    return int(status(body).get("stats", {}).get("triggerCount", 0))


def run_completed(body: Body) -> bool:
    """Whether the last run completed, and none is under way: that one counts already."""
    last = status(body).get("lastRun", {}).get("outcome")
    return bool(last == "Completed") and status(body).get("state") != "indexing"


def position(body: Body) -> datetime | None:
    """Where the last written bucket begins."""
    found = status(body).get("position")
    return None if found is None else datetime.fromtimestamp(found["picked_up.date_histogram"] / 1000, UTC)


def reached(moment: datetime) -> Callable[[Body], bool]:
    """Whether the bucket that begins at `moment` has been written, and a run has said so."""

    def question(body: Body) -> bool:
        at = position(body)
        return at is not None and at >= moment

    return question


def finished(moment: datetime) -> Callable[[Body], bool]:
    """Whether a run came to its end, export included, with the bucket of `moment` written."""
    there = reached(moment)
    # While a run is under way, lastRun is the one before.
    return lambda body: there(body) and run_completed(body) and status(body)["state"] != "indexing"


def request_run(api: Api, name: str, value: str) -> Body:
    return api.patch(name, {"metadata": {"annotations": {"rollup-operator.dev/run-requested-at": value}}})


def handled(value: str) -> Callable[[Body], bool]:
    return lambda body: status(body).get("lastHandledRunRequest") == value


def newest(bodies: Iterable[Body]) -> Body:
    """The one that was written last."""
    return max(bodies, key=lambda body: int(body["metadata"]["resourceVersion"]))


def assert_silent(api: Api, since: Body, seconds: float, *, kind: str = "RollupJob") -> None:
    """Assert that no object of that kind in the namespace is written to for so long after the version `since`."""
    try:
        for type_, body in api.watch(kind=kind, since=since["metadata"]["resourceVersion"], timeout=seconds):
            raise AssertionError(f"{type_} though nothing had changed: {body}")
    except TimeoutError:
        pass
