"""Small texts of the plugin: durations, tables, names, owners, exit codes."""

import io
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.escaping import escaped
from rollup_operator.explaining.buckets import buckets_of, table
from rollup_operator.explaining.commands import parts
from rollup_operator.explaining.owners import applied_state, changed_at, gitops_owner, owners
from rollup_operator.explaining.text import about, ago, ahead, capital, moment, seconds_of, sentence, spoken
from rollup_operator.model.counts import counted
from rollup_operator.model.times import duration, instant_of, rfc3339_ms
from rollup_operator.plugin.cluster import name_of
from rollup_operator.plugin.outcome import Code, Failure
from rollup_operator.plugin.output import agreed
from rollup_operator.plugin.preview import lines, manifest, spare_of
from rollup_operator.plugin.results import JobOutcome, Result, code_of
from rollup_operator.plugin.tables import Styled, Table, wrapped
from support.observed_job import NOW, at, observed_job


def test_a_sentence_begins_with_a_capital_letter_and_a_field_keeps_its_name() -> None:
    texts = ("store is down", "spec.cron: 'x' is no schedule", "", "2 pages", "Éa")
    assert [capital(text) for text in texts] == [
        "Store is down", "spec.cron: 'x' is no schedule", "", "2 pages", "Éa",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("2h", 7200), ("1d", 86_400), ("0", 0), ("0s", 0), ("1.5m", 90)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "-1", "-5s", "s", "1 s", "10x", "1h-5m", "infinite"])
def test_what_is_no_duration_is_refused_with_what_would_do(text: str) -> None:
    with pytest.raises(ValueError, match="30s, 1m30s or 500ms"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"), (0.4, "0s"), (119, "119s"), (120, "2m"), (192, "3m12s"), (3599, "59m"),
        (5 * 3600 + 180, "5h3m"), (40 * 3600, "40h"), (12 * 86_400, "12d"),
    ],
)  # fmt: skip
def test_a_duration_is_written_as_kubectl_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "less than a second"), (1, "1 second"), (119, "119 seconds"), (120, "2 minutes"), (3600, "60 minutes"),
        (5 * 3600 + 180, "5 hours"), (40 * 3600, "40 hours"), (12 * 86_400, "12 days"),
    ],
)  # fmt: skip
def test_a_duration_is_told_as_people_say_it(seconds: float, text: str) -> None:
    assert spoken(seconds) == text


def test_numbers_have_separators_and_things_their_number() -> None:
    assert [counted(n, "page") for n in (0, 1, 2, 336_776)] == ["0 pages", "1 page", "2 pages", "336,776 pages"]
    assert [about(n) for n in (7, 999, 1_004, 336_776)] == [7, 999, 1_000, 337_000]


@pytest.mark.parametrize(
    ("text", "written"),
    [("2030-01-01T12:00:00Z", "2030-01-01 12:00Z"), ("2030-01-01T12:00:05.5Z", "2030-01-01 12:00:05Z"), (None, "-")],
)
def test_a_moment_is_written_in_few_letters(text: str | None, written: str) -> None:
    assert moment(text) == written


@pytest.mark.parametrize(
    ("text", "ended"), [("a", "a."), ("a.", "a."), ("a..", "a."), ("a...", "a..."), ("a!", "a!"), (" ", "")]
)
def test_a_sentence_ends_once(text: str, ended: str) -> None:
    assert sentence(text) == ended


@given(st.floats(0, 1e9))
def test_a_duration_is_short(seconds: float) -> None:
    assert 2 <= len(duration(seconds)) <= 6


def test_times_are_read_as_kubernetes_writes_them() -> None:
    assert instant_of("2030-01-01T12:00:00Z") == NOW
    assert instant_of("2030-01-01T12:00:00.123456Z") == NOW + timedelta(microseconds=123_456)
    assert (instant_of(None), instant_of("soon")) == (None, None)
    assert instant_of("2030-01-01T12:00:00") == datetime(2030, 1, 1, 12, tzinfo=UTC)
    assert ahead(NOW + timedelta(seconds=5), NOW) == "in 5 seconds"
    assert ahead(NOW - timedelta(seconds=5), NOW) == "overdue for 5 seconds"
    assert (ago(NOW - timedelta(seconds=1), NOW), ago(NOW, NOW), ago(None, NOW)) == ("1 second ago", "just now", "-")
    assert rfc3339_ms(1_388_530_800_000) == "2013-12-31T23:00:00Z"
    assert rfc3339_ms(1) == "1970-01-01T00:00:00.001Z"


