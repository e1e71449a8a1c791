"""The CustomResourceDefinitions, made from the typed model: `python -m rollup_operator.model.crd [--check] [DIR]`.

A structural schema knows less than JSON Schema: no references, no alternatives with null, no titles. What pydantic
writes is rewritten into it; `x-kubernetes-*` keys that the models carry pass through.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rollup_operator.model.base import GROUP, VERSION, Part
from rollup_operator.model.fixed_fields import fixed_fields
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.status import RollupJobStatus
from rollup_operator.model.store import RollupStoreSpec, RollupStoreStatus

Schema = dict[str, Any]

_HEADER = "# Generated from operator/rollup_operator/model by `make generate`. Change the model, not this file.\n"

_ORDER = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
    "required",
    "properties",
    "items",
    "x-kubernetes-validations",
)

# A requested state that is not yet recorded would be lost with the field, and a stop with it.
_KEEP_UNRECORDED_STATE = {
    "rule": "has(self.spec.desiredState) || !has(oldSelf.spec.desiredState) || (has(self.status) && "
    "has(self.status.desiredState) && self.status.desiredState == oldSelf.spec.desiredState)",
    "message": "desiredState can be removed only once status.desiredState has recorded it: try again",
    "fieldPath": ".spec.desiredState",
}

_READY = '.status.conditions[?(@.type=="Ready")]'

_JOB_COLUMNS = (
    ("State", "string", ".status.state", "Where the job is.", 0),
    ("Ready", "string", f"{_READY}.status", "Whether the job is in the state that is asked for.", 0),
    ("Reason", "string", f"{_READY}.reason", "Why it is ready or not.", 0),
    ("Watermark", "string", ".status.watermark", "Everything before this instant is rolled up.", 0),
    ("Last run", "date", ".status.lastRun.endTime", "How long ago the last run ended.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "How long ago the job was created.", 0),
    ("Newest", "string", ".status.newestBucket", "When the last bucket written begins.", 1),
    ("Next run", "string", ".status.nextRunTime", "The next tick of the schedule.", 1),
    ("Desired", "string", ".status.desiredState", "The state in effect.", 1),
    ("Verified", "string", '.status.conditions[?(@.type=="Verified")].status', "Whether it equals its source.", 1),
    ("Progress", "integer", ".status.progress.percent", "Per cent of the run under way that are done.", 1),
    ("Source", "string", ".spec.indexPattern", "What is rolled up.", 1),
    ("Target", "string", ".spec.rollupIndex", "Where the documents go.", 1),
    ("Result", "string", ".status.result", "File with the documents, below the operator's data root.", 1),
)

_STORE_COLUMNS = (
    ("Ready", "string", f"{_READY}.status", "Whether the store can be used.", 0),
    ("Reason", "string", f"{_READY}.reason", "Why it is ready or not.", 0),
    ("Distribution", "string", ".status.distribution", "What the store turned out to be.", 0),
    ("Version", "string", ".status.version", "Its version.", 0),
    ("Health", "string", ".status.health", "The cluster's health.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "How long ago the store was created.", 0),
    ("Results", "string", ".status.results", "Folder of the results, below the operator's data root.", 1),
)


def job_crd() -> Schema:
    """Return the CustomResourceDefinition of RollupJob."""
    return _crd(
        kind="RollupJob",
        short="rj",
        what="A rollup job: it summarises time-series data into a small index, by a schedule, while it is started.",
        spec=RollupJobSpec,
        status=RollupJobStatus,
        rules=[_KEEP_UNRECORDED_STATE, fixed_fields()],
        columns=_JOB_COLUMNS,
    )


def store_crd() -> Schema:
    """Return the CustomResourceDefinition of RollupStore."""
    return _crd(
        kind="RollupStore",
        short="rst",
        what="A place that holds source data and rolled-up documents.",
        spec=RollupStoreSpec,
        status=RollupStoreStatus,
        rules=[],
        columns=_STORE_COLUMNS,
    )


def structural(model: type[Part]) -> Schema:
    """Return the structural schema of a model."""
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})
    return _rewrite(schema, definitions)


def files() -> dict[str, str]:
    """Return the text of each file by its name."""
    return {
        f"{crd['spec']['names']['plural']}.yaml": _HEADER
        + yaml.safe_dump(crd, sort_keys=False, width=110, allow_unicode=True)
        for crd in (job_crd(), store_crd())
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with --check compare them; 1 when one is stale."""
    parser = argparse.ArgumentParser(prog="rollup_operator.model.crd", description="Generate the CRDs from the model.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    parser.add_argument("directory", nargs="?", type=Path, default=Path("crds"), metavar="DIR")
    options = parser.parse_args(arguments)
    stale = 0
    for name, text in files().items():
        path: Path = options.directory / name
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path} does not fit the model: run `make generate` and commit the result", file=sys.stderr)
            stale = 1
    return stale


