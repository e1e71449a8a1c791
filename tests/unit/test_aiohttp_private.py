"""Undocumented parts of aiohttp are used in one package, on versions that it was tested on."""

import ast
import importlib.metadata
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from rollup_operator.net import aiohttp_private
from rollup_operator.net.aiohttp_private import TESTED

ROOT = Path(__file__).resolve().parents[2]

HOME = Path(aiohttp_private.__file__).resolve().parent

DOCUMENTED = frozenset({"aiohttp", "aiohttp.abc", "aiohttp.typedefs"})
"""Modules whose names other modules of the operator may import."""

PRIVATE = frozenset(
    {
        "RequestHandler",
        "BaseSite",
        "TCPSite",
        "_retry_connection",
        "_messages",
        "_ssl_context",
        "request_handler",
        "output_size",
        "feed_eof",
    }
)


def test_the_installed_aiohttp_is_one_that_its_private_parts_were_tested_on() -> None:
    installed = importlib.metadata.version("aiohttp")
    assert installed in SpecifierSet(TESTED), (
        f"aiohttp {installed} is installed, and the operator uses private parts of it that were tested on {TESTED}: "
        f"the docstring of {HOME.relative_to(ROOT)}/__init__.py lists them and says how to allow another version"
    )


def test_what_is_installed_with_the_operator_is_a_version_that_was_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [asked] = [r for r in map(Requirement, project["dependencies"]) if r.name == "aiohttp"]
    assert asked.specifier == SpecifierSet(TESTED)


def test_no_other_module_uses_a_private_part() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "operator").rglob("*.py")
        if HOME not in path.resolve().parents
        for name in _private(ast.parse(path.read_text()))
    }
    assert found == set()


def _private(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] == "aiohttp" and module not in DOCUMENTED:
                yield module
            case ast.Attribute(attr=name) if name in PRIVATE:
                yield name