ROWS = [("x", "one two three four five six seven"), ("longer", "")]


@pytest.mark.parametrize(
    ("heads", "rows", "columns", "spare", "expected"),
    [
        (("A", "LONG"), [("x", "1"), ("longer", "")], None, (), ["A        LONG", "x        1", "longer   -"]),
        (("A", "LONG"), [("x", "1"), ("longer", "")], 40, (), ["A        LONG", "x        1", "longer   -"]),
        (
            ("A", "LONG"), ROWS, 40, (),
            ["A       LONG", "x       one two three four five six", "        seven", "longer  -"],
        ),
        (
            ("A", "LONG"), ROWS, None, (),
            ["A        LONG", "x        one two three four five six seven", "longer   -"],
        ),
        (("A", "B", "C"), [("a" * 20, "b" * 20, "c")], 40, ("B",), [f"A{' ' * 21}C", f"{'a' * 20}  c"]),
        (
            ("A", "B", "C"), [("a" * 20, "b" * 20, "c")], 60, ("B",),
            [f"A{' ' * 22}B{' ' * 22}C", f"{'a' * 20}   {'b' * 20}   c"],
        ),
        (("A", "B"), [("a" * 20, "b" * 18)], 40, ("A",), [f"A{' ' * 21}B", f"{'a' * 20}  {'b' * 18}"]),
        (("A", "B"), [("日本", "1"), ("abcd", "2")], None, (), ["A      B", "日本   1", "abcd   2"]),
        (
            ("A", "B"), [("a\x1b[31m", Styled("b\nc", colour="red"))], None, (),
            ["A           B", "a\\x1b[31m   b\\nc"],
        ),
    ],
    ids=["straight", "fits", "goes on below", "a pipe", "spare", "not spare", "closer", "wide letters", "escaped"],
)  # fmt: skip
def test_a_table_fits_a_terminal_and_is_whole_in_a_pipe(
    heads: tuple[str, ...], rows: list[Any], columns: int | None, spare: tuple[str, ...], expected: list[str]
) -> None:
    assert Table(heads).lines(rows, columns, spare) == expected


def test_of_the_columns_that_can_be_spared_those_without_a_value_go_first() -> None:
    text = "no queries or writes are running, as somebody has asked"
    rows = [("flights", "12m ago", "-", text), ("positions", "1m ago", "", text)]
    lines = Table(("NAME", "LAST RUN", "VERIFIED", "MESSAGE")).lines(rows, 60, ("LAST RUN", "VERIFIED"))
    assert lines[0] == "NAME       LAST RUN  MESSAGE"
    assert lines[1].startswith("flights    12m ago   no queries")


def test_a_long_text_goes_below_its_row_where_there_is_no_room_beside_it() -> None:
    field = "spec.groups.dateHistogram.timeZone:"
    rows = [
        ("18m ago", "DesiredStateReverted", "flights-hourly", f"{field} is no zone"),
        ("1m ago", "Started", "x", "y"),
    ]
    assert Table(("SEEN", "REASON", "JOB", "MESSAGE")).lines(rows, 60) == [
        "SEEN     REASON                JOB             MESSAGE",
        "18m ago  DesiredStateReverted  flights-hourly",
        f"    {field} is no zone",
        "1m ago   Started               x               y",
    ]


def test_a_table_that_grows_keeps_its_columns() -> None:
    table = Table(("A", "B"))
    assert table.lines([("long enough", "1")]) == ["A             B", "long enough   1"]
    assert table.lines([("x", "2")], head=False) == ["x             2"]


START = "kubectl rollup start flights-of-a-very-long-name-hourly -n team-with-a-long-name"
PURGE = "kubectl rollup purge 'my job' --index 'a; b' -n team"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"The job is stopped; start it first: {START}", ["The job is stopped; start it first:", START]),
        (f"Start it: {START}.", ["Start it:", START]),
        (
            f"It waits. To run at once: {START}; to stop it, see the page.",
            ["It waits. To run at once:", START, "to stop it, see the page."],
        ),
        (f"First: {PURGE}. Then: {START}", ["First:", PURGE, "Then:", START]),
        (f"Start it: {PURGE}", [f"Start it: {PURGE}"]),
        ("a text without commands: it is broken between its words", ["a text without commands: it is broken", ""]),
    ],
    ids=["last", "a sentence", "within", "two", "it fits", "none"],
)
def test_a_command_to_copy_is_a_line_of_its_own_where_the_text_needs_more_than_one(
    text: str, expected: list[str]
) -> None:
    found = wrapped(text, 70 if len(expected) == 1 else 40)
    assert found == expected or (expected[-1] == "" and found[0] == expected[0])


