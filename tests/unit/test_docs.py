"""What the documentation refers to is there: pages, anchors, files, commands and their flags, variables, targets."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main
import yaml

from rollup_operator import cli
from rollup_operator.plugin import main as plugin
from rollup_operator.settings import Settings
from support import store_table

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted({*DOCS.rglob("*.md"), *(ROOT / "deploy").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"})
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]

OF_EXAMPLES = {"ROLLUP_URL", "ROLLUP_TOKEN", "ROLLUP_CA", "ROLLUP_STORE_URL"}
"""Variables that programs in the pages read, not the operator."""

_VARIABLE = re.compile(r"\bROLLUP_[A-Z_]*[A-Z]\b")
_CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(make|rollup-operator|kubectl[ -]rollup) +([a-z][a-z-]*)([^#]*)")
"""At the beginning of a command only: rollup-operator is also the name of a namespace and a deployment."""


@pytest.mark.parametrize("address", ["", "https://git.example.org/rollup-operator"])
def test_the_site_is_built_without_a_warning(tmp_path: Path, address: str) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "DOCS_REPO_URL": address}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in DOCS.glob("*.md"):
        assert (tmp_path / ("" if page.stem == "README" else page.stem) / "index.html").exists()
    first = (tmp_path / "index.html").read_text()
    for begins in ("Elasticsearch has deprecated rollup jobs", 'href="quick-start/"', "make demo", "All pages"):
        assert begins in first
    assert re.search(r'<img [^>]*src="page\.png"', first)
    # The theme breaks the lines of these blocks, so that commands are seen whole.
    assert 'class="language-sh highlight"' in first
    outward = f'href="{address}/blob/main/deploy/samples"' if address else "(<code>deploy/samples</code>)"
    assert outward in (tmp_path / "rollupjob" / "index.html").read_text()


def test_the_versions_in_the_docs_are_those_of_the_tests_own_record() -> None:
    page = store_table.PAGE.read_text()
    assert page == store_table.written(page, json.loads(store_table.RECORD.read_text()))


def test_the_list_of_pages_is_complete() -> None:
    listed = {target.split("#")[0] for _, target in links(DOCS / "README.md")}
    assert {path.name for path in DOCS.iterdir()} - {"README.md"} <= listed


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    dead = []
    for text, target in links(page):
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
            dead.append(f"[{text}]({target})")
    assert dead == []


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Every link of a page that leads to no other site, code blocks left out."""
    prose = _CODE.sub("", page.read_text())
    for text, target in re.findall(r"\[([^\]]+)\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:", target) and not re.search(rf"`[^`\n]*\]\({re.escape(target)}\)[^`\n]*`", prose):
            yield text, target


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as web views of repositories make them."""
    headings = re.findall(r"^#+ +(.+)$", _CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_their_flags_exist(name: str) -> None:
    unknown = []
    text = (ROOT / name).read_text().replace("\\\n", " ")
    code = [match[0] for match in _CODE.finditer(text) if match[0].startswith("```sh")]
    code += re.findall(r"`([^`\n]+)`", _CODE.sub("", text))
    for part in code:
        for match in filter(None, map(_COMMAND.match, re.split(r"\n|[|;&]+| -- ", part))):
            program, word, rest = match.groups()
            if program == "make":
                known = word in targets()
            else:
                commands = COMMANDS["rollup-operator" if program == "rollup-operator" else "kubectl rollup"]
                flags = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", rest)
                known = word in commands and set(flags) <= commands[word]
            if not known:
                unknown.append(f"{program} {word}{rest}".strip())
    assert unknown == []


def commands(app: typer.Typer) -> dict[str, set[str]]:
    """Each command with its flags."""
    group = typer.main.get_command(app)
    context = click.Context(group)
    return {
        word: {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)} | {"--help"}
        for word in group.list_commands(context)  # type: ignore[attr-defined]
        if (command := group.get_command(context, word))  # type: ignore[attr-defined]
    }


COMMANDS = {"rollup-operator": commands(cli.app), "kubectl rollup": commands(plugin.app)}


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_are_named_exist(name: str) -> None:
    known = {f"ROLLUP_{field.upper()}" for field in Settings.__dataclass_fields__} | OF_EXAMPLES
    for script in (ROOT / "deploy").rglob("*.py"):
        known |= set(_VARIABLE.findall(script.read_text()))
    assert set(_VARIABLE.findall((ROOT / name).read_text())) <= known


def test_manifests_in_the_pages_are_yaml() -> None:
    for page in PAGES:
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            list(yaml.safe_load_all(block))
