"""Rights and resources that the operator lacks: logs each of them once, and pauses before kopf asks again."""

import asyncio
import re
import time
from collections.abc import Callable

import aiohttp
import orjson
import structlog

from rollup_operator.model.base import API_VERSION

log = structlog.get_logger(__name__)

LOG_EVERY = 60.0
"""Seconds until the same is logged again."""

PAUSE = 1.0
"""Seconds until a watch begins again that is forbidden, or whose resource is not served."""

KEPT = 256
"""How many are remembered as logged."""

_LACKS = re.compile(
    r'cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)"| at the cluster scope)?'
)
"""How the API server says that RBAC does not allow something."""


_OURS = f"/apis/{API_VERSION}"


class NotServed(aiohttp.ClientConnectionError):
    """The API server does not serve a resource now. kopf retries it, as it does any connection that failed."""


class MissingRights:
    """Logs what the API server forbids or does not serve. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: dict[str, float] = {}

    def log_refusal(self, message: str) -> None:
        """Take in the message of an answer 403."""
        lacks = _LACKS.search(message)
        # Of the same right missing for a thousand jobs one line is enough.
        if not self._is_new(lacks[0] if lacks else message):
            return
        if lacks is None:
            log.warning("the API server forbids it", problem=message)  # a quota, an admission policy
            return
        log.warning(
            "a right is missing",
            **{name: value for name, value in lacks.groupdict().items() if value is not None},
            cure="grant it to the operator's service account; docs/rights.md lists what each right is for",
        )

    def _is_new(self, what: str) -> bool:
        now = self._clock()
        if now - self._logged.get(what, float("-inf")) < LOG_EVERY:
            return False
        self._logged.pop(what, None)
        self._logged[what] = now
        if len(self._logged) > KEPT:
            del self._logged[next(iter(self._logged))]
        return True

    async def slow_down(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """As a middleware of kopf's session: log an answer 403 or 404 and hold it back; kopf asks again at once.

        A 404 raises NotServed, since kopf would end this process.
        """
        answer = await handler(request)
        if answer.status == 403:
            text = await answer.read()
            try:
                message = str(orjson.loads(text)["message"])
            except (orjson.JSONDecodeError, KeyError, TypeError):
                message = text[:300].decode(errors="replace")
            self.log_refusal(message)
            await asyncio.sleep(PAUSE)
        elif answer.status == 404 and _OURS in request.url.path:
            answer.release()
            what = request.url.path.partition(_OURS)[2].rpartition("/")[2] or API_VERSION
            if self._is_new(f"not served: {what}"):
                log.warning("a resource is not served", resource=what, cure=f"apply crds/, with {API_VERSION} served")
            await asyncio.sleep(PAUSE)
            raise NotServed(f"the API server does not serve {what}: apply crds/")
        return answer