def _crd(
    *,
    kind: str,
    short: str,
    what: str,
    spec: type[Part],
    status: type[Part],
    rules: list[dict[str, str]],
    columns: tuple[tuple[str, str, str, str, int], ...],
) -> Schema:
    singular = kind.lower()
    plural = f"{singular}s"
    status_schema = _without_defaults(structural(status))
    # A new object must not look done before the operator has seen it: kstatus takes -1 for "in progress".
    status_schema["properties"]["observedGeneration"]["default"] = -1
    status_schema["default"] = {"observedGeneration": -1}
    root: Schema = {
        "description": what,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": f"Always {GROUP}/{VERSION}.", "type": "string", "maxLength": 64},
            "kind": {"description": f"Always {kind}.", "type": "string", "maxLength": 63},
            "metadata": {"type": "object"},  # the API server allows no further keywords here
            "spec": structural(spec),
            "status": _sorted(status_schema),
        },
    }
    if rules:
        root["x-kubernetes-validations"] = rules
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": singular,
                "shortNames": [short],
                "categories": ["rollup"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in columns],
                    "schema": {"openAPIV3Schema": root},
                }
            ],
        },
    }


def _column(name: str, type_: str, path: str, description: str, priority: int) -> Schema:
    column: Schema = {"name": name, "type": type_, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})


def _rewrite(schema: Mapping[str, Any], definitions: Mapping[str, Schema]) -> Schema:
    """Turn one JSON Schema into a structural one, its parts included."""
    result = dict(schema)
    if "$ref" in result:
        result = definitions[result.pop("$ref").rpartition("/")[2]] | result
    if "anyOf" in result:
        alternatives = [a for a in result.pop("anyOf") if a.get("type") != "null"]
        if len(alternatives) != 1:
            raise TypeError(f"a structural schema has no alternatives of several types: {schema}")
        return _rewrite({**alternatives[0], **result}, definitions)
    result.pop("title", None)
    for key in ("default", "pattern"):
        if result.get(key, ...) is None:
            del result[key]
    if "const" in result:
        result["enum"] = [result.pop("const")]
    if result.get("type") == "integer":
        result["format"] = "int64"
    if result.get("x-kubernetes-preserve-unknown-fields"):
        result.pop("additionalProperties", None)
    if "properties" in result:
        result["properties"] = {name: _rewrite(part, definitions) for name, part in result["properties"].items()}
    if "items" in result:
        result["items"] = _rewrite(result["items"], definitions)
    return _sorted(result)


def _sorted(schema: Schema) -> Schema:
    return dict(sorted(schema.items(), key=lambda item: _ORDER.index(item[0])))


def _without_defaults(schema: Schema) -> Schema:
    """Drop every default: what was not observed is absent, so the API server must not fill in a status."""
    result = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in result:
        result["properties"] = {name: _without_defaults(part) for name, part in result["properties"].items()}
    if "items" in result:
        result["items"] = _without_defaults(result["items"])
    return result


if __name__ == "__main__":
    sys.exit(main())
