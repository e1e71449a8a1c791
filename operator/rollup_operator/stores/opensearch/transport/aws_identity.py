"""The operator's own AWS identity: given by EKS, or by whoever runs the pod.

Three sources are read, in this order: keys in the environment (`AWS_ACCESS_KEY_ID`, ...), a token file with a role
(`AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN`: IAM roles for service accounts), and the container's endpoint
(`AWS_CONTAINER_CREDENTIALS_FULL_URI`: EKS Pod Identity). Not read are files of the AWS command line, programs that
these name, and the instance's role, which belongs to the node and not to the operator.

```
  taken              RENEW_SECONDS before the end    URGENT_SECONDS before it        end
    ├── used ───────────────┼── used, and renewed beside ──┼── renewal is waited for ──┤
```

One renewal per Region runs at a time, and the next begins PAUSE_SECONDS later at the earliest. All have threads of
their own: a store that names a Region that does not answer delays only other users of this identity.
"""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog

from rollup_operator.concurrency.background import spawn
from rollup_operator.model.conditions import Reason
from rollup_operator.stores.errors import StoreUnavailable
from rollup_operator.stores.opensearch.transport import signing
from rollup_operator.stores.opensearch.transport.signing import Keys
from rollup_operator.stores.redaction import Redactor

log = structlog.get_logger(__name__)

RENEW_SECONDS = 300.0
URGENT_SECONDS = 60.0
PAUSE_SECONDS = 10.0

THREADS = 8
"""Renewals that run at a time. One that is not answered takes minutes."""

SOURCES = ("env", "assume-role-with-web-identity", "container-role")
"""By botocore's names for them."""


class NoIdentity(StoreUnavailable):
    """The operator has no credentials of its own now. Nothing was sent."""

    reason = Reason.STORE_UNAUTHORIZED


@dataclass(frozen=True, slots=True)
class Lent:
    """Credentials for a while."""

    keys: Keys
    ends_within: Callable[[float], bool]
    """Whether they end within that many seconds."""


Fetch = Callable[[str], Lent | None]
"""Gets credentials from a Region; blocks. None: there are none. May raise anything."""


class AwsIdentity:
    """The operator's own credentials, kept fresh."""

    def __init__(
        self, region: str, fetch: Fetch, clock: Callable[[], float] = time.monotonic, threads: Executor | None = None
    ) -> None:
        self._region, self._fetch, self._clock, self._threads = region, fetch, clock, threads
        self._lent: Lent | None = None
        self._redactor = Redactor()
        self._renewal: asyncio.Task[None] | None = None
        self._next = float("-inf")
        self._failure = ""

    async def keys(self) -> Keys:
        """Return valid credentials. Raises NoIdentity."""
        if (lent := self._lent) is not None and not lent.ends_within(RENEW_SECONDS):
            return lent.keys
        renewal = self._renew()
        if lent is not None and not lent.ends_within(URGENT_SECONDS):
            return lent.keys
        if renewal is not None:
            await asyncio.wait({renewal})  # others may wait for it, so it continues if this call is cancelled
        if (lent := self._lent) is None or lent.ends_within(0.0):
            raise NoIdentity(f"the operator has no AWS credentials of its own: {self._failure}")
        return lent.keys

    def redact(self, text: str) -> str:
        """Take the credentials out of a text."""
        return self._redactor(text)

    def _renew(self) -> asyncio.Task[None] | None:
        """Return the current renewal, or begin one; None: the last one was a moment ago."""
        if self._renewal is not None and not self._renewal.done():
            return self._renewal
        if self._clock() < self._next:
            return None
        self._renewal = spawn("renewal of AWS credentials", self._renewed(), follows="the next request tries again")
        return self._renewal

    async def _renewed(self) -> None:
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, self._region)
        except Exception as e:
            self._failure = self.redact(f"{type(e).__name__}: {e}")
            log.warning("AWS credentials cannot be renewed", error=self._failure)
        else:
            if found is None:
                self._failure = (
                    "its pod has neither a web identity nor an EKS Pod Identity nor keys in its environment: bind its "
                    "service account to an IAM role"
                )
            else:
                before = () if self._lent is None else self._lent.keys.secrets
                self._redactor = Redactor.of((*found.keys.secrets, *before))
                self._lent = found
        finally:
            self._next = self._clock() + PAUSE_SECONDS


class Identities:
    """The operator's identity, one per Region of the stores: credentials are requested in that Region."""

    def __init__(self, fetch: Fetch | None = None) -> None:
        self._fetch = fetch or fetched
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="aws")
        self._known: WeakValueDictionary[str, AwsIdentity] = WeakValueDictionary()

    def of(self, region: str) -> AwsIdentity:
        """Return the identity for stores of a Region; clients share it. No I/O."""
        if (known := self._known.get(region)) is None:
            known = self._known[region] = AwsIdentity(region, self._fetch, threads=self._threads)
        return known


def fetched(region: str) -> Lent | None:
    """Ask botocore for the pod's credentials."""
    from botocore.session import Session  # noqa: PLC0415  # optional

    signing.load()
    session = Session()
    session.set_config_variable("config_file", os.devnull)
    session.set_config_variable("credentials_file", os.devnull)
    if not session.get_config_variable("region"):
        session.set_config_variable("region", region)
    chain = session.get_component("credential_provider")
    for provider in tuple(chain.providers):
        if provider.METHOD not in SOURCES:
            chain.remove(provider.METHOD)
    if (found := chain.load_credentials()) is None:
        return None
    frozen = found.get_frozen_credentials()
    ends = getattr(found, "refresh_needed", None)  # keys of the environment have no end
    return Lent(Keys(frozen.access_key, frozen.secret_key, frozen.token), ends or _never)


def _never(_: float) -> bool:
    return False
