"""The source root is named operator, as a module of the standard library is."""

import ast
import operator
import re
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_standard_librarys_operator_stays_reachable() -> None:
    assert operator.__file__ is not None
    assert Path(operator.__file__).is_relative_to(sysconfig.get_paths()["stdlib"])
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_modules_can_be_read_in_one_sitting() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "operator").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert long == {}


@pytest.mark.parametrize(("path", "files"), [("of a stop", 5), ("of a run", 4), ("of a search", 5)])
def test_a_path_that_contributing_names_can_be_read_in_one_sitting(path: str, files: int) -> None:
    (row,) = (r for r in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if r.startswith(f"| {path} |"))
    names = row.split("`")[1::2]
    package = ROOT / "operator" / "rollup_operator"
    read = [package / "lifecycle/jobs/states.py", *(package / name for name in names)]
    assert len(names) == files
    assert sum(len(file.read_text().splitlines()) for file in read) < 2000


def test_contributing_lists_every_package_and_names_only_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    package, tests = ROOT / "operator" / "rollup_operator", ROOT / "tests"
    layout = text.split("## Layout", 1)[1].split("```")[1]
    assert [d.name for d in package.iterdir() if (d / "__init__.py").exists() and f"\n  {d.name}/" not in layout] == []
    tasks = text.split("the files to open", 1)[1].split("## Rules")[0]
    files = re.findall(r"`([\w/]+/\w+\.(?:py|md|yaml)|\w+\.py)`", tasks)
    missing = [f for f in files if not any((root / f).exists() for root in (package, tests, ROOT))]
    assert len(files) > 50
    assert missing == []


def test_a_class_name_means_one_class() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / "operator").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    twice = {name for name, found in places.items() if len(found) > 1}
    assert twice == set()


def test_what_makes_the_parts_hands_none_of_them_anything_later() -> None:
    package = ROOT / "operator" / "rollup_operator"
    late = [
        f"{path.relative_to(package)}:{node.lineno}: {ast.unparse(node)}"
        for path in (package / "wiring.py", package / "app.py", package / "http" / "app.py")
        for made in ast.walk(ast.parse(path.read_text()))
        if isinstance(made, ast.FunctionDef | ast.AsyncFunctionDef)
        and made.name in ("build", "__init__", "run_operator")
        for node in ast.walk(made)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) != "self"
    ]
    assert late == []
