"""What a caller may read about a problem of a store: all of it only with the right to read the RollupStore.

The text of such an error names hosts, files and users, and comes from the store's server.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

from rollup_operator.http.access.permits import Permit
from rollup_operator.http.protocol import errors, job_errors
from rollup_operator.http.protocol.answers import warning_value
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.model.status import shortened

_PLAIN = "A RollupStore of the namespace cannot be used; callers with the right to get rollupstores see why"

LONGEST_REASON = 500
"""Characters of what a `Warning` header says of one store."""

MOST_REASONS = 5
"""Stores that are named there."""


class StoreTrouble(Exception):
    """A problem of a store. Becomes an ApiError at the end of `discreet`."""

    def __init__(self, whole: ApiError, plain: ApiError) -> None:
        super().__init__(whole.reason)
        self.whole, self.plain = whole, plain


def unavailable(why: str) -> StoreTrouble:
    """503: nothing was changed, and a retry is safe."""
    return StoreTrouble(errors.unavailable(why), errors.unavailable(f"{_PLAIN}; nothing was changed"))


def unsuitable(why: str) -> StoreTrouble:
    """400: the store cannot serve such a job."""
    return StoreTrouble(job_errors.validation_failed([why]), job_errors.validation_failed([_PLAIN]))


def unfinished(error: Callable[[str], ApiError], why: str) -> StoreTrouble:
    """A change that may have been made in part. `error` makes the answer, given what the caller may read of `why`."""
    return StoreTrouble(error(why), error(_PLAIN))


async def warning(permit: Permit, troubles: Iterable[StoreTrouble]) -> dict[str, str]:
    """Return the header of an answer that lacks what some stores hold: it says which, and why; empty for none."""
    if not (lacking := list(troubles)):
        return {}
    may_read = await permit.may_read_stores()
    reasons = dict.fromkeys((trouble.whole if may_read else trouble.plain).reason for trouble in lacking)
    texts = [
        f"This answer is not whole: {shortened(reason, LONGEST_REASON)}" for reason in list(reasons)[:MOST_REASONS]
    ]
    return {"Warning": ", ".join(map(warning_value, texts))}


@contextlib.asynccontextmanager
async def discreet(permit: Permit) -> AsyncIterator[None]:
    """Answer the caller as much of StoreTrouble as they may read. Raises ApiError."""
    try:
        yield
    except StoreTrouble as e:
        raise (e.whole if await permit.may_read_stores() else e.plain) from e
