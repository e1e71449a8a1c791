"""The example repositories hold manifests that a real API server accepts, and paths that exist."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from support.api import APPLY, Api

ROOT = Path(__file__).resolve().parents[2]
ARGO, FLUX = (ROOT / "deploy" / "gitops" / name / "example" for name in ("argocd", "flux"))
OURS = "rollup-operator.dev/"


def bodies(folder: Path) -> list[dict[str, Any]]:
    return [body for path in sorted(folder.rglob("*.yaml")) for body in yaml.safe_load_all(path.read_text())]


def described(folder: Path) -> list[dict[str, Any]]:
    return [body for body in bodies(folder) if str(body["apiVersion"]).startswith(OURS)]


@pytest.mark.parametrize("example", [ARGO, FLUX], ids=["argocd", "flux"])
def test_the_api_server_accepts_every_job_and_store(api: Api, example: Path) -> None:
    found = described(example)
    assert [body["kind"] for body in found] == ["RollupJob", "RollupJob", "RollupStore"]
    for body in found:
        path = api.path(body["kind"], body["metadata"]["name"])
        query = "?dryRun=All&fieldManager=argocd-controller&force=true&fieldValidation=Strict"
        assert api.request("PATCH", path + query, body, content_type=APPLY)["spec"]


def test_both_repositories_hold_the_same_jobs_and_stores() -> None:
    assert [body["spec"] for body in described(ARGO)] == [body["spec"] for body in described(FLUX)]
    assert ["desiredState" in body["spec"] for body in described(FLUX)] == [True, False, False]


def test_what_is_referred_to_exists() -> None:
    (rollups,) = (body for body in bodies(ARGO / "applications") if body["metadata"]["name"] == "rollups")
    assert (ARGO / rollups["spec"]["source"]["path"] / "store.yaml").exists()
    names = {body["metadata"]["name"] for body in bodies(FLUX / "clusters")}
    for body in bodies(FLUX / "clusters"):
        for needed in body["spec"].get("dependsOn", []):
            assert needed["name"] in names
        if body["kind"] == "Kustomization" and body["spec"]["sourceRef"]["name"] == "flux-system":
            assert (FLUX / body["spec"]["path"] / "kustomization.yaml").exists()
    (listed,) = (body for body in bodies(FLUX / "rollups") if body["kind"] == "Kustomization")
    there = {path.name for path in (FLUX / "rollups").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed["resources"]) == there
