"""The command line of `kubectl rollup`, as far as no cluster is needed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from rich.text import Text

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
    (["get", "../secrets"], ["cannot be the name of a job"]),
    (["get", "-n", "a/b"], ["cannot be the name of a namespace"]),
    (["run"], ["NAME"]),
    (["status"], ["NAME"]),
    (["preview"], ["name one job, or give a manifest"]),
    (["preview", "a", "-f", "b"], ["name one job, or give a manifest"]),
    (["preview", "a"], ["--url or ROLLUP_URL"]),
    (["preview", "-f", "/nonexistent", "--url", "https://x"], ["/nonexistent cannot be read"]),
    (["preview", "-f", __file__, "--url", "https://x"], ["cannot be read"]),
    (["preview", "a", "--url", "x"], ["--url 'x' is no URL"]),
    (["preview", "a", "--url", "https://x"], ["set KUBECONFIG or --kubeconfig"]),
    (["query", "a"], ["--url or ROLLUP_URL"]),
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


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("stop", ["--all", "--wait", "--timeout", "--namespace", "--kubeconfig", "--context", "--output", "30s"]),
        ("start", ["--all", "--wait", "--timeout"]),
        ("run", ["--wait", "--timeout"]),
        ("get", ["--all-namespaces", "-A", "wide"]),
        ("status", ["--output"]),
        ("explain", ["--output"]),
    ],
)
def test_every_command_has_its_help(command: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([command, "--help"]) == 0
    written = capsys.readouterr().out
    for word in words:
        assert word in written


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
