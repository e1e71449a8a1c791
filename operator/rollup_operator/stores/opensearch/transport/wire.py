"""The connection of a request, and a way to cut a request off so that it is known to be over.

Closing a connection says nothing about when the other end reads what was sent before: a paused node may begin a
search that lay in its socket long after. So a cut-off request only tells the node that nothing more comes, and then
waits until the node has closed its end, too.

```
  this process                       node
       ── request ──────────────▶  (in its socket, perhaps for a while)
       ── end of what is sent ──▶
                                   reads the request, begins the search
                                   reads the end: cancels the search and closes
       ◀───────────── closed ────
  now the request is in the node's task list, or over
```

A connection that breaks by itself proves nothing: what stands between may have broken it, and the node reads later
what it was given. The same goes for an answer that is not the node's own.
"""

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

import aiohttp

from rollup_operator.concurrency.background import dropped
from rollup_operator.net.aiohttp_private.client import Connection, ObservedConnector, end_sending
from rollup_operator.stores.opensearch.transport.errors import Unanswered

T = TypeVar("T")


class Wire:
    """The state of one exchange: a request and its answer."""

    def __init__(self, *, waits: bool = True) -> None:
        """`waits`: a cancelled exchange is waited for until it is over at the other end, too."""
        self._waits = waits
        self.connection: Connection | None = None
        """Set by WireConnector; None: nothing was sent yet."""
        self.unread = False
        """The request may lie unread at the other end: it may begin there later."""

    async def carry(self, exchange: Coroutine[Any, Any, T]) -> T:
        """Await an exchange over a session with a WireConnector.

        If cancelled, it hangs up and waits until the other end has closed or answered, or the exchange has timed
        out. If cancelled again, or if nobody waits, it closes the connection at once.
        """
        context, hung_up = copy_context(), False
        context.run(_current.set, self)
        task = asyncio.get_running_loop().create_task(exchange, context=context)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            if self._waits and self.connection is not None and not task.done():
                end_sending(self.connection)
                hung_up = True
                await asyncio.wait({task})
            raise
        finally:
            self.unread = self.connection is not None and not _ended_there(task, hung_up=hung_up)
            await dropped(task)
        return task.result()


class WireConnector(ObservedConnector):
    """Reports to the Wire of each exchange which connection it goes over."""

    def connected(self, connection: Connection) -> None:
        """Take in a connection."""
        if (wire := _current.get()) is not None:
            wire.connection = connection


_current: ContextVar[Wire | None] = ContextVar("wire", default=None)


def _ended_there(task: asyncio.Task[Any], *, hung_up: bool) -> bool:
    """Whether an exchange is over because the node has answered, or has closed after it was `hung_up`."""
    if not task.done() or task.cancelled():
        return False
    error = task.exception()
    broken = isinstance(error, aiohttp.ClientError | OSError | Unanswered)
    return not isinstance(error, TimeoutError) and (hung_up or not broken)
