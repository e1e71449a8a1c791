"""TLS contexts, one for all clients with the same trust: each one with the system's authorities takes a megabyte."""

import hashlib
import ssl
import threading
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from rollup_operator.net.tls import load_pair, verifying


class UnusableAuthority(Exception):
    """The certificates of the authority are none. The text says why, and has no piece of them."""


class UnusablePair(Exception):
    """The client certificate and its key are none. The text says why, and has no piece of them."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The trusted authorities of a client, and its own certificate."""

    ca: str | None = field(default=None, repr=False)
    """Certificates in PEM; None: the system's authorities."""
    certificate: bytes | None = field(default=None, repr=False)
    """Client certificate and key in one PEM."""
    verify: bool = True

    @property
    def digest(self) -> bytes:
        """Return a short value that differs from that of any other."""
        parts = (self.ca.encode() if self.ca is not None else None, self.certificate, bytes([self.verify]))
        hashed = hashlib.sha256()
        for part in parts:
            hashed.update(b"-" if part is None else hashlib.sha256(part).digest())
        return hashed.digest()


class Contexts:
    """The contexts that are in use."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[bytes, ssl.SSLContext] = WeakValueDictionary()
        self._making = threading.Lock()

    def of(self, trust: Trust) -> ssl.SSLContext:
        """Return the context for it; may read the system's authorities. From any thread.

        Raises UnusableAuthority, UnusablePair.
        """
        digest = trust.digest
        with self._making:
            known = self._known.get(digest)
            if known is None:
                known = self._known[digest] = _made(trust)
            return known


def _made(trust: Trust) -> ssl.SSLContext:
    try:
        context = verifying(cadata=trust.ca)
    except (ssl.SSLError, ValueError) as e:
        raise UnusableAuthority(_why(e)) from e
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not trust.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if trust.certificate is not None:
        try:
            load_pair(context, trust.certificate)
        except (ssl.SSLError, ValueError) as e:
            raise UnusablePair(_why(e)) from e
    return context


def _why(error: Exception) -> str:
    """Say what is wrong with a PEM in OpenSSL's words, never with a piece of it."""
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else "it is no PEM"
