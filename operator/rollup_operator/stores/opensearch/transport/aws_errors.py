"""Errors of Amazon OpenSearch Service for requests that reach no cluster. Pure.

Such answers have only a `message`. Some repeat the whole request, including a session token, so known errors are
described in our own words.
"""

import re
from collections.abc import Mapping

_TIMES = re.compile(r"[0-9]{8}T[0-9]{6}Z")

_KNOWN: Mapping[str, str] = {
    "request signature we calculated does not match": "the signature is wrong: either secretAccessKey is not the one "
    "of accessKeyId, or something between the operator and AWS changes requests",
    "security token included in the request is expired": "the session has expired: put a new accessKeyId, "
    "secretAccessKey and sessionToken into the Secret",
    "security token included in the request is invalid": "AWS does not know this accessKeyId, or sessionToken is "
    "missing or belongs to another session",
    "Credential should be scoped to": "the signature is for another Region or service: set spec.opensearch.aws.region "
    "to the Region of the domain",
    "Missing Authentication Token": "the domain takes signed requests only: set spec.opensearch.aws.region",
}
"""Our texts, each by a part of AWS's text."""


def message_of(body: object) -> str:
    """Return the message of an answer that has only a message; empty: it is another kind of answer."""
    if not isinstance(body, Mapping) or "error" in body:
        return ""
    said = body.get("message", body.get("Message"))
    return said if isinstance(said, str) else ""


def explained(message: str) -> str | None:
    """Return in plain words what a message means, without what it repeats of the request; None: it is not known."""
    if message.startswith(("Signature expired", "Signature not yet current")):
        times = _TIMES.findall(message)
        both = f" (signed at {times[0]}, AWS has {times[-1]})" if len(times) >= 2 else ""
        return (
            f"the signature is of another time than AWS's{both}: the clock of the operator's machine is more than five "
            "minutes off; correct it"
        )
    return next((words for part, words in _KNOWN.items() if part in message), None)
