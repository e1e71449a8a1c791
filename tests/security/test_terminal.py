"""What others write reaches no terminal and no log as it is: neither through the plugin nor through a log line."""

import ast
import json
import subprocess
import sys
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.escaping import escaped, escaped_json
from support.api import Api
from support.bodies import job
from support.hostile_host import Said, hostile_host, said
from support.plugin import Plugin
from support.waiting import NEVER

HARMFUL = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
EVIL = "a\x1b[31mRED\x1b]0;pwned\x07\x1b]52;c;ZXZpbA==\x07\u202eb\u2028c\x9b2Jd\ne\r\x00\x7f"
PLUGIN = Path(__file__).resolve().parents[2] / "operator" / "rollup_operator" / "plugin"


def harmless(text: str, keep: str = "\n") -> bool:
    return not any(unicodedata.category(c) in HARMFUL and c not in keep for c in text)


# The one place


@given(st.text() | st.text("aä€😀\x1b\n\u202e\ud800\x9b\u00a0\u3000"))
def test_what_is_escaped_is_harmless_and_the_rest_is_as_it_was(text: str) -> None:
    done = escaped(text)
    assert harmless(done, keep="")
    assert escaped(done) == done
    if harmless(text, keep=""):
        assert done == text


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_a_json_document_means_the_same(value: object) -> None:
    document = json.dumps(value, ensure_ascii=False, indent=1)
    done = escaped_json(document)
    assert harmless(done)
    assert json.loads(done) == value


def test_words_of_all_languages_stay() -> None:
    for text in ("Größe", "日本語　の", "עברית", "😀", "a\u00a0b"):
        assert escaped(text) == text


# The plugin


def test_one_place_of_the_plugin_writes() -> None:
    called = {
        (path.name, ast.unparse(node.func))
        for path in PLUGIN.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }
    writers = {
        name for name, function in called if function in ("print", "typer.echo", "typer.secho", "sys.stdout.write")
    }
    assert writers == {"output.py"}


@pytest.fixture
def evil(api: Api) -> Plugin:
    """The plugin, with a job that says all it can say."""
    body = api.create(job("evil", jobId="id\u202eRED", indexPattern="x\u200b\u202eGREEN", cron=NEVER))
    about = {"kind": "RollupJob", "name": "evil", "namespace": api.namespace, "uid": body["metadata"]["uid"]}
    told = {"type": "Warning", "reason": f"Odd{EVIL}", "message": f"it was told: {EVIL}", "involvedObject": about}
    meta = {"name": "evil.1", "namespace": api.namespace}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    api.create({"apiVersion": "v1", "kind": "Event", "metadata": meta, "lastTimestamp": now} | told)
    conditions = [
        {
            "type": kind,
            "status": "False" if kind == "Ready" else "True",
            "reason": "StoreUnavailable",
            "message": f"the store said: {EVIL}",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 1,
        }
        for kind in ("Ready", "Stalled")
    ]
    run = {"startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-01T00:00:01Z", "outcome": "Failed", "message": EVIL}
    status = {"observedGeneration": 1, "state": "started", "conditions": conditions, "lastRun": run}
    api.patch("evil", {"status": status}, subresource="status")
    return Plugin(api.plane.kubeconfig, api.namespace)


@pytest.mark.parametrize(
    "command",
    [
        ("status", "evil"),
        ("explain", "evil"),
        ("events",),
        ("events", "evil", "-o", "yaml"),
        ("get", "-o", "wide"),
        ("get", "evil", "-o", "json"),
        ("get", "evil", "-o", "yaml"),
        ("status", "evil", "-o", "yaml"),
        ("explain", "evil", "-o", "json"),
    ],
    ids=" ".join,
)
def test_the_plugin_shows_it_harmless(evil: Plugin, command: tuple[str, ...]) -> None:
    result = evil.of(*command)
    assert result.code == 0, result.err
    assert harmless(result.out), result.out
    assert harmless(result.err), result.err
    assert "RED" in result.out
    if command[-1] in ("json", "yaml"):
        texts = walk(yaml.safe_load(result.out))
        assert any(EVIL in text for text in texts), "a program reads what is there"


FOUND = {
    "hits": {"total": {"value": 2, "relation": EVIL}, "max_score": None, "hits": []},
    "aggregations": {
        "time": {"buckets": [{"key": 0, "doc_count": 2, "by0": {"buckets": [{"key": EVIL, "doc_count": 2}]}}]}
    },
    "_rollup": {"jobs": [], "interval": EVIL, "rounded": [{"time": EVIL, "begins": EVIL}]},
}


@pytest.mark.parametrize(
    ("answer", "form"),
    [(said(FOUND), form) for form in ("table", "chart", "csv", "json")]
    + [(said({"error": {"reason": EVIL}, "status": 400}, 400), "table")],
    ids=["table", "chart", "csv", "json", "an error"],
)
def test_the_plugin_shows_what_a_search_finds_harmless(evil: Plugin, answer: Said, form: str) -> None:
    """Keys are the source's values: who writes to the source chooses them."""
    with hostile_host(lambda _: answer) as host:
        asked = ("evil", "--interval", "1h", "--by", "carrier", "--where", f"carrier:{EVIL[:-2]}", "-o", form)
        result = evil("query", *asked, "-n", evil.namespace, ROLLUP_URL=host.url, ROLLUP_TOKEN="x")
    assert result.code == (0 if answer.status == 200 else 1), result.err
    assert harmless(result.out), result.out
    assert harmless(result.err), result.err
    assert "RED" in result.out + result.err
    if form == "json":
        assert EVIL in walk(result.document)


def walk(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in walk(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in walk(inner)]
    return [value] if isinstance(value, str) else []


# Logs


LOG = f"""
import logging, structlog
from rollup_operator.observability.logging import configure
configure(FORM, "info")
evil = {EVIL!r}
ours, theirs = structlog.get_logger("rollup_operator.here"), logging.getLogger("kopf.activities")
ours.info("ours", value=evil, inner=[evil], bare="x\\x1b[31m")
ours.info(evil)
theirs.warning("theirs %s", evil)
ours.info("stack", stack_info=True)
for log in (ours, theirs):
    try:
        raise ValueError("boom " + evil + "\\n2026-01-01T00:00:00Z [error] forged")
    except ValueError:
        log.exception("failed")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_log_holds_nothing_that_a_terminal_obeys(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOG.replace("FORM", repr(form))], capture_output=True, text=True, check=True
    )
    assert harmless(done.stderr), done.stderr
    lines = done.stderr.splitlines()
    assert not [line for line in lines if line.startswith("2026-01-01")]
    begun = [line for line in lines if not line.startswith("    ")]
    assert len(begun) == 6, done.stderr
    if form == "json":
        assert len(lines) == 6
        assert json.loads(lines[0])["value"] == EVIL