@given(st.text(st.characters(codec="utf-8"), max_size=200), st.integers(40, 140))
def test_no_line_breaks_a_word(text: str, width: int) -> None:
    assert " ".join(wrapped(escaped(text), width)).split() == escaped(text).split()


@pytest.mark.parametrize(
    "word",
    ["flights", "rj/flights", "rollupjob/flights", "rollupjobs/flights", "rollupjob.rollup-operator.dev/flights"],
)
def test_a_name_may_be_typed_as_kubectl_prints_it(word: str) -> None:
    assert name_of(word) == "flights"


@pytest.mark.parametrize("word", ["", "..", "../pods/x", "pod/x", "Flights", "a b", "a?b", "-x", "rj/", "x" * 254])
def test_what_can_be_no_name_never_becomes_a_path(word: str) -> None:
    with pytest.raises(Failure, match="cannot be the name") as caught:
        name_of(word)
    assert caught.value.code is Code.USAGE


def test_who_asked_is_read_from_managed_fields() -> None:
    body = observed_job(manager="kustomize-controller", changed=-5)
    body["metadata"]["managedFields"] += [
        {"manager": "early", "time": at(-900), "fieldsV1": {"f:spec": {"f:desiredState": {}, "f:cron": {}}}},
        {"manager": "odd"},
    ]
    found = owners(body)
    assert [(owner.manager, owner.is_gitops) for owner in found] == [("kustomize-controller", True), ("early", False)]
    assert gitops_owner(found) == "kustomize-controller"
    assert gitops_owner(owners(observed_job())) is None
    assert changed_at(body) == instant_of(at(-5))
    assert changed_at(body, status=True) == instant_of(at(-60))
    assert owners({"metadata": {}}) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"spec": 3}', '{"spec": {"desiredState": 1}}'])
def test_an_annotation_that_cannot_be_read_says_nothing(text: str) -> None:
    body = {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": text}}}
    assert applied_state(body) is None


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([], Code.DONE),
        ([Code.DONE, Code.DONE], Code.DONE),
        ([Code.DONE, Code.TIMED_OUT, Code.TIMED_OUT], Code.TIMED_OUT),
        ([Code.TIMED_OUT, Code.NOT_FOUND], Code.FAILED),
    ],
)
def test_several_jobs_share_an_exit_code_or_fail(codes: list[Code], code: Code) -> None:
    assert code_of(Result("team", "x", JobOutcome.DONE, "", each) for each in codes) is code


PREVIEWED = {
    "preview": [{"_id": "trips$1", "_source": {"_rollup.id": "trips"}}],
    "estimate": {"source_documents": 5000, "buckets": 40, "pages": 1, "time_in_ms": 90_000},
    "range": {"gte": None, "lt": "2024-03-01T00:00:00Z"},
}


def test_a_preview_is_shown_to_people() -> None:
    assert lines(PREVIEWED) == [
        ("Range", "the beginning to 2024-03-01T00:00:00Z"),
        ("Source", "5,000 documents"),
        ("Would write", "about 40 documents, in 1 page and 90 seconds"),
    ]


def test_documents_of_a_preview_are_shown_as_a_query_shows_them() -> None:
    spec = {
        "groups": {
            "dateHistogram": {"field": "at", "fixedInterval": "1h"},
            "histogram": {"fields": ["distance"], "interval": 100},
            "terms": {"fields": ["carrier"]},
        },
        "metrics": [{"field": "delay", "metrics": ["avg", "max"]}, {"field": "size", "metrics": ["value_count"]}],
    }
    document = {
        "at.date_histogram.timestamp": 1_388_530_800_000,
        "at.date_histogram._count": 1200,
        "distance.histogram.value": 500.0,
        "carrier.terms.value": None,
        "delay.avg.value": 6266.0,
        "delay.avg._count": 300.0,
        "delay.max.value": 1_234_567.5,
    }
    early = document | {"at.date_histogram.timestamp": "1969-12-31T23:00:00Z", "carrier.terms.value": "WN"}
    found = buckets_of(spec, [document, early])
    assert table(found) == (
        ["TIME", "distance", "carrier", "count", "avg:delay", "max:delay", "value_count:size"],
        [
            ["2013-12-31T23:00:00Z", "500", "-", "1,200", "20.8867", "1,234,567.50", "-"],
            ["1969-12-31T23:00:00Z", "500", "WN", "1,200", "20.8867", "1,234,567.50", "-"],
        ],
    )
    assert spare_of(found[0]) == ["value_count:size", "max:delay", "avg:delay", "count", "carrier", "distance"]
    assert found[0].as_json() == {
        "time": "2013-12-31T23:00:00Z",
        "by": {"distance": 500.0, "carrier": None},
        "count": 1200,
        "metrics": {"avg:delay": 6266 / 300, "max:delay": 1_234_567.5, "value_count:size": None},
    }


