"""Asks all stores of a namespace the same, for a call that none of them answers alone.

A store that cannot be asked does not take the others' answers away: the call answers what is known, and a `Warning`
header says what it lacks. Where no store answers, the call does not either.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rollup_operator.http.access import store_errors
from rollup_operator.http.access.store_errors import StoreTrouble
from rollup_operator.http.ports import Stores
from rollup_operator.stores.base import Store
from rollup_operator.stores.errors import StoreElsewhere, StoreError, StoreNotFound

T = TypeVar("T")

SECONDS = 30.0
"""How long a store may take."""

SIDE_BY_SIDE = 8
"""Stores that are asked at a time for one call."""


@dataclass(frozen=True, slots=True)
class Answers(Generic[T]):
    """What the stores have answered, in order of their names, and why others have not."""

    found: Sequence[T]
    troubles: Sequence[StoreTrouble]

    def must_be_whole(self) -> None:
        """Raise StoreTrouble if what was looked for may be in a store that has not answered."""
        if self.troubles:
            raise self.troubles[0]


async def ask_every_store(
    stores: Stores, namespace: str, ask: Callable[[str, Store], Awaitable[Sequence[T]]]
) -> Answers[T]:
    """Ask all usable stores of a namespace. Raises StoreTrouble if none answers, or another replica can answer."""
    places, troubles = asyncio.Semaphore(SIDE_BY_SIDE), dict[str, StoreTrouble]()
    found: dict[str, Sequence[T]] = {}

    async def one(name: str) -> None:
        try:
            async with places, asyncio.timeout(SECONDS):
                found[name] = await ask(name, await stores.open((namespace, name)))
        except StoreNotFound:
            found[name] = ()  # deleted just now
        except TimeoutError:
            troubles[name] = store_errors.unavailable(f"RollupStore [{name}] has not answered within {SECONDS:g}s")
        except StoreElsewhere as e:
            elsewhere.append(store_errors.unavailable(f"RollupStore [{name}]: {e}"))
        except StoreError as e:
            troubles[name] = store_errors.unavailable(f"RollupStore [{name}]: {e}")

    elsewhere: list[StoreTrouble] = []
    async with asyncio.TaskGroup() as group:
        for name in stores.usable(namespace):
            group.create_task(one(name))
    if elsewhere:
        raise elsewhere[0]
    answers = Answers([each for name in sorted(found) for each in found[name]], [troubles[n] for n in sorted(troubles)])
    if not found:
        answers.must_be_whole()
    return answers
