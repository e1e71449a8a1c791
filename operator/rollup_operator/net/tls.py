"""TLS of our own connections: whose certificate is trusted, and which certificate is shown."""

import ssl
import tempfile


def verifying(*, cafile: str | None = None, cadata: str | None = None) -> ssl.SSLContext:
    """Return a context that checks the server's certificate, by the system's authorities if none is given.

    Raises OSError for an unreadable file, ssl.SSLError and ValueError for a file without an authority.
    """
    context = ssl.create_default_context(cafile=cafile, cadata=cadata)
    # From Python 3.13 on the default refuses certificates without key identifiers, which many clusters' are.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def load_pair(context: ssl.SSLContext, pem: bytes) -> None:
    """Load a certificate with its key. Raises ssl.SSLError, ValueError for a file that is not one."""
    # OpenSSL takes them from files only. Without a password it would ask the terminal for that of an encrypted key.
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(pem)
        pair.flush()
        context.load_cert_chain(pair.name, password="")
