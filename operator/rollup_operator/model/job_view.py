"""The newest body of a RollupJob as a tolerant view: nothing in a spec, however wrong, hides what is asked.

A process holds thousands of them, and each is replaced while thousands of requests come and go. Parsed, a body is some
hundred small objects, which end up among those of the requests and keep their memory from being given back. So a view
keeps spec and status as JSON, and apart from them what is asked for at every turn.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from sys import intern
from typing import Any

from pydantic import ValidationError

from rollup_operator.freed_memory import lasting
from rollup_operator.model.base import ALSO_WATCHED_BY, CREATION_TIMEOUT, DRAIN_FINALIZER, RUN_REQUESTED_AT
from rollup_operator.model.job import DesiredState, RollupJobSpec
from rollup_operator.model.status import LONGEST_REQUEST, RollupJobStatus, State, shortened


class Ask(StrEnum):
    """The requests to a job, including deletion."""

    STARTED = "started"
    STOPPED = "stopped"
    DELETED = "deleted"


_PARSED = 64
"""Statuses that are kept parsed: those of the jobs that are dealt with at this moment."""


@dataclass(frozen=True, slots=True)
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
    also_watched_by: str | None
    """What another operator that leaves the job to this one says of itself."""
    creation_timeout: str | None
    """The `timeout` that the job was created with through the HTTP API."""
    job_id: str
    """Elasticsearch's id: spec.jobId, or the name."""
    store_name: str
    """Name of the RollupStore, `default` where the spec names none."""
    rollup_index: str
    """spec.rollupIndex; empty: it is not there, or no text."""
    index_pattern: str
    """spec.indexPattern likewise."""
    desired: DesiredState
    """The state in effect: spec's, else the one last recorded in status, else stopped."""
    ever_asked: bool
    """Whether the state was ever asked for, by spec now or earlier."""
    operator: str | None
    """The operator that acts on the job, as the status names it."""
    spec_asks: object
    """spec.desiredState as it is written; None: the spec is silent."""
    lasting_spec: str = field(repr=False)
    """JSON of the spec without desiredState, which changes most often."""
    status_json: str = field(repr=False)

    @classmethod
    @lasting
    def of(cls, body: Mapping[str, Any], before: "JobView | None" = None) -> "JobView":
        """Read an object as the API server sends it. Keeps no reference to metadata.managedFields.

        What is as in the view `before` is held once.
        """
        meta = body["metadata"]
        annotations = meta.get("annotations") or {}
        asked, rival = annotations.get(RUN_REQUESTED_AT), annotations.get(ALSO_WATCHED_BY)
        spec, status = _fields(body.get("spec")), _fields(body.get("status"))
        name = intern(meta["name"])
        return cls(
            uid=intern(meta["uid"]),
            namespace=intern(meta["namespace"]),
            name=name,
            generation=meta.get("generation", 0),
            version=int(meta["resourceVersion"]),
            deleting="deletionTimestamp" in meta,
            owners=_owners(meta.get("managedFields") or ()),
            finalizers=_shared(tuple(meta.get("finalizers") or ())),
            run_request=None if asked is None else shortened(asked, LONGEST_REQUEST),
            also_watched_by=None if rival is None else shortened(rival, LONGEST_REQUEST),
            creation_timeout=annotations.get(CREATION_TIMEOUT),
            job_id=_text(spec.get("jobId")) or name,
            store_name=_store_name(spec.get("storeRef")),
            rollup_index=_once(before, "rollup_index", _text(spec.get("rollupIndex")) or ""),
            index_pattern=_once(before, "index_pattern", _text(spec.get("indexPattern")) or ""),
            desired=_desired(spec, status),
            ever_asked="desiredState" in spec or "desiredState" in status,
            operator=intern(acts) if isinstance(acts := status.get("operator"), str) else None,
            spec_asks=intern(asks) if isinstance(asks := spec.get("desiredState"), str) else asks,
            lasting_spec=_once(
                before, "lasting_spec", _json({key: value for key, value in spec.items() if key != "desiredState"})
            ),
            status_json=_once(before, "status_json", _json(status)),
        )

    @property
    def raw_spec(self) -> Mapping[str, Any]:
        """The spec as it was written, parsed anew."""
        spec: dict[str, Any] = json.loads(self.lasting_spec)
        if self.spec_asks is not None:
            spec["desiredState"] = self.spec_asks
        return spec

    @property
    def raw_status(self) -> Mapping[str, Any]:
        """The status as it was published, parsed anew."""
        status: dict[str, Any] = json.loads(self.status_json)
        return status

    @property
    def age(self) -> tuple[int, int]:
        """Order of versions of one uid: by generation, then by version."""
        return self.generation, self.version

    @property
    def key(self) -> tuple[str, str]:
        """Return (namespace, name)."""
        return self.namespace, self.name

    @property
    def ask(self) -> Ask:
        """The current request, deletion first."""
        return Ask.DELETED if self.deleting else Ask(self.desired.value)

    @property
    def has_drain_finalizer(self) -> bool:
        """Whether a claim may exist: the finalizer is added before the first one."""
        return DRAIN_FINALIZER in self.finalizers

    @property
    def open_run_request(self) -> str | None:
        """The request to run now that the operator has not reported as handled; None: there is none."""
        return None if self.run_request == self.status.last_handled_run_request else self.run_request

    def rests_as(self, before: "JobView") -> bool:
        """Whether this is shown as `stopped`, and differs from `before` only in its status.

        Versions and generations begin anew where the API server was restored, so the spec itself is compared.
        """
        return (
            self.status.state is State.STOPPED
            and (self.generation, self.spec_asks, self.lasting_spec)
            == (before.generation, before.spec_asks, before.lasting_spec)
            and (self.deleting, self.finalizers, self.run_request)
            == (before.deleting, before.finalizers, before.run_request)
            and self.run_request in (None, self.status.last_handled_run_request)
        )

    @property
    def status(self) -> RollupJobStatus:
        """The published status; an unreadable one counts as none."""
        return _status(self.status_json)

    def spec(self) -> RollupJobSpec:
        """Parse the spec. Raises pydantic's ValidationError; not kept, since most jobs idle most of the time."""
        return RollupJobSpec.model_validate(self.raw_spec)

    def claimed_spec(self) -> RollupJobSpec | None:
        """Return what settling the claim needs of the spec, even if this version cannot read the rest.

        rollupIndex is as written, an unreadable field has a stand-in. None: there is no rollupIndex, so no version can
        have claimed anything for this job.
        """
        index = (given := self.raw_spec).get("rollupIndex")
        if not isinstance(index, str) or not index:
            return None
        try:
            return self.spec()
        except ValidationError as e:
            unreadable = {error["loc"][0] for error in e.errors()}
        readable = {field: value for field, value in given.items() if field not in unreadable}
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


