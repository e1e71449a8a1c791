"""Rights that the operator turns out to lack: one line of the log for each, whatever came of the request."""

import asyncio
import re
import time
from collections.abc import Callable

import aiohttp
import orjson
import structlog

log = structlog.get_logger(__name__)

TELL_EVERY = 60.0
"""Seconds until the same is told again."""

PAUSE = 1.0
"""Seconds that a watch that is forbidden waits before it is begun anew."""

KEPT = 256
"""So many are remembered as told."""

_LACKS = re.compile(
    r'cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)"| at the cluster scope)?'
)
"""How the API server tells that RBAC does not allow something."""


class Missing:
    """Tells the log what the API server has forbidden. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}

    def tell(self, message: str) -> None:
        """Take in the message of an answer 403."""
        lacks = _LACKS.search(message)
        # Of the same right missing for a thousand jobs one line is enough.
        what = lacks[0] if lacks else message
        now = self._clock()
        if now - self._told.get(what, float("-inf")) < TELL_EVERY:
            return
        self._told.pop(what, None)
        self._told[what] = now
        if len(self._told) > KEPT:
            del self._told[next(iter(self._told))]
        if lacks is None:
            log.warning("the API server forbids it", problem=message)  # a quota, an admission policy
            return
        log.warning(
            "a right is missing",
            **{name: value for name, value in lacks.groupdict().items() if value is not None},
            cure="give it back to the operator's service account: docs/rights.md lists what each is for",
        )

    async def slow_down(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """As a middleware of kopf's session: tell of an answer 403, and hold it back; kopf asks again at once."""
        answer = await handler(request)
        if answer.status == 403:
            text = await answer.read()
            try:
                message = str(orjson.loads(text)["message"])
            except (orjson.JSONDecodeError, KeyError, TypeError):
                message = text[:300].decode(errors="replace")
            self.tell(message)
            await asyncio.sleep(PAUSE)
        return answer
