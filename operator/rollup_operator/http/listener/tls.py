"""The endpoint's certificate: read from two files, and read again when they change.

A mounted Secret changes by a swap of a symbolic link, certificate and key at once; other tools write one file after
the other. So a new pair is taken only as a whole: until it fits, the one before stays. Connections keep what they
began with.
"""

import asyncio
import hashlib
import math
import ssl
from datetime import UTC, datetime
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_VERSION, _UTC_TIME = 0xA0, 0x17
"""Tags of DER."""


class CertificateError(ValueError):
    """The pair cannot be used; the text names the files and what is wrong with them."""


class Certificate:
    """The pair in use. `context` is what to listen with, for ever."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._cert, self._key = cert_file, key_file
        self._seen = self._stat()
        self._refused: list[tuple[int, int, int] | None] | None = None
        self.key_digest = b""
        """A digest of the private key in use: a secret that all replicas with this certificate have."""
        self._current = self.context = self._load()
        self._ends = expiry_of(self._cert)
        # A context of its own for each pair: one that is loaded again keeps an old certificate whose key is of another
        # kind. The callback is called for every handshake, named by the client or not.
        self.context.sni_callback = self._present

    @property
    def ends(self) -> float:
        """When the certificate in use is good no longer, in seconds since the epoch; NaN where that cannot be read."""
        return self._ends

    async def keep_fresh(self, every: float) -> None:
        """Check for a new pair at this interval in seconds, until cancelled."""
        while True:
            await asyncio.sleep(every)
            self.refresh()

    def refresh(self) -> None:
        """Read the files again if they have changed. A pair that cannot be used is logged once, and tried again."""
        if (found := self._stat()) == self._seen:
            return
        try:
            self._current = self._load()
        except CertificateError as e:
            if found != self._refused:
                log.warning("new certificate cannot be used, the one before stays", problem=str(e))
            self._refused = found
        else:
            self._seen, self._ends = found, expiry_of(self._cert)
            log.info("new certificate in use", cert_file=str(self._cert))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        try:
            # Without a password, OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(self._cert, self._key, password="")
            self.key_digest = hashlib.sha256(self._key.read_bytes()).digest()
        except (OSError, ValueError) as e:
            why = e.strerror or str(e) if isinstance(e, OSError) else str(e)
            raise CertificateError(
                f"tls_cert_file {self._cert} and tls_key_file {self._key} cannot be used: {why}; give the "
                "certificate with its chain and its unencrypted key, both in PEM"
            ) from e
        return context

    def _present(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _stat(self) -> list[tuple[int, int, int] | None]:
        return [_fingerprint(self._cert), _fingerprint(self._key)]


def expiry_of(file: Path) -> float:
    """Return when the first certificate of a PEM file ends, in seconds since the epoch; NaN if that cannot be read.

    The standard library reads this only of a peer's certificate, so the few bytes of DER before it are read here.
    """
    try:
        pem = file.read_text()
        begin, end = pem.index(ssl.PEM_HEADER), pem.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
        body = _content(_content(ssl.PEM_cert_to_DER_cert(pem[begin:end]))[1])[1]
        tag, _, rest = _content(body)
        # Version (which may be missing), serial number, algorithm and issuer come first, then the validity.
        for _ in range(3 if tag == _VERSION else 2):
            _, _, rest = _content(rest)
        _, _, after = _content(_content(rest)[1])
        kind, text, _ = _content(after)
        form = "%y%m%d%H%M%SZ" if kind == _UTC_TIME else "%Y%m%d%H%M%SZ"
        return datetime.strptime(text.decode(), form).replace(tzinfo=UTC).timestamp()
    except (OSError, ValueError, IndexError):
        return math.nan


def _content(der: bytes) -> tuple[int, bytes, bytes]:
    """Split DER into the tag and the content of its first element, and what follows."""
    length, at = der[1], 2
    if length & 0x80:
        at += length & 0x7F
        length = int.from_bytes(der[2:at])
    return der[0], der[at : at + length], der[at + length :]


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
