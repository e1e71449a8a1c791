"""What schemathesis checks of each answer beside what it checks by itself. Runs in its environment, not in ours."""

import atexit
import json
import os
from collections import Counter
from pathlib import Path

import schemathesis

KNOWN = (
    "Timed out after [",
    "Cannot stop task for Rollup Job [",
    "Cannot start task for Rollup Job [",
)
"""How the reason of a 500 begins that the contract knows."""

SEEN = Counter()
"""How often each call got each status. At the end it is written as JSON to the file that ROLLUP_SEEN names."""


@atexit.register
def tell_what_was_seen():
    Path(os.environ["ROLLUP_SEEN"]).write_text(json.dumps(SEEN))


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    """Send a text as it is made up."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


@schemathesis.check
def in_the_envelope(ctx, response, case):
    """Every answer, of whatever status, is Elasticsearch's: its header, JSON, errors in the envelope."""
    SEEN[f"{case.operation.label} {response.status_code}"] += 1
    assert response.headers.get("x-elastic-product") == ["Elasticsearch"], "a client would not take it"
    if response.request.method == "OPTIONS" and response.status_code == 200:
        assert response.content == b""
        return
    body = read(response)
    if response.status_code == 200 and body.get("notes"):
        SEEN["notes of a preview"] += 1
    if response.status_code >= 400 and "task_failures" not in body:
        assert body["status"] == response.status_code
        assert all(body["error"][part] for part in ("type", "reason", "root_cause"))


@schemathesis.check
def no_error_but_known_ones(ctx, response, case):
    """A status of 5xx is one that the contract names."""
    if response.status_code >= 500:
        body = read(response)
        if "task_failures" not in body:
            assert body["error"]["reason"].startswith(KNOWN), body["error"]["reason"]


def read(response):
    content = response.content
    if response.headers.get("content-type") == ["application/x-ndjson"]:
        content = content.splitlines()[-1]  # before it there is progress
    try:
        return json.loads(content)
    except ValueError:
        raise AssertionError(f"no JSON: {response.content[:200]}") from None


@schemathesis.hook
def filter_failure(ctx, failure, case, response):
    """Let an answer that was asked to be filtered lack what its schema requires.

    And let a path have the methods of another one that means it too: a job may be named `_preview`.
    """
    if isinstance(failure, schemathesis.openapi.checks.AllowHeaderMismatch) and case.path.endswith("/_preview"):
        return False
    filtered = "filter_path" in (case.query or {}) and response.status_code == 200
    return not (filtered and isinstance(failure, schemathesis.openapi.checks.JsonSchemaError))
