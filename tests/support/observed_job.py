"""Bodies of jobs as the API server shows them after an operator has written their status; for tests of pure readers."""

from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    """The time so many seconds from NOW, as Kubernetes writes it."""
    return (NOW + timedelta(seconds=seconds)).isoformat(timespec="seconds").replace("+00:00", "Z")


def observed_job(
    *,
    desired: str | None = "started",
    state: str | None = "started",
    generation: int = 3,
    observed: int | None = None,
    version: int = 100,
    uid: str = "uid-1",
    name: str = "flights",
    deleting: float | None = None,
    finalizers: tuple[str, ...] = (),
    created: float = -3600,
    changed: float = -600,
    reported: float = -60,
    manager: str = "kubectl-rollup",
    applier: str = "kubectl",
    annotations: dict[str, str] | None = None,
    conditions: list[dict[str, Any]] | None = None,
    spec: dict[str, Any] | None = None,
    **status: Any,
) -> dict[str, Any]:
    """A job that an operator has seen, unless `observed` says less. Times are seconds from NOW."""
    meta: dict[str, Any] = {
        "uid": uid,
        "namespace": "team",
        "name": name,
        "generation": generation,
        "resourceVersion": str(version),
        "creationTimestamp": at(created),
        "annotations": annotations or {},
        "finalizers": list(finalizers),
        "managedFields": [
            {"manager": applier, "time": at(created), "fieldsV1": {"f:spec": {"f:cron": {}}}},
            {"manager": "rollup", "time": at(reported), "subresource": "status", "fieldsV1": {"f:status": {}}},
        ],
    }
    if desired is not None:
        meta["managedFields"].append(
            {"manager": manager, "time": at(changed), "fieldsV1": {"f:spec": {"f:desiredState": {}}}}
        )
    if deleting is not None:
        meta["deletionTimestamp"] = at(deleting)
    observed = generation if observed is None else observed
    whole = {"indexPattern": "flights/*.parquet", "rollupIndex": "hourly", "cron": "0 0 * * * ?"} | (spec or {})
    shown: dict[str, Any] = {"observedGeneration": observed, "conditions": conditions or []}
    if state is not None:
        shown["state"] = state
    return {
        "metadata": meta,
        "spec": whole | ({"desiredState": desired} if desired else {}),
        "status": shown | {key: value for key, value in status.items() if value is not None},
    }


def conditions(
    reason: str, message: str, *, ready: bool = False, stalled: bool = False, since: float = -120, generation: int = 3
) -> list[dict[str, Any]]:
    """What the operator shows: Ready alone, or Ready False with Stalled or Reconciling."""

    def make(type_: str, status: str) -> dict[str, Any]:
        return {
            "type": type_,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": at(since),
            "observedGeneration": generation,
        }

    if ready:
        return [make("Ready", "True")]
    return [make("Ready", "False"), make("Stalled" if stalled else "Reconciling", "True")]


def run_ended(outcome: str = "Completed", message: str = "2 pages", *, ended: float = -30) -> dict[str, str]:
    """What status.lastRun reads."""
    return {"startTime": at(ended - 5), "endTime": at(ended), "outcome": outcome, "message": message}
