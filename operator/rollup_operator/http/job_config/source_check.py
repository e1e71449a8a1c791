"""Checks the source of a job that is to be created or previewed, with Elasticsearch's errors. Changes nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from rollup_operator.http.access import store_errors
from rollup_operator.http.jobs.desired_state import READ_SECONDS
from rollup_operator.http.ports import Kubernetes, Stores
from rollup_operator.http.protocol import errors, job_errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.indexer.source_check import find_broken_rules
from rollup_operator.kube.client import KubeError, NotFound
from rollup_operator.kube.paths import stores_path
from rollup_operator.model.conditions import Reason
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.source_rules import NO_FIELDS
from rollup_operator.stores.base import Store
from rollup_operator.stores.errors import (
    ForbiddenSource,
    SourceInvalid,
    SourceNotFound,
    StoreError,
    StoreNotFound,
    StoreUnavailable,
)

STORE_SECONDS = 30.0
"""How long the store may take to answer."""


class SourceChecks:
    """Checks sources in the stores of the namespaces."""

    def __init__(self, client: Kubernetes, stores: Stores) -> None:
        self._client, self._stores = client, stores

    async def open(self, namespace: str, name: str) -> Store:
        """Return a store. Raises ApiError, StoreTrouble."""
        try:
            return await self._stores.open((namespace, name))
        except StoreNotFound as e:
            try:
                async with asyncio.timeout(READ_SECONDS):
                    await self._client.get(stores_path(namespace, name))
            except NotFound:
                text = f"No RollupStore named [{name}] exists in namespace [{namespace}]: create it, then the job"
                raise errors.illegal_argument(text) from e
            except (KubeError, TimeoutError) as silent:
                why = errors.said(silent)
                text = f"RollupStore [{name}] is not known here, and the operator cannot check whether it exists"
                raise errors.unavailable(f"{text}; nothing was changed: {why}") from silent
            why = f"RollupStore [{name}] was created just now and is not known here yet; nothing was changed"
            raise errors.unavailable(why) from e
        except StoreUnavailable as e:
            raise store_errors.unavailable(f"{e}; nothing was changed") from e

    async def check(self, store: Store, name: str, spec: RollupJobSpec, *, manifest: bool = False) -> None:
        """Return if the sources have the fields that a job names, as Elasticsearch requires.

        `manifest`: the job is described by one, and the errors name its fields. Raises ApiError, StoreTrouble.
        """
        with source_errors_answered(name, spec, manifest=manifest):
            broken = await find_broken_rules(store, spec)
        if broken and manifest:
            raise errors.illegal_argument("; ".join(rule.manifest for rule in broken))
        if broken:
            raise job_errors.validation_failed([rule.elasticsearch for rule in broken])


@contextlib.contextmanager
def source_errors_answered(name: str, spec: RollupJobSpec, *, manifest: bool = False) -> Iterator[None]:
    """Turn errors of a store into answers: ApiError for a problem of the job's source, else StoreTrouble.

    `manifest`: in the words of a manifest instead of Elasticsearch's.
    """
    try:
        yield
    except (SourceNotFound, SourceInvalid, ForbiddenSource) as e:
        if manifest:
            raise errors.illegal_argument(str(e)) from e
        raise _in_elasticsearch(e, spec) from e
    except StoreError as e:
        if e.transient and e.reason is not Reason.RUN_FAILED:
            raise store_errors.unavailable(f"RollupStore [{name}]: {e}; nothing was changed") from e
        raise store_errors.unsuitable(str(e)) from e


def _in_elasticsearch(error: StoreError, spec: RollupJobSpec) -> ApiError:
    if not isinstance(error, SourceNotFound):
        return job_errors.validation_failed([str(error)])
    concrete = [part for part in spec.index_pattern.split(",") if "*" not in part]
    return job_errors.no_such_index(concrete[0]) if concrete else job_errors.validation_failed([NO_FIELDS])


@contextlib.asynccontextmanager
async def within_limit(name: str) -> AsyncIterator[None]:
    """Limit the time of requests to a store. Raises StoreTrouble at its end."""
    try:
        async with asyncio.timeout(STORE_SECONDS):
            yield
    except TimeoutError as e:
        why = f"RollupStore [{name}] has not answered within {STORE_SECONDS:g}s; nothing was changed"
        raise store_errors.unavailable(why) from e
