"""What every part of a resource has in common."""

from pydantic import BaseModel, ConfigDict, JsonValue
from pydantic.alias_generators import to_camel

GROUP = "rollup-operator.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

DRAIN_FINALIZER = f"{GROUP}/drain"
"""Holds a job's deletion back until the job is quiet. Added before the first claim."""

RUN_REQUESTED_AT = f"{GROUP}/run-requested-at"
"""Annotation: a new value asks for one run now. Handled when `status.lastHandledRunRequest` reads the same."""


class Part(BaseModel):
    """A frozen piece of a resource: camelCase outside, snake_case inside, unknown fields ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


def immutable(field: str, *, of: str = "job") -> dict[str, JsonValue]:
    """Return the CEL rule that forbids adding, changing and removing `field` of the `of`.

    It stands at the field's parent: a rule at the field itself is not evaluated when the field is added or removed.
    """
    return {
        "rule": f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        "message": f"{field} is immutable: delete the {of} and create it anew",
        "fieldPath": f".{field}",
        "reason": "FieldValueForbidden",
    }
