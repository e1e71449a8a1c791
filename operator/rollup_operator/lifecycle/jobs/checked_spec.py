"""The parts of a spec that `decide` needs, parsed once for each change of the spec."""

from dataclasses import dataclass, field

from rollup_operator.model.job import DeletionPolicy
from rollup_operator.model.job_view import JobView
from rollup_operator.model.schedule import Schedule
from rollup_operator.model.validation import InvalidSpec, check


@dataclass(frozen=True, slots=True)
class Checked:
    """The part of a spec that `decide` needs, without `desiredState`, which changes often and is read from the view."""

    spec: str = field(repr=False)
    """JSON, as the view has it."""
    schedule: Schedule | None
    invalid: str | None
    """Why the spec cannot be used, naming the fields; None: it can."""
    deletion_policy: DeletionPolicy
    drain_timeout: float
    verifies: bool = False
    """It has spec.verify."""
    verify_schedule: Schedule | None = None
    """None: no verification is to begin."""

    @classmethod
    def of(cls, job: JobView) -> "Checked":
        """Read a spec, whatever its errors."""
        try:
            spec, schedule = check(job)
        except InvalidSpec as e:
            delete = job.raw_spec.get("deletionPolicy") == DeletionPolicy.DELETE
            policy = DeletionPolicy.DELETE if delete else DeletionPolicy.RETAIN
            verifies = job.raw_spec.get("verify") is not None
            return cls(job.lasting_spec, None, str(e), policy, 30.0, verifies)
        verify = None if spec.verify is None else Schedule.parse(spec.verify.cron)
        timeout = float(spec.drain_timeout_seconds)
        return cls(job.lasting_spec, schedule, None, spec.deletion_policy, timeout, verify is not None, verify)

    def fits(self, job: JobView) -> bool:
        """Whether this is still the spec of `job`."""
        return self.spec == job.lasting_spec
