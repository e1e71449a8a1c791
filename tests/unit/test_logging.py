"""Log lines: one form for all, whoever writes them, and kopf's retries told as what they are."""

import json
import subprocess
import sys
from typing import Any

import pytest

PREPARE = """
import logging, structlog
from rollup_operator.observability.logging import configure
configure({form!r}, {level!r})
log, kopf = structlog.get_logger("rollup_operator.here"), logging.getLogger("kopf.activities")
"""


def written(code: str, form: str = "json", level: str = "info") -> str:
    whole = PREPARE.format(form=form, level=level) + code
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=True)
    assert not done.stdout
    return done.stderr


def lines(code: str, level: str = "info") -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(code, level=level).splitlines()]


def test_our_lines_and_those_of_libraries_have_one_form():
    ours, theirs = lines("log.info('ready', jobs=3); kopf.warning('a %s', 'word')")
    assert (ours["event"], ours["jobs"], ours["level"], ours["logger"]) == ("ready", 3, "info", "rollup_operator.here")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("a word", "warning", "kopf.activities")
    assert ours["timestamp"].endswith("Z")
    assert theirs["timestamp"].endswith("Z")


ORDER = """
structlog.contextvars.bind_contextvars(uid="u")
log.warning("run failed", zone="utc", job="flights", namespace="team", rows=3)
"""


def test_a_line_begins_with_when_how_bad_what_and_which_job():
    text = written(ORDER)
    keys = ["timestamp", "level", "event", "namespace", "job", "zone", "rows", "uid", "logger"]
    assert list(json.loads(text)) == keys
    shown = written(ORDER, form="console").strip()
    begin, _, rest = shown.partition(" ")
    assert begin.endswith("Z")
    assert rest == (
        "[warning  ] run failed namespace=team job=flights zone=utc rows=3 uid=u logger=rollup_operator.here"
    )


def test_what_is_bound_to_a_request_is_on_its_lines():
    (line,) = lines("structlog.contextvars.bind_contextvars(request_id='ab'); log.info('x')")
    assert line["request_id"] == "ab"


def test_a_value_that_json_has_no_form_for_costs_no_line():
    odd = lines(r"log.info('x', half='\ud800', large=2**70, thing=object(), raw=b'\xff', keyed={1: 2})")
    assert odd[0]["large"] == 2**70
    assert odd[0]["half"] == "\ud800"
    assert "object" in odd[0]["thing"]


def test_an_exception_is_logged_whole_in_its_line():
    (line,) = lines("""
try:
    1 / 0
except ZeroDivisionError:
    log.exception("turn failed")
""")
    assert line["level"] == "error"
    assert "ZeroDivisionError: division by zero" in line["exception"]


def test_a_terminal_gets_text():
    text = written("log.warning('ready', jobs=3)", form="console")
    assert "ready" in text
    assert "jobs=3" in text
    assert not text.startswith("{")


def test_the_level_holds_for_all():
    assert lines("log.info('x'); kopf.warning('y'); log.warning('z')", level="error") == []


RETRIES = """
for attempt in range(1, 23):
    kopf.error(f"Request attempt #{attempt} failed; will retry: GET https://x -> TimeoutError()")
kopf.error("Request attempt #3/3 failed; escalating: GET https://x -> TimeoutError()")
"""


def test_a_request_of_kopf_that_is_made_again_is_a_warning_only_where_that_goes_on():
    found = [(line["level"], line["event"].split()[2]) for line in lines(RETRIES)]
    first = [("info", f"#{attempt}") for attempt in (1, 2, 3, 4)]
    later = [("warning", f"#{attempt}") for attempt in (5, 10, 20)]
    assert found == [*first, *later, ("error", "#3/3")]


def test_a_quiet_log_has_no_first_attempts():
    assert [line["event"].split()[2] for line in lines(RETRIES, level="warning")] == ["#5", "#10", "#20", "#3/3"]


FULL = """
import sys
full = open('/dev/full', 'w')
sys.stderr = full
configure('{form}', 'info')
log = structlog.get_logger("rollup_operator.there")
log.info('not there')
try:
    raise KeyError('x')
except KeyError:
    log.exception('not there either')
logging.getLogger('kopf').warning('nor this')
sys.stderr = sys.__stderr__
sys.stderr.write('it goes on')
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_line_that_cannot_be_written_ends_nothing_of_what_it_tells(form: str) -> None:
    assert written(FULL.format(form=form)).endswith("it goes on")