_json = json.JSONEncoder(separators=(",", ":")).encode


@lru_cache(maxsize=_PARSED)
def _status(text: str) -> RollupJobStatus:
    try:
        return RollupJobStatus.model_validate_json(text)
    except ValidationError:
        return RollupJobStatus()


def _once(before: JobView | None, field_: str, new: str) -> str:
    """Return the copy that an earlier view holds, if it is the same."""
    old: str | None = getattr(before, field_, None)
    return old if old == new else new


def _fields(part: Any) -> Mapping[str, Any]:
    return part if isinstance(part, Mapping) else _NOTHING


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _store_name(ref: Any) -> str:
    return intern((_text(ref.get("name")) if isinstance(ref, Mapping) else None) or "default")


def _desired(spec: Mapping[str, Any], status: Mapping[str, Any]) -> DesiredState:
    for source in (spec, status):
        word = source.get("desiredState")
        if word in ("started", "stopped"):
            return DesiredState(word)
    return DesiredState.STOPPED


def _owners(entries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    owners = [entry.get("manager", "") for entry in entries if owns_desired_state(entry)]
    return _shared(tuple(owners)) if owners else ()


@lru_cache(maxsize=256)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the one copy that all jobs with these owners, or these finalizers, hold."""
    return names


_NOTHING: Mapping[str, Any] = {}
