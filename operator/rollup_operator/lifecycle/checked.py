"""What deciding needs of a spec, read once for each generation."""

from dataclasses import dataclass

from rollup_operator.model.job import DeletionPolicy
from rollup_operator.model.reader import Ask, JobView
from rollup_operator.model.schedule import Schedule
from rollup_operator.model.validation import InvalidSpec, check


@dataclass(frozen=True, slots=True)
class Checked:
    """The spec of one generation, as far as deciding needs it. Only a started job keeps its schedule."""

    generation: int
    ask: Ask
    schedule: Schedule | None
    invalid: str | None
    """Why the spec cannot be used, naming the fields; None: it can."""
    deletion_policy: DeletionPolicy
    drain_timeout: float

    @classmethod
    def of(cls, job: JobView) -> "Checked":
        """Read a spec, however wrong it is."""
        try:
            spec, schedule = check(job)
        except InvalidSpec as e:
            delete = job.raw_spec.get("deletionPolicy") == DeletionPolicy.DELETE
            policy = DeletionPolicy.DELETE if delete else DeletionPolicy.RETAIN
            return cls(job.generation, job.ask, None, str(e), policy, 30.0)
        armed = schedule if job.ask is Ask.STARTED else None
        return cls(job.generation, job.ask, armed, None, spec.deletion_policy, float(spec.drain_timeout_seconds))

    def fits(self, job: JobView) -> bool:
        """Whether this is still what `job` says."""
        return self.generation == job.generation and self.ask is job.ask