def test_a_field_that_is_grouped_both_ways_has_two_columns() -> None:
    groups = {"dateHistogram": {"field": "at"}, "histogram": {"fields": ["n", "m"]}, "terms": {"fields": ["n"]}}
    document = {"at.date_histogram.timestamp": 0, "at.date_histogram._count": 3, "m.histogram.value": 10.0}
    (found,) = buckets_of({"groups": groups}, [document | {"n.histogram.value": 40.0, "n.terms.value": 42}])
    assert found.by == {"n.histogram": 40.0, "m": 10.0, "n.terms": 42}
    assert table([found])[0] == ["TIME", "n.histogram", "m", "n.terms", "count"]


def test_a_field_whose_name_is_that_of_a_column_keeps_a_column_of_its_own() -> None:
    groups = {
        "dateHistogram": {"field": "at"}, "histogram": {"fields": ["n"]}, "terms": {"fields": ["n", "n.terms"]}
    }  # fmt: skip
    document: dict[str, Any] = {"at.date_histogram.timestamp": 0, "at.date_histogram._count": 3}
    values = {"n.histogram.value": 40.0, "n.terms.value": 42, "n.terms.terms.value": "x"}
    (found,) = buckets_of({"groups": groups}, [document | values])
    assert found.by == {"n.histogram": 40.0, "n.terms": 42, "n.terms.terms": "x"}


def test_a_text_of_others_with_many_beginnings_of_commands_takes_no_time() -> None:
    text = ": kubectl a" * 9_000 + " '"
    begun = time.process_time()
    assert [part.is_command for part in parts(text)] == [False]
    assert time.process_time() - begun < 1


def test_a_preview_names_what_one_might_not_expect() -> None:
    assert ("Note", "'n' is rounded") in lines({**PREVIEWED, "notes": ["'n' is rounded"]})


def test_how_a_source_is_read_is_shown_to_people() -> None:
    csv = {"delimiter": "\t", "header": True, "columns": {"t": "TIMESTAMP", "k": "VARCHAR"}}
    source = {"columns": {"t": "TIMESTAMP"}, "csv": [csv, csv | {"delimiter": ",", "time_format": "%d/%m/%Y"}]}
    found = lines(PREVIEWED | {"preview": [], "source": source, "notes": ["v.sum is rounded"]})
    assert found[3:] == [
        ("Column", "t  TIMESTAMP"),
        ("CSV", "delimiter tab, a header; t TIMESTAMP, k VARCHAR"),
        ("CSV", "delimiter ,, a header; t TIMESTAMP, k VARCHAR; times as %d/%m/%Y"),
        ("Note", "v.sum is rounded"),
    ]


@pytest.mark.parametrize("text", ["", "kind: RollupStore", "- 1", "kind: RollupJob\n---\nkind: RollupJob", "\t{"])
def test_a_file_that_holds_no_one_job_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(Failure, match=r"RollupJobs|is no YAML") as failure:
        manifest(str(tmp_path / "job.yaml"))
    assert failure.value.code is Code.USAGE


def test_one_job_among_other_resources_is_found(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("kind: RollupStore\n---\nkind: RollupJob\nspec: {cron: x}\n---\n")
    assert manifest(str(tmp_path / "all.yaml")) == {"kind": "RollupJob", "spec": {"cron": "x"}}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "agrees"),
    [("y\n", True), (" YES \n", True), ("\n", False), ("no\n", False), ("yup\n", False), ("", False)],
)
def test_only_yes_agrees_to_a_deletion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, agrees: bool
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert agreed("3 documents cannot be restored.") is agrees
    written = capsys.readouterr()
    assert (written.out, written.err) == ("", "3 documents cannot be restored.\nDelete? [y/N] ")


def test_where_nobody_can_answer_a_deletion_needs_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(Failure, match="add --yes"):
        agreed("3 documents cannot be restored.")
