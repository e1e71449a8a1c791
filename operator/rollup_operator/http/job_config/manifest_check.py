"""Checks a RollupJob as `kubectl apply` would: the API server itself does, without keeping anything (a dry run)."""

import asyncio
import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from rollup_operator.http.jobs.desired_state import FIELD_MANAGER, WRITE_SECONDS
from rollup_operator.http.ports import Kubernetes
from rollup_operator.http.protocol import errors, job_errors
from rollup_operator.kube.client import Conflict, KubeError, NotFound
from rollup_operator.kube.paths import jobs_path
from rollup_operator.model.job import RollupJobSpec

_UNKNOWN = re.compile(r'unknown field "([^"]*)"')
_HINTS = 10
"""Unknown fields for which a near one is looked for."""
_LONGEST_NAME = 100
_KEPT = ("name", "namespace", "labels", "annotations")
"""The metadata that is checked; the rest is the API server's, or says who may change the object."""


class ManifestChecks:
    """Checks manifests against the API server."""

    def __init__(self, client: Kubernetes) -> None:
        self._client = client

    async def check(self, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        """Return if `kubectl apply` would take the body: as a new job, or as a change of the job of that name.

        Raises ApiError 400 with the API server's words, 503 if it does not answer.
        """
        meta = body.get("metadata") or {}
        kept = {key: meta[key] for key in _KEPT if key in meta}
        whole = {**body, "metadata": {**kept, "name": name}}
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._check(namespace, name, whole)
        except NotFound as e:
            raise job_errors.no_such_namespace(namespace) from e
        except (KubeError, TimeoutError) as e:
            if isinstance(e, KubeError) and e.status in (400, 422):
                raise errors.illegal_argument(with_hints(e.message)) from e
            raise errors.unavailable(f"The API server cannot check the manifest: {errors.said(e)}") from e

    async def _check(self, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        try:
            await self._client.check(jobs_path(namespace), body, manager=FIELD_MANAGER)
        except Conflict as e:
            if e.reason != "AlreadyExists":
                raise
            await self._client.check(jobs_path(namespace, name), body, manager=FIELD_MANAGER, change=True)


def with_unknown_fields(message: str, spec: Any) -> str:
    """Add to a message the unknown fields at the top of a spec: a field may be missing because its name is wrong."""
    known = {field.alias or name for name, field in RollupJobSpec.model_fields.items()}
    unknown = [name for name in spec if name not in known][:_HINTS] if isinstance(spec, Mapping) else []
    named = ", ".join(f'unknown field "spec.{name[:_LONGEST_NAME]}"' for name in unknown)
    return with_hints(f"{message}; {named}") if named else message


def with_hints(message: str) -> str:
    """Add to each unknown field of a message the known one that it may mean, such as indexPattern for index_pattern."""
    fields = dict.fromkeys(_UNKNOWN.findall(message)[:_HINTS])
    near = {field: _near(field.rpartition(".")[2][:_LONGEST_NAME]) for field in fields}
    hints = [f'"{known}" instead of "{field}"' for field, known in near.items() if known is not None]
    return f"{message}; did you mean {', '.join(hints)}?" if hints else message


def _near(name: str) -> str | None:
    known = {field.lower(): field for field in _fields_of(RollupJobSpec)}
    plain = name.replace("_", "").replace("-", "").lower()
    if plain in known:
        return known[plain]
    found = difflib.get_close_matches(plain, known, 1, 0.75)
    return known[found[0]] if found else None


def _fields_of(model: type[BaseModel]) -> Iterator[str]:
    """Yield the names of all fields of a spec, as manifests write them."""
    for name, field in model.model_fields.items():
        yield field.alias or name
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _fields_of(part)
