"""The rollup index of a job: whether it stands."""

from collections.abc import Mapping
from typing import Any

from rollup_operator.model.conditions import Reason
from rollup_operator.stores.base import IdentityConflict
from rollup_operator.stores.opensearch.client import Cluster, name
from rollup_operator.stores.opensearch.errors import Missing


async def must_stand(cluster: Cluster, key: tuple[str, str], uuid: str | None, *, opaque_id: str) -> None:
    """Raise IdentityConflict where the rollup index is no longer the one that the job's documents are in."""
    if uuid is None:
        return
    try:
        answer: Mapping[str, Any] = await cluster.call(
            "GET",
            f"/{name(key[0])}",
            doing=f"looking at {key[0]}",
            params={"filter_path": "*.settings.index.uuid"},
            opaque_id=opaque_id,
        )
    except Missing:
        raise missing(key) from None
    if answer.get(key[0], {}).get("settings", {}).get("index", {}).get("uuid") != uuid:
        raise replaced(key)


def missing(key: tuple[str, str]) -> IdentityConflict:
    """Return the error for a rollup index that is gone while the job's record says how far it was filled."""
    return IdentityConflict(Reason.TARGET_MISSING, f"rollup index {key[0]!r} was deleted: {_cure(key)}")


def replaced(key: tuple[str, str]) -> IdentityConflict:
    """Return the error for a rollup index that is another one than the job wrote to."""
    return IdentityConflict(
        Reason.TARGET_REPLACED, f"rollup index {key[0]!r} is another one than the job wrote to: {_cure(key)}"
    )


def _cure(key: tuple[str, str]) -> str:
    return (
        f"set spec.deletionPolicy to Delete, then delete the job {key[1]!r} and create it anew, and it begins at the "
        "beginning; or set another spec.rollupIndex"
    )
