"""CRDs may grow; what the released ones accept stays accepted and keeps its meaning."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.crd_compatibility import breaks, compare

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / "tests" / "upgrade" / "baseline"


def test_the_crds_break_nothing_of_the_released_ones() -> None:
    broken = compare(BASELINE, ROOT / "crds")
    assert broken == [], "take it back, or serve a new version beside the old; docs/versions.md tells more"


def released() -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load((BASELINE / "rollupjobs.yaml").read_text())
    return body


def spec(crd: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def field(crd: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = spec(crd)["properties"][name]
    return found


BREAKING: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a removed field": (lambda c: spec(c)["properties"].pop("pageSize"), "spec.pageSize: is gone"),
    "a removed inner field": (
        lambda c: field(c, "groups")["properties"]["dateHistogram"]["properties"].pop("delay"),
        "spec.groups.dateHistogram.delay: is gone",
    ),
    "another type": (lambda c: field(c, "pageSize").update(type="string"), "spec.pageSize: type is string"),
    "a lost word": (lambda c: field(c, "deletionPolicy")["enum"].remove("Delete"), "deletionPolicy: ['Delete'] are"),
    "words where any were good": (lambda c: field(c, "cron").update(enum=["0 0 * * * ?"]), "spec.cron: only"),
    "another pattern": (lambda c: field(c, "cron").update(pattern="^0"), "spec.cron: pattern is '^0'"),
    "a lower maximum": (lambda c: field(c, "pageSize").update(maximum=10), "spec.pageSize: maximum is 10"),
    "a higher minimum": (lambda c: field(c, "pageSize").update(minimum=2), "spec.pageSize: minimum is 2, was 1"),
    "a shorter text": (lambda c: field(c, "cron").update(maxLength=3), "spec.cron: maxLength is 3"),
    "fewer items": (lambda c: field(c, "metrics").update(maxItems=1), "spec.metrics: maxItems is 1"),
    "a narrower item": (
        lambda c: field(c, "metrics")["items"]["properties"]["field"].update(maxLength=1),
        "spec.metrics[].field: maxLength is 1",
    ),
    "a new required field": (lambda c: spec(c)["required"].append("jobId"), "spec.jobId: is required now"),
    "another default": (lambda c: field(c, "pageSize").update(default=5), "spec.pageSize: default is 5, was 5000"),
    "a default that was none": (
        lambda c: field(c, "desiredState").update(default="started"),
        "spec.desiredState: default is 'started', was None",
    ),
    "a new rule": (
        lambda c: spec(c)["x-kubernetes-validations"].append({"rule": "self.pageSize < 9"}),
        "spec: a new rule may refuse what was accepted: self.pageSize < 9",
    ),
    "another list type": (
        lambda c: field(c, "metrics").update({"x-kubernetes-list-type": "set"}),
        "spec.metrics: x-kubernetes-list-type is 'set'",
    ),
    "a renamed version": (lambda c: c["spec"]["versions"][0].update(name="v1"), "v1alpha1: the version is gone"),
    "a version not served": (lambda c: c["spec"]["versions"][0].update(served=False), "v1alpha1: is served no more"),
    "no status": (lambda c: c["spec"]["versions"][0]["subresources"].clear(), "the subresource status is gone"),
    "another scope": (lambda c: c["spec"].update(scope="Cluster"), "scope is 'Cluster', was 'Namespaced'"),
    "a lost short name": (lambda c: c["spec"]["names"].update(shortNames=[]), "names.shortNames is [], was ['rj']"),
}


@pytest.mark.parametrize("change", BREAKING)
def test_what_breaks_is_named_with_its_path(change: str) -> None:
    new = released()
    alter, message = BREAKING[change]
    alter(new)
    found = breaks(released(), new)
    assert len(found) == 1
    assert found[0].startswith("rollupjobs.rollup-operator.dev: ")
    assert message in found[0]


WIDENING: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a new optional field": lambda c: spec(c)["properties"].update(owner={"type": "string", "maxLength": 5}),
    "a new field with a default": lambda c: spec(c)["properties"].update(owner={"type": "string", "default": "me"}),
    "one word more": lambda c: field(c, "deletionPolicy")["enum"].append("Archive"),
    "a higher maximum": lambda c: field(c, "pageSize").update(maximum=10**6),
    "no maximum": lambda c: field(c, "pageSize").pop("maximum"),
    "an integer that may have a fraction": lambda c: field(c, "drainTimeoutSeconds").update(type="number"),
    "one rule less": lambda c: spec(c)["x-kubernetes-validations"].pop(),
    "one required field less": lambda c: spec(c)["required"].remove("cron"),
    "another description": lambda c: field(c, "cron").update(description="when it runs"),
    "one short name more": lambda c: c["spec"]["names"]["shortNames"].append("rup"),
    "another version beside": lambda c: c["spec"]["versions"].append(
        copy.deepcopy(c["spec"]["versions"][0]) | {"name": "v1"}
    ),
}


@pytest.mark.parametrize("change", WIDENING)
def test_what_widens_is_accepted(change: str) -> None:
    new = released()
    WIDENING[change](new)
    assert new != released()
    assert breaks(released(), new) == []


def test_a_crd_that_is_gone_is_reported(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text((BASELINE / "rollupjobs.yaml").read_text())
    assert compare(BASELINE, tmp_path) == ["rollupstores.rollup-operator.dev: the CRD is gone"]


def test_an_empty_folder_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no CRDs there"):
        compare(tmp_path, ROOT / "crds")
