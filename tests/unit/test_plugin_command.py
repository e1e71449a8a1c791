"""The command line of `kubectl rollup`, as far as no cluster is needed."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from rich.text import Text

import rollup_operator
from rollup_operator import cli
from rollup_operator.plugin import main as plugin
from rollup_operator.plugin.main import invoke
from rollup_operator.plugin.outcome import Code


@pytest.fixture(autouse=True)
def _nobody_is_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("KUBECONFIG", "ROLLUP_URL", "ROLLUP_CA", "ROLLUP_TOKEN"):
        monkeypatch.delenv(name, raising=False)


USAGE = [
    (["stop"], ["name at least one job, or use --all"]),
    (["start", "a", "--all"], ["not both"]),
    (["stop", "a", "--timeout", "5s"], ["--timeout needs --wait"]),
    (["stop", "a", "--wait", "--timeout", "5"], ["--timeout", "'5' is no duration", "30s"]),
    (["stop", "a", "--wait", "--timeout", "-1"], ["'-1' is no duration"]),
    (["get", "a", "-A"], ["-A cannot be combined"]),
    (["get", "-o", "xml"], ["'xml'", "json"]),
    (["get", "../secrets"], ["cannot be the name of a RollupJob"]),
    (["get", "-n", "a/b"], ["cannot be the name of a namespace"]),
    (["run"], ["name at least one job, or use --all or -l LABELS"]),
    (["status"], ["NAME", "kubectl rollup status --help"]),
    (["stop", "a", "-l", "team=a"], ["use names or -l, not both"]),
    (["delete", "a", "--all"], ["use names or --all, not both"]),
    (["stop", "-l", " "], ["would mean all jobs"]),
    (["get", "a", "-l", "team=a"], ["-l cannot be combined"]),
    (["get", "-w", "-o", "name"], ["--watch writes tables"]),
    (["stop", "--al"], ["no such option: --al. Did you mean --all?"]),
    (["statsu"], ["Did you mean 'status'", "kubectl rollup --help"]),
    (["preview"], ["name one job, or give a manifest"]),
    (["preview", "a", "-f", "b"], ["name one job, or give a manifest"]),
    (["preview", "a"], ["set KUBECONFIG or --kubeconfig"]),
    (["preview", "a", "--service", "x"], ["--service 'x': write NAMESPACE/NAME"]),
    (["preview", "-f", "/nonexistent", "--url", "https://x"], ["-f /nonexistent: No such file"]),
    (["preview", "-f", __file__, "--url", "https://x"], ["is no YAML"]),
    (["preview", "a", "--url", "x"], ["--url 'x' is no URL"]),
    (["preview", "a", "--url", "https://x"], ["set KUBECONFIG or --kubeconfig"]),
    (["query", "a"], ["set KUBECONFIG or --kubeconfig"]),
    (["query", "a", "--url", "https://x", "--metric", "median:x"], ["--metric 'median:x'"]),
    (["query", "a", "--url", "https://x"], ["set KUBECONFIG or --kubeconfig"]),
    (["bogus"], ["bogus", "--help"]),
    (["get", "--bogus"], ["--bogus"]),
    (["get"], ["set KUBECONFIG or --kubeconfig"]),
    (["get", "--kubeconfig", "/nonexistent"], ["/nonexistent"]),
]


@pytest.mark.parametrize(("arguments", "expected"), USAGE)
def test_a_command_line_that_cannot_be_used_is_reported_and_ends_with_2(
    arguments: list[str],
    expected: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if arguments[1:2] in (["../secrets"], ["-n"]):
        (tmp_path / "config").write_text(
            json.dumps(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c"}}],
                    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
                }
            )
        )
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    assert invoke(arguments) == Code.USAGE
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("error: ")
    for word in expected:
        assert word in written.err
    assert "Value error" not in written.err
    assert "Errno" not in written.err


@pytest.mark.parametrize("flag", [["-o", "json"], ["-ojson"], ["--output=json"], ["--output", "json"]])
@pytest.mark.parametrize("arguments", [["stop"], ["stop", "a", "--bogus"], ["explain", "a"], ["run"]])
def test_with_json_an_error_is_one_document_too(
    arguments: list[str], flag: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke([*arguments, *flag]) == Code.USAGE
    written = capsys.readouterr()
    document = json.loads(written.out)
    assert (document["command"], document["exitCode"]) == (arguments[0], 2)
    assert document["error"]["message"]
    assert written.err == ""


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([]) == Code.USAGE
    written = capsys.readouterr()
    for word in ("stop", "start", "run", "get", "status", "explain", "completion", "Exit codes"):
        assert word in written.out + written.err


HELP = [
    (
        "stop",
        ["--all", "--selector", "--wait", "--timeout", "--namespace", "--kubeconfig", "--context", "Default: 30s."],
    ),
    ("start", ["--all", "--selector", "--wait", "--timeout"]),
    ("run", ["--all", "--selector", "--wait", "Default: to the run's end."]),
    ("delete", ["--all", "--selector", "--wait", "deletionPolicy"]),
    ("get", ["--all-namespaces", "-A", "wide", "--watch", "--selector"]),
    ("status", ["--output"]),
    ("explain", ["--output"]),
    ("events", ["--output"]),
    ("preview", ["--filename", "ROLLUP_URL", "ROLLUP_TOKEN", "--service NAMESPACE/NAME", "--service-account"]),
    ("query", ["--metric", "--interval", "--where", "Default: UTC."]),
    ("ui", ["--no-browser", "--service-account", "--service NAMESPACE/NAME", "ROLLUP_URL", "ROLLUP_TOKEN"]),
    ("version", ["--output"]),
]


@pytest.mark.parametrize(("command", "words"), HELP)
@pytest.mark.parametrize("columns", [80, 100])
def test_every_command_has_its_help_with_an_example(
    command: str, words: list[str], columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert invoke([command, "-h"]) == 0
    written = capsys.readouterr().out
    lines = written.splitlines()
    assert lines[0].startswith(f"Usage: kubectl rollup {command}")
    assert f"  kubectl rollup {command}" in written[written.index("Examples:") :]
    assert max(map(len, lines)) <= columns
    for word in words:
        assert word in " ".join(written.split())
    for clutter in ("--install-completion", "{", "<bool>"):
        assert clutter not in written


@pytest.mark.parametrize(("app", "name"), [(plugin.app, "kubectl rollup"), (cli.app, "rollup-operator")])
def test_no_line_of_a_help_ends_within_a_word(
    app: typer.Typer, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    for columns in (72, 80, 90, 100, 140):
        monkeypatch.setenv("COLUMNS", str(columns))
        for words in ([], *([each] for each in commands)):
            app(args=[*words, "-h"], prog_name=name, standalone_mode=False)
            written = capsys.readouterr().out
            assert "Usage:" in written
            assert [line for line in written.splitlines() if re.search(r"[^\s-]-$", line)] == [], (columns, words)


def test_every_command_is_in_the_list_of_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert invoke(["--help"]) == 0
    written = capsys.readouterr().out
    assert max(map(len, written.splitlines())) <= 80
    listed = written[written.index("Commands:") : written.index("Exit codes")]
    commands = typer.main.get_command(plugin.app).commands  # type: ignore[attr-defined]  # it is a group
    assert [line.split()[0] for line in listed.splitlines()[1:] if line[2:3].strip()] == list(commands)
    assert "..." not in listed  # no line is cut off


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_the_version_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(arguments) == 0
    assert capsys.readouterr().out == f"kubectl rollup {rollup_operator.__version__}\n"


def test_no_help_text_loses_words_to_markup() -> None:
    """Rich takes `[default: 30s]` for a style, and leaves it out."""
    texts = [text for each in (plugin, cli) for text in help_texts(typer.main.get_command(each.app))]
    assert len(texts) > 80
    assert [text for text in texts if Text.from_markup(text).plain != text] == []


def help_texts(command: Any) -> Iterator[str]:
    """What a command and those below say of themselves and of their options."""
    yield command.help or ""
    yield from (parameter.help or "" for parameter in command.params)
    for below in getattr(command, "commands", {}).values():
        yield from help_texts(below)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        invoke(["completion", shell])
    assert ended.value.code == 0
    script = capsys.readouterr().out
    assert "kubectl-rollup" in script
    assert "_KUBECTL_ROLLUP_COMPLETE" in script


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["st"], ["stop", "start", "status"]),
        (["stop", "--wa"], ["--wait"]),
        (["get", "-o", ""], ["table", "wide", "json", "yaml", "name"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["stop", ""], []),
    ],
)
def test_kubectl_is_offered_words_one_a_line_and_then_what_to_do_with_them(
    words: list[str], offered: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rollup_operator.plugin.completion import kubectl_complete

    monkeypatch.setattr(sys, "argv", ["kubectl_complete-rollup", *words])
    kubectl_complete()
    *lines, directive = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == offered
    assert directive == ":4"


def test_no_part_of_the_running_operator_is_loaded() -> None:
    code = "import sys, rollup_operator.plugin.main, rollup_operator.plugin.reading, rollup_operator.plugin.changing\n"
    code += "print(sorted({'kopf', 'duckdb', 'structlog', 'rollup_operator.app'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_call_that_asks_no_cluster_loads_neither_a_client_nor_the_model() -> None:
    code = "import sys, rollup_operator.plugin.main\n"
    code += "print(sorted({'aiohttp', 'kubernetes', 'pydantic'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_call_to_a_cluster_loads_no_server() -> None:
    code = "import sys, rollup_operator.plugin.reading\nprint('aiohttp.web' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
