"""Seals a text. Its holder can hand it back, but neither read nor change it."""

import base64
import hmac
import zlib

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox


class Seal:
    """Seals and opens with keys that follow from one secret."""

    def __init__(self, secret: bytes) -> None:
        self._box = SecretBox(_derived(secret, b"box"))
        self._mark_key = _derived(secret, b"mark")

    def seal(self, text: str) -> str:
        """Return the text, sealed, in characters that a cookie may have. Sealing it again gives another result."""
        sealed = self._box.encrypt(zlib.compress(text.encode(), 9))
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, sealed: str) -> str | None:
        """Return the text that was sealed; None: this secret did not seal it, or it was changed."""
        try:
            whole = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
            return zlib.decompress(self._box.decrypt(whole)).decode()
        except (ValueError, CryptoError):
            return None

    def mark(self, text: str) -> str:
        """Return what only this secret can make of a text, in hexadecimal digits."""
        return hmac.digest(self._mark_key, text.encode(), "sha256").hex()


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(secret, b"rollup-operator page " + purpose, "sha256")
