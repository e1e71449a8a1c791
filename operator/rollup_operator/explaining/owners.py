"""Who set a job's desired state: the field managers of `spec.desiredState`, and whether Git will set it again."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rollup_operator.model.base import GITOPS_MANAGERS
from rollup_operator.model.job_view import owns_desired_state
from rollup_operator.model.times import instant_of

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True)
class FieldOwner:
    """A field manager, and when it last changed something that it owns."""

    manager: str
    time: datetime | None

    @property
    def is_gitops(self) -> bool:
        """Whether it will set the field again by itself."""
        return self.manager in GITOPS_MANAGERS


def owners(body: Mapping[str, Any]) -> list[FieldOwner]:
    """Return who owns spec.desiredState, the newest first."""
    found = [
        FieldOwner(str(entry.get("manager", "")), instant_of(entry.get("time")))
        for entry in body["metadata"].get("managedFields") or ()
        if owns_desired_state(entry)
    ]
    return sorted(found, key=lambda owner: owner.time.timestamp() if owner.time else 0.0, reverse=True)


def changed_at(body: Mapping[str, Any], *, status: bool = False) -> datetime | None:
    """Return when the object, or its status, was last written; None if managedFields do not say."""
    times = [
        instant_of(entry.get("time"))
        for entry in body["metadata"].get("managedFields") or ()
        if (entry.get("subresource") == "status") is status
    ]
    return max((time for time in times if time is not None), default=None)


def gitops_owner(found: Sequence[FieldOwner], managers: Collection[str] = GITOPS_MANAGERS) -> str | None:
    """Return the GitOps controller among the owners, which is one of these managers."""
    return next((owner.manager for owner in found if owner.manager in managers), None)


def gitops_applier(body: Mapping[str, Any], managers: Collection[str] = GITOPS_MANAGERS) -> str | None:
    """Return the GitOps controller, one of these managers, that owns a field of the spec, whichever."""
    return next(
        (
            str(entry.get("manager"))
            for entry in body["metadata"].get("managedFields") or ()
            if entry.get("manager") in managers and "f:spec" in (entry.get("fieldsV1") or {})
        ),
        None,
    )


def applied_state(body: Mapping[str, Any]) -> str | None:
    """Return the desiredState of the manifest that `kubectl apply` was last given, or an Argo CD like it."""
    text = (body["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    try:
        said = json.loads(text)["spec"]["desiredState"] if text else None
    except (ValueError, KeyError, TypeError):
        return None
    return said if isinstance(said, str) else None
