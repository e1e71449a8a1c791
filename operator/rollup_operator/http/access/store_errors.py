"""What a caller may read about a problem of a store: all of it only with the right to read the RollupStore.

The text of such an error names hosts, files and users, and comes from the store's server.
"""

import contextlib
from collections.abc import AsyncIterator

from rollup_operator.http.access.permits import Permit
from rollup_operator.http.protocol import errors, job_errors
from rollup_operator.http.protocol.errors import ApiError

_PLAIN = "A RollupStore of the namespace cannot be used; callers with the right to get rollupstores see why"


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


@contextlib.asynccontextmanager
async def discreet(permit: Permit) -> AsyncIterator[None]:
    """Answer the caller as much of StoreTrouble as they may read. Raises ApiError."""
    try:
        yield
    except StoreTrouble as e:
        raise (e.whole if await permit.may_read_stores() else e.plain) from e
