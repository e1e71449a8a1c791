"""The errors that the demo raises on purpose, and those that it expects of others."""

import http.client
import subprocess

import duckdb


class DemoError(Exception):
    """Something is not as the demo promises; the message says what."""


class UsageError(Exception):
    """The demo was asked for something that it cannot do; the message says what would do."""


FAILURES = (DemoError, OSError, http.client.HTTPException, subprocess.SubprocessError, duckdb.Error)
"""What may go wrong while the demo runs. Each is told with the end of the operator's log."""
