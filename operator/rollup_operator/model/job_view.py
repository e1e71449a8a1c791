"""The newest body of a RollupJob as a tolerant view: nothing in a spec, however wrong, hides what is asked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

from pydantic import ValidationError

from rollup_operator.model.base import CREATION_TIMEOUT, DRAIN_FINALIZER, RUN_REQUESTED_AT
from rollup_operator.model.job import DesiredState, RollupJobSpec
from rollup_operator.model.status import LONGEST_REQUEST, RollupJobStatus, shortened


class Ask(StrEnum):
    """The requests to a job, including deletion."""

    STARTED = "started"
    STOPPED = "stopped"
    DELETED = "deleted"


@dataclass(frozen=True)
class JobView:
    """One version of a RollupJob. Compare versions with `age`, never by content."""

    uid: str
    namespace: str
    name: str
    generation: int
    version: int
    """metadata.resourceVersion as a number: etcd's revision, which only grows."""
    deleting: bool
    owners: tuple[str, ...]
    """The field managers that own spec.desiredState, as metadata.managedFields names them."""
    finalizers: tuple[str, ...]
    run_request: str | None
    """The value of the annotation that requests a run now, as much of it as a status may have."""
    creation_timeout: str | None
    """The `timeout` that the job was created with through the HTTP API."""
    raw_spec: Mapping[str, Any] = field(repr=False)
    raw_status: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "JobView":
        """Read an object as the API server sends it. Keeps no reference to metadata.managedFields."""
        meta = body["metadata"]
        annotations = meta.get("annotations") or {}
        asked = annotations.get(RUN_REQUESTED_AT)
        return cls(
            uid=meta["uid"],
            namespace=meta["namespace"],
            name=meta["name"],
            generation=meta.get("generation", 0),
            version=int(meta["resourceVersion"]),
            deleting="deletionTimestamp" in meta,
            owners=_owners(meta.get("managedFields") or ()),
            finalizers=tuple(meta.get("finalizers") or ()),
            run_request=None if asked is None else shortened(asked, LONGEST_REQUEST),
            creation_timeout=annotations.get(CREATION_TIMEOUT),
            raw_spec=body.get("spec") or {},
            raw_status=body.get("status") or {},
        )

    @property
    def age(self) -> tuple[int, int]:
        """Order of versions of one uid: by generation, then by version."""
        return self.generation, self.version

    @property
    def key(self) -> tuple[str, str]:
        """Return (namespace, name)."""
        return self.namespace, self.name

    @property
    def job_id(self) -> str:
        """Elasticsearch's id: spec.jobId, or the name."""
        given = self.raw_spec.get("jobId")
        return given if isinstance(given, str) and given else self.name

    @property
    def store_name(self) -> str:
        """Name of the RollupStore; `default` if the spec names none."""
        ref = self.raw_spec.get("storeRef")
        name = ref.get("name") if isinstance(ref, Mapping) else None
        return name if isinstance(name, str) and name else "default"

    @property
    def desired(self) -> DesiredState:
        """The state in effect: spec's, else the one last recorded in status, else stopped."""
        for source in (self.raw_spec, self.raw_status):
            word = source.get("desiredState")
            if word in ("started", "stopped"):
                return DesiredState(word)
        return DesiredState.STOPPED

    @property
    def ask(self) -> Ask:
        """The current request, deletion first."""
        return Ask.DELETED if self.deleting else Ask(self.desired.value)

    @property
    def ever_asked(self) -> bool:
        """Whether a state was ever requested, by the spec now or earlier."""
        return "desiredState" in self.raw_spec or "desiredState" in self.raw_status

    @property
    def has_drain_finalizer(self) -> bool:
        """Whether a claim may exist: the finalizer is added before the first one."""
        return DRAIN_FINALIZER in self.finalizers

    def rests_as(self, before: "JobView") -> bool:
        """Whether this is shown as `stopped`, and differs from `before` only in its status."""
        return (
            self.raw_status.get("state") == "stopped"
            and self.generation == before.generation
            and (self.deleting, self.finalizers, self.run_request)
            == (before.deleting, before.finalizers, before.run_request)
            and self.run_request in (None, self.raw_status.get("lastHandledRunRequest"))
        )

    @cached_property
    def status(self) -> RollupJobStatus:
        """The published status; an unreadable one counts as none."""
        try:
            return RollupJobStatus.model_validate(self.raw_status)
        except ValidationError:
            return RollupJobStatus()

    def spec(self) -> RollupJobSpec:
        """Parse the spec. Raises pydantic's ValidationError; not kept, since most jobs idle most of the time."""
        return RollupJobSpec.model_validate(self.raw_spec)

    def claimed_spec(self) -> RollupJobSpec | None:
        """Return what settling the claim needs of the spec, even if this version cannot read the rest.

        rollupIndex is as written, an unreadable field has a stand-in. None: there is no rollupIndex, so no version can
        have claimed anything for this job.
        """
        index = self.raw_spec.get("rollupIndex")
        if not isinstance(index, str) or not index:
            return None
        try:
            return self.spec()
        except ValidationError as e:
            unreadable = {error["loc"][0] for error in e.errors()}
        readable = {field: value for field, value in self.raw_spec.items() if field not in unreadable}
        spec = RollupJobSpec.model_validate({**_STAND_INS, **readable, "rollupIndex": "-"})
        return spec.model_copy(update={"rollup_index": index})


_STAND_INS: Mapping[str, Any] = {"indexPattern": "-", "cron": "-", "groups": {"dateHistogram": {"field": "-"}}}
"""Stand-ins for required fields that cannot be read. None of them says what was claimed."""


def owns_desired_state(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of metadata.managedFields owns spec.desiredState."""
    # Every watch event passes here: the entries of status are left out before anything is looked up in them.
    if "subresource" in entry:
        return False
    spec = (entry.get("fieldsV1") or _NOTHING).get("f:spec")
    return spec is not None and "f:desiredState" in spec


def _owners(entries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    owners = [entry.get("manager", "") for entry in entries if owns_desired_state(entry)]
    return _shared(tuple(owners)) if owners else ()


@lru_cache(maxsize=256)
def _shared(owners: tuple[str, ...]) -> tuple[str, ...]:
    """Return the one copy that all jobs with these owners hold."""
    return owners


_NOTHING: Mapping[str, Any] = {}
