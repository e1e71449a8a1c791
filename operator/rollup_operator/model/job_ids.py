"""Which resource name a job with an Elasticsearch id has, and whose an id is that several jobs have. Pure.

An id that can be a resource name is the name, unless another job has it. Any other id gets a readable beginning and a
hash: `Sensor Data/1` becomes `sensor-data-1-43a357f553`.

Whoever may create a job can give it any id. So an id that several jobs have belongs to the one whose name follows from
it, if there is one: a name can be taken once.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

from rollup_operator.model.job_view import JobView
from rollup_operator.model.names import is_name

_OTHER = re.compile(r"[^a-z0-9]+")
_READABLE = 40
_HASH = 10


def candidates(job_id: str) -> Sequence[str]:
    """Return the names that a job with this id may have, the first to try first."""
    hashed = hashlib.sha256(job_id.encode()).hexdigest()[:_HASH]
    readable = _OTHER.sub("-", job_id.lower())[:_READABLE].strip("-") or "job"
    return (*([job_id] if is_name(job_id) else []), f"{readable}-{hashed}")


def meant(job_id: str, jobs: Iterable[JobView]) -> Sequence[JobView]:
    """Return those of the jobs with this id that it means: one, several if it is ambiguous, or none.

    A job that is being deleted is meant only where all of them are.
    """
    having = sorted(jobs, key=lambda job: job.name)
    having = [job for job in having if not job.deleting] or having
    if len(having) > 1:
        for name in candidates(job_id):
            if named := [job for job in having if job.name == name]:
                return named
    return having
