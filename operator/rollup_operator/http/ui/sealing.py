"""Seals a text, so that whoever holds it can hand it back, but neither read nor change it.

The standard library has no cipher. This one is a keystream of SHAKE256 from a key and a nonce that is used once, and
an HMAC over nonce and result: encrypt, then authenticate.
"""

import base64
import hashlib
import hmac
import secrets
import zlib

NONCE_BYTES = 24
"""Random; two equal ones of all texts that a key ever seals are out of the question."""

TAG_BYTES = 32


class Seal:
    """Seals and opens with keys that follow from one secret."""

    def __init__(self, secret: bytes) -> None:
        self._stream_key = _derived(secret, b"stream")
        self._tag_key = _derived(secret, b"tag")
        self._mark_key = _derived(secret, b"mark")

    def seal(self, text: str) -> str:
        """Return the text, sealed, in characters that a cookie may have. Sealing it again gives another result."""
        plain = zlib.compress(text.encode(), 9)
        nonce = secrets.token_bytes(NONCE_BYTES)
        hidden = self._crypted(nonce, plain)
        return base64.urlsafe_b64encode(nonce + self._tag(nonce, hidden) + hidden).decode().rstrip("=")

    def open(self, sealed: str) -> str | None:
        """Return the text that was sealed; None: this secret did not seal it, or it was changed."""
        try:
            whole = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
        except ValueError:
            return None
        nonce, tag, hidden = whole[:NONCE_BYTES], whole[NONCE_BYTES:][:TAG_BYTES], whole[NONCE_BYTES + TAG_BYTES :]
        if not hmac.compare_digest(tag, self._tag(nonce, hidden)):
            return None
        return zlib.decompress(self._crypted(nonce, hidden)).decode()

    def mark(self, text: str) -> str:
        """Return what only this secret can make of a text, in hexadecimal digits."""
        return hmac.digest(self._mark_key, text.encode(), "sha256").hex()

    def _crypted(self, nonce: bytes, data: bytes) -> bytes:
        stream = hashlib.shake_256(self._stream_key + nonce).digest(len(data))
        return bytes(a ^ b for a, b in zip(data, stream, strict=True))

    def _tag(self, nonce: bytes, hidden: bytes) -> bytes:
        return hmac.digest(self._tag_key, nonce + hidden, "sha256")


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(secret, b"rollup-operator page " + purpose, "sha256")
