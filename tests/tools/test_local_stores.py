"""What the launcher of store nodes says where it cannot do its work, and that it keeps nothing half-made."""

import os
from pathlib import Path

import pytest

from local_stores import KINDS, Node, StoreNodeError, ToolMissing
from local_stores.__main__ import main

KIND = KINDS["elasticsearch7"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on it, whose programs lie in the folder `bin` of the path returned."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin-of-shells-alone")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("STORE_JAVA_HOME", raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("local_stores.java._USUAL", ())
    return tmp_path


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{text}\n")
    path.chmod(0o700)


def jdk(home: Path, version: str) -> Path:
    program(home / "bin" / "javac", "exit 0")
    (home / "release").write_text(f'IMPLEMENTOR="Somebody"\nJAVA_VERSION="{version}"\n')
    return home


def half_made(machine: Path) -> list[str]:
    return [path.name for path in (machine / "cache").rglob("*") if path.is_file() and path.name != ".lock"]


def test_without_a_jdk_it_says_what_to_install(machine: Path) -> None:
    with pytest.raises(ToolMissing, match=r"no JDK 17 or newer; install one, or say where it is with STORE_JAVA_HOME="):
        Node.start(KIND.name)


def test_a_jdk_that_is_too_old_is_named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(jdk(machine / "old", "1.8.0_392")))
    with pytest.raises(ToolMissing, match=rf"no JDK 21 or newer; found 8 in {machine / 'old'}"):
        Node.start("opensearch3")


def test_a_named_jdk_that_is_none_is_an_error(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_JAVA_HOME", str(machine))
    with pytest.raises(StoreNodeError, match="no JDK there"):
        Node.start(KIND.name)


def test_without_maven_it_says_so(machine: Path) -> None:
    (machine / "bin" / "javac").symlink_to(jdk(machine / "jdk", "17.0.2") / "bin" / "javac")
    with pytest.raises(ToolMissing, match=r"mvn: command not found, and Elasticsearch 7\.10\.2 is not here yet"):
        Node.start(KIND.name)
    assert half_made(machine) == []


def test_a_failure_of_maven_is_reported_in_its_words(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(jdk(machine / "jdk", "17.0.2")))
    program(machine / "bin" / "mvn", "echo '[INFO] hello'; echo '[ERROR] could not transfer'; exit 7")
    with pytest.raises(
        StoreNodeError, match=r"Maven failed with exit code 7.*\n\[ERROR\] could not transfer\nMend that"
    ):
        Node.start(KIND.name)
    assert half_made(machine) == []


def test_a_jar_that_is_not_the_pinned_one_is_refused(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(jdk(machine / "jdk", "17.0.2")))
    name = KIND.pinned.read_text().splitlines()[0].split("  ")[1]
    program(
        machine / "bin" / "mvn",
        'for word; do case $word in -DoutputDirectory=*) into="${word#*=}";; esac; done\n'
        f'mkdir -p "$into"; echo changed >"$into/{name}"',
    )
    with pytest.raises(StoreNodeError, match=rf"{name} is not the one that {KIND.pinned.name} names"):
        Node.start(KIND.name)
    assert half_made(machine) == []


def test_the_command_forgives_missing_tools_only_where_asked_to(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", KIND.name]) == 1
    assert main(["build", KIND.name, "--optional"]) == 0
    assert "Tests that need Elasticsearch 7.10.2 are skipped" in capsys.readouterr().err
    monkeypatch.setenv("CI", "true")
    assert main(["build", KIND.name, "--optional"]) == 1


def test_an_unknown_kind_is_answered_with_those_there_are(machine: Path) -> None:
    with pytest.raises(
        StoreNodeError, match="'opensearch9': unknown; choose from opensearch2, opensearch3, elasticsearch7"
    ):
        Node.start("opensearch9")
