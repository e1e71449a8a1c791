"""docs/openapi.yaml describes the calls that there are, all of them, and its examples are what it says."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from rollup_operator.http.app import Endpoint
from rollup_operator.settings import Settings
from support.access_double import Anybody
from support.http_double import Cluster

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text())
METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
ALONE = {"/healthz", "/readyz"}
"""They belong to the process, not to a namespace."""

Call = tuple[str, str]
"""Method and path; parts of a path that are variable have no names here."""


def nameless(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def described() -> set[Call]:
    return {
        (method.upper(), nameless(path))
        for path, item in DOCUMENT["paths"].items()
        for method in METHODS
        if method in item
    }


def served() -> set[Call]:
    cluster = Cluster()
    app = Endpoint(jobs=cluster, client=cluster, stores=cluster, access=Anybody(), settings=Settings()).app
    return {
        (route.method, nameless(route.resource.canonical))
        for route in app.router.routes()
        if route.resource is not None
        and route.method != "HEAD"  # GET's without its body
        and not route.resource.canonical.startswith("/ui")  # pages are for people
    }


def variants(path: str) -> set[str]:
    """Every path under which clients of all versions, with all URLs, find what is described under one."""
    if path in ALONE:
        return {path}
    bases = {path, path.replace("/_rollup/", "/_xpack/rollup/")}
    spaces = {f"{space}{base}" for base in bases for space in ("", "/namespaces/{}")}
    return {f"{one.rstrip('/')}{end}" for one in spaces for end in ("", "/")} - {""}


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


def test_every_call_is_described() -> None:
    known = {(method, variant) for method, path in described() for variant in variants(path)}
    assert served() - known == set()


def test_every_description_has_its_call_under_all_paths() -> None:
    known = {(method, variant) for method, path in described() for variant in variants(path)}
    assert known - served() == set()


def test_the_version_is_the_package_s() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{DOCUMENT["info"]["version"]}"' in project


def examples() -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """Where each example stands, the schema that it belongs to, and the example."""

    def within(node: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
        if isinstance(node, list):
            for number, item in enumerate(node):
                yield from within(item, f"{where}/{number}")
        elif isinstance(node, dict):
            if "schema" in node:
                for name, example in node.get("examples", {}).items():
                    yield f"{where}/{name}", node["schema"], example["value"]
                if "example" in node:
                    yield where, node["schema"], node["example"]
            for key, item in node.items():
                if key not in ("schema", "examples", "example"):
                    yield from within(item, f"{where}/{key.replace('/', '~1')}")

    yield from within({key: DOCUMENT[key] for key in ("paths", "components")}, "#")


EXAMPLES = list(examples())


@pytest.mark.parametrize(("schema", "example"), [e[1:] for e in EXAMPLES], ids=[e[0] for e in EXAMPLES])
def test_an_example_is_what_its_schema_says(schema: Mapping[str, Any], example: Any) -> None:
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(example)


def operations() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield f"{method.upper()} {path}", item[method]


@pytest.mark.parametrize("operation", [pytest.param(o, id=name) for name, o in operations()])
def test_an_operation_says_what_an_error_can_be(operation: Mapping[str, Any]) -> None:
    statuses = set(operation["responses"])
    if operation.get("security") == []:
        assert "401" not in statuses
    else:
        refused = {"200"} if operation["operationId"] == "query" else set()  # whatever it asks
        assert statuses >= {"200", "400", "401", "406", "429", "500", "503"} - refused
    assert ("requestBody" in operation) == ({"413", "415"} <= statuses)
