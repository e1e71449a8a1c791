"""What every part of a resource has in common."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, JsonValue
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

GROUP = "rollup-operator.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

DRAIN_FINALIZER = f"{GROUP}/drain"
"""Holds a job's deletion back until the job is quiet. Added before the first claim."""

RUN_REQUESTED_AT = f"{GROUP}/run-requested-at"
"""Annotation: a new value asks for one run now. Handled when `status.lastHandledRunRequest` reads the same.

`run_request` says what a value may ask of the run.
"""

SECRET_HOSTS = f"{GROUP}/hosts"
"""Annotation of a Secret: the hosts that it may be sent to, as comma-separated entries of the setting store_hosts.
"""

CONTROL = r"\x00-\x1f\x7f-\x9f"
"""Control characters, within a set of a pattern. No field of a spec takes any: whoever shows one might obey it."""

PLAIN = f"^[^{CONTROL}]*$"
"""The pattern of a text that may hold anything else."""

LONGEST_CRON = 256
"""Characters of a cron expression."""

CREATION_TIMEOUT = f"{GROUP}/creation-timeout"
"""Annotation: how long the creation through the HTTP API was to wait, as Elasticsearch keeps it with the job."""

CREATION_ID = f"{GROUP}/creation-id"
"""Annotation: which request of the HTTP API created the job, so that a request whose answer was lost finds its job."""

ALSO_WATCHED_BY = f"{GROUP}/also-watched-by"
"""Annotation: the operator that leaves this job, and all others of the one that acts on it, to that one; and when it
said so last. That is how the acting one hears of it."""

GITOPS_MANAGERS = (
    "argocd-controller",
    "argocd-application-controller",
    "kustomize-controller",
    "helm-controller",
    "fleetagent",
    "configsync.gke.io",
)
"""Default field managers of controllers that set values back to those in Git."""


class Part(BaseModel):
    """A frozen piece of a resource: camelCase outside, snake_case inside, unknown fields ignored."""

    # Built when first used: a short command reads few of them.
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", defer_build=True
    )


def fixed(field: str, *rules: tuple[str, str], of: str = "job") -> JsonDict:
    """Return the schema of `in_words` with the CEL rule, at the field itself, that forbids changing its value.

    Enough for a field that is required or has a default. One that may be absent needs `stays` at its parent, too: a
    rule at the field is not evaluated when the field is added or removed. Comparing at the field is what costs least:
    a rule at the parent makes the API server build a map of all its fields at each access, with every status write.
    """
    rule: JsonDict = {"rule": "self == oldSelf", "message": _immutable(field, of), "reason": "FieldValueForbidden"}
    if not rules:
        return {"x-kubernetes-validations": [rule]}
    return {"pattern": None, "x-kubernetes-validations": [*_in_words(rules), rule]}


def stays(field: str, *, of: str = "job") -> dict[str, JsonValue]:
    """Return the CEL rule, at the parent, that forbids adding or removing an optional `field`."""
    return {
        "rule": f"has(self.{field}) == has(oldSelf.{field})",
        "message": _immutable(field, of),
        "fieldPath": f".{field}",
        "reason": "FieldValueForbidden",
    }


def when_changed(fields: Sequence[str], rule: str, message: str, field: str) -> dict[str, JsonValue]:
    """Return a CEL rule that is checked where one of the required `fields` is new or has changed.

    An object that an older CRD accepted stays as it is, and everything else in it can be changed.
    """
    same = " && ".join(f"oldSelf.value().{name} == self.{name}" for name in fields)
    return {
        "rule": f"(oldSelf.hasValue() && {same}) || ({rule})",
        "optionalOldSelf": True,
        "message": message,
        "fieldPath": f".{field}",
    }


def in_words(*rules: tuple[str, str]) -> JsonDict:
    """Return the schema of a field whose values CEL rules check: each a condition, and the message where it is false.

    In place of a pattern, of which the API server shows nothing but the regular expression. A value that stays as it
    is passes: a job that an older CRD accepted can be stopped, reported on and deleted, and a status write costs no
    matching.
    """
    return {"pattern": None, "x-kubernetes-validations": _in_words(rules)}


def _in_words(rules: Sequence[tuple[str, str]]) -> list[JsonValue]:
    return [
        {
            "rule": f"(oldSelf.hasValue() && oldSelf.value() == self) || ({condition})",
            "optionalOldSelf": True,
            "message": message,
        }
        for condition, message in rules
    ]


def unchanged(path: str) -> str:
    """Return the CEL condition, at the root of an object, that its spec has the same value there as before.

    `?` marks an optional last step. CEL's own optional values would be shorter, but the API server cannot bound the
    cost of comparing two of them.
    """
    new, old = (f"{root}.spec.{path.replace('?', '')}" for root in ("self", "oldSelf"))
    if "?" not in path:
        return f"{new} == {old}"
    return f"(has({new}) ? has({old}) && {new} == {old} : !has({old}))"


def matching(pattern: str) -> str:
    """Return the CEL condition that the field matches a regular expression, which has no single quote."""
    return f"self.matches(r'{pattern}')"


def _immutable(field: str, of: str) -> str:
    text = f"{field} is immutable: delete the {of} and create it again"
    return f"{text}. Its documents stay with deletionPolicy Retain, and go with Delete" if of == "job" else text
