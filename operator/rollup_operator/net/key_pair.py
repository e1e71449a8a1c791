"""Certificates with their keys, for TLS."""

import ssl
import tempfile


def load_pair(context: ssl.SSLContext, pem: bytes) -> None:
    """Load a certificate with its key. Raises ssl.SSLError, ValueError for what is none."""
    # OpenSSL takes them from files only. Without a password it would ask the terminal for that of an encrypted key.
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(pem)
        pair.flush()
        context.load_cert_chain(pair.name, password="")
