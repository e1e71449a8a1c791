"""The generated CRDs: what can be seen without an API server."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rollup_operator.model import crd
from rollup_operator.model.base import Part

ROOT = Path(__file__).resolve().parents[2]
CRDS = {"RollupJob": crd.job_crd(), "RollupStore": crd.store_crd()}


def parts(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """A schema and everything in it, by path."""
    found = [(path, schema)]
    for name, part in schema.get("properties", {}).items():
        found += parts(part, f"{path}.{name}")
    if "items" in schema:
        found += parts(schema["items"], f"{path}[]")
    return found


ALL = [
    (f"{kind}{path}", schema)
    for kind, body in CRDS.items()
    for path, schema in parts(body["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    if path != ".metadata"
]
every_part = pytest.mark.parametrize(("path", "schema"), ALL, ids=[path for path, _ in ALL])


@every_part
def test_every_field_is_described(path: str, schema: dict[str, Any]):
    if not path.endswith("[]"):
        assert schema["description"].endswith("."), path


@every_part
def test_everything_is_bounded(path: str, schema: dict[str, Any]):
    match schema["type"]:
        case "string":
            assert "maxLength" in schema or "enum" in schema
        case "array":
            assert "maxItems" in schema
        case "object":
            assert "properties" in schema or "maxProperties" in schema


@every_part
def test_nothing_of_json_schema_is_left(path: str, schema: dict[str, Any]):
    assert not {"title", "anyOf", "$ref", "$defs", "const", "additionalProperties"} & set(schema)
    assert schema.get("default", 0) is not None


def test_only_the_generation_of_a_status_has_a_default():
    inside = [path for path, schema in ALL if ".status" in path and "default" in schema]
    assert inside == [f"{kind}.status{field}" for kind in CRDS for field in ("", ".observedGeneration")]


def test_the_files_are_those_of_the_model():
    assert crd.main(["--check", str(ROOT / "crds")]) == 0


def test_the_files_say_where_they_come_from_and_read_back():
    files = crd.files()
    assert list(files) == ["rollupjobs.yaml", "rollupstores.yaml"]
    assert [yaml.safe_load(text) for text in files.values()] == list(CRDS.values())
    assert all(text.startswith("# Generated") and "make generate" in text.splitlines()[0] for text in files.values())
    assert files == crd.files()


def test_a_stale_and_a_missing_file_are_named_with_the_cure(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert crd.main([str(tmp_path / "new")]) == 0
    assert crd.main(["--check", str(tmp_path / "new")]) == 0
    stale, missing = tmp_path / "new" / "rollupjobs.yaml", tmp_path / "new" / "rollupstores.yaml"
    stale.write_text(stale.read_text() + "\n")
    missing.unlink()
    assert crd.main(["--check", str(tmp_path / "new")]) == 1
    said = capsys.readouterr().err
    assert str(stale) in said
    assert str(missing) in said
    assert said.count("run `make generate`") == 2
    assert not missing.exists()


def test_a_field_of_two_types_is_refused_when_generating():
    class Two(Part):
        """Has one."""

        value: int | str

    with pytest.raises(TypeError, match="several types"):
        crd.structural(Two)
