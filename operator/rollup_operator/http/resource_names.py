"""Which resource name a job has that was created with an Elasticsearch id. Pure, the same at every call.

An id that can be a resource name is the name, unless another job has it. Any other id gets a readable beginning and a
hash: `Sensor Data/1` becomes `sensor-data-1-43a357f553`.
"""

import hashlib
import re
from collections.abc import Sequence

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_OTHER = re.compile(r"[^a-z0-9]+")
_READABLE = 40
_HASH = 10


def is_name(text: str) -> bool:
    """Whether the API server takes this as the name of a job."""
    return _NAME.fullmatch(text) is not None


def candidates(job_id: str) -> Sequence[str]:
    """Return the names that a job with this id may have, the first to try first."""
    hashed = hashlib.sha256(job_id.encode()).hexdigest()[:_HASH]
    readable = _OTHER.sub("-", job_id.lower())[:_READABLE].strip("-") or "job"
    return (*([job_id] if is_name(job_id) else []), f"{readable}-{hashed}")
