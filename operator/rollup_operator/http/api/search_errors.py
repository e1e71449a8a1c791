"""What is wrong with a search, and what a store raises while it searches, as answers."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from rollup_operator.http.access import store_errors
from rollup_operator.http.protocol import errors, job_errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.sources import NoSuchIndex
from rollup_operator.stores.errors import (
    SearchAnswerTooLong,
    SearchKeysTooLong,
    SearchTooLarge,
    SearchTooSlow,
    SearchTooWide,
    StoreElsewhere,
    StoreError,
)


@contextmanager
def refusals() -> Iterator[None]:
    """Answer what is wrong with a search. Raises ApiError."""
    try:
        yield
    except SearchRefused as e:
        raise ApiError(400, e.kind, e.reason) from e
    except NoSuchIndex as e:
        raise job_errors.no_such_index(e.name) from e


@asynccontextmanager
async def asking(name: str) -> AsyncIterator[None]:
    """Answer what a store raises. Raises ApiError, StoreTrouble."""
    try:
        yield
    except SearchTooLarge as e:
        text = f"Trying to create too many buckets. Must be less than or equal to: [{e.most}]: {e}"
        raise ApiError(400, "too_many_buckets_exception", text) from e
    except (SearchTooWide, SearchKeysTooLong, SearchAnswerTooLong) as e:
        raise errors.illegal_argument(str(e)) from e
    except SearchTooSlow as e:
        raise ApiError(504, "timeout_exception", f"{e}; ask for less at a time") from e
    except StoreElsewhere as e:
        raise errors.unavailable(
            f"RollupStore [{name}] is open in the replica that leads, and this one does not; try again"
        ) from e
    except StoreError as e:
        raise store_errors.unavailable(f"RollupStore [{name}]: {e}") from e
