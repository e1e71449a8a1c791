"""What the page shows of a verification, as texts, and what it remembers for the time line. Pure."""

import shlex
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson

from rollup_operator.explaining.findings import next_step, number, remarks, the_right_one, value_of, verdict
from rollup_operator.explaining.summary import Mood
from rollup_operator.explaining.text import capital, sentence
from rollup_operator.http.api.repair import RepairRun
from rollup_operator.http.api.verify import VerifyRequest
from rollup_operator.http.ui.forms import listed
from rollup_operator.http.ui.job import can_run
from rollup_operator.model.counts import counted
from rollup_operator.model.finding_words import KINDS, wrong_of
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import LastVerification, shortened
from rollup_operator.model.time_values import parse_instant
from rollup_operator.model.times import instant_of

MOST_DAYS, MOST_BUCKETS, MOST_NUMBERS = 60, 40, 3
"""Days and buckets with findings that are shown, and numbers of each: a page stays below 100 kB."""

LONGEST_VALUES, LONGEST_NAME = 300, 200
"""Characters of a bucket's values, and of the name of a number: a source may have terms of any length."""

REMEMBERED = 200
"""Verifications that are remembered for time lines, in at most 20 kB each."""

FINEST = 50
"""A time line shows findings that are closer to one another than this part of its stretch as one."""

COMPARISONS: Mapping[str, tuple[str, bool | None]] = {
    "auto": ("automatic", None),
    "full": ("every bucket", True),
    "counts": ("days with other counts", False),
}
"""How closely to compare: the words, and what the verify call takes for it."""


@dataclass(frozen=True, slots=True)
class ShownBucket:
    """A bucket that is not as it should be."""

    kind: str
    time: str
    others: str
    """The values of its other groups."""
    numbers: Sequence[tuple[str, str, str]]
    """Name, what is stored, and what the source gives."""
    more: str
    """What is left out, and which of several documents is the right one; empty: nothing."""


@dataclass(frozen=True, slots=True)
class VerificationShown:
    """A verification's answer, for people."""

    mood: str
    headline: str
    repairs: Sequence[str]
    """What was found before each run, and what the run says."""
    cure: str
    """What to do about it; empty: nothing."""
    days: Sequence[tuple[str, Sequence[str]]]
    """The day and its counts, as in HEADS."""
    more_days: int
    buckets: Sequence[ShownBucket]
    more_buckets: int
    notes: Sequence[str]
    command: str
    call: str

    @classmethod
    def of(
        cls,
        job: JobView,
        asked: VerifyRequest,
        found: Mapping[str, Any],
        repairs: Sequence[RepairRun] = (),
        *,
        may_repair: bool = False,
    ) -> "VerificationShown":
        """Read an answer of the verify call. `may_repair`: who asks may have a run repair."""
        wrong = {kind: count for kind, count in found["buckets"].items() if kind in KINDS}
        lost_alone = found["verified"] or not any(count for kind, count in wrong.items() if kind != "extra")
        mood = Mood.GOOD if found["verified"] else Mood.CHANGING if lost_alone else Mood.BAD
        examples = found["examples"][:MOST_BUCKETS]
        return cls(
            mood=mood.value,
            headline=capital(sentence(verdict(found))),
            repairs=[
                capital(sentence(f"{wrong_of(each.found)} before a run repaired it: {each.run}")) for each in repairs
            ],
            cure=capital(sentence(next_step(found, _repair(job, may_repair), repaired=bool(repairs)))),
            days=[_day(day) for day in found["by_day"][:MOST_DAYS]],
            more_days=found["days"]["with_findings"] - len(found["by_day"][:MOST_DAYS]),
            buckets=[_bucket(example) for example in examples],
            more_buckets=sum(wrong.values()) - len(examples),
            notes=[capital(sentence(note)) for note in (*found["notes"], *remarks(found, "comparing “every bucket”"))],
            command=command(job, asked),
            call=call(job, asked),
        )


def _repair(job: JobView, may_repair: bool) -> str:
    """Say what makes a run repair what was found."""
    if not may_repair:
        return "a user who may run the job adds --repair to the command below"
    return "use “Verify and repair”" if can_run(job) else "start the job, then use “Verify and repair”"


def fields_of(job: JobView, text: str) -> Sequence[str] | None:
    """Read names with commas between them; None: all fields. A name that has commas itself stands alone."""
    whole = text.strip()
    if "," in whole and whole in _metric_fields(job):
        return [whole]
    return listed(whole) or None


def _metric_fields(job: JobView) -> set[Any]:
    metrics = job.raw_spec.get("metrics")
    return {each.get("field") for each in metrics if isinstance(each, dict)} if isinstance(metrics, list) else set()


HEADS = ("Day", "Source rows", "Rolled up", *(kind.capitalize() for kind in KINDS))


def _day(day: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    begin = str(day["gte"]).removesuffix("T00:00:00Z")
    counts = [day["source_documents"], day["rolled_up_documents"], *(day[kind] for kind in KINDS)]
    return begin, [f"{count:,}" for count in counts]


def _bucket(example: Mapping[str, Any]) -> ShownBucket:
    time, *others = example["key"].values()
    names = [name.rpartition(".")[0] for name in list(example["key"])[1:]]
    numbers = example["fields"][:MOST_NUMBERS]
    left = len(example["fields"]) - len(numbers)
    more = [f"and {counted(left, 'more number')}"] if left > 0 else []
    more += [shortened(the_right_one(example), LONGEST_VALUES)] if example["kind"] == "duplicate" else []
    return ShownBucket(
        kind=example["kind"],
        time=str(time),
        others=shortened(
            " ".join(
                f"{name}={shortened(value_of(value), LONGEST_VALUES)}"
                for name, value in zip(names, others, strict=True)
            ),
            LONGEST_VALUES,
        ),
        numbers=[
            (
                shortened(each["field"].removesuffix(".value"), LONGEST_NAME),
                number(each["stored"]),
                number(each["recomputed"]),
            )
            for each in numbers
        ],
        more="; ".join(more),
    )


def command(job: JobView, asked: VerifyRequest, *, repair: bool = False) -> str:
    """Return the command that does the same."""
    parts = ["kubectl", "rollup", "verify", job.name, "-n", job.namespace]
    for option, value in (("--from", asked.begin), ("--to", asked.end)):
        parts += [option, str(value)] if value is not None else []
    for name in asked.fields or ():
        parts += ["--fields", name]
    parts += {None: [], True: ["--full"], False: ["--counts"]}[asked.full]
    return shlex.join([*parts, *(["--repair"] if repair else [])])


def call(job: JobView, asked: VerifyRequest) -> str:
    """Return the call of the HTTP API that does the same."""
    path = f"/namespaces/{quote(job.namespace, safe='')}/_rollup/job/{quote(job.job_id, safe='')}/_verify"
    given = {"from": asked.begin, "to": asked.end, "fields": asked.fields, "full": asked.full}
    body = {name: value for name, value in given.items() if value is not None}
    sent = f" -H 'Content-Type: application/json' -d {shlex.quote(orjson.dumps(body).decode())}" if body else ""
    return f'curl -X POST -H "Authorization: Bearer $ROLLUP_TOKEN"{sent} "$ROLLUP_URL"{shlex.quote(path)}'


_REPORTED = ("differs", "missing", "duplicate")
"""Kinds of findings of which a report in a status says between which days they are."""


@dataclass(frozen=True, slots=True)
class SeenFindings:
    """What a verification has found, as a time line shows it."""

    ended: datetime
    stretches: Sequence[tuple[datetime, datetime, str]]
    """From, to, and the kind of finding."""

    @classmethod
    def of(cls, found: Mapping[str, Any], ended: datetime) -> "SeenFindings":
        """Read an answer of the verify call."""
        bounds, stretches = found["range"], list[tuple[datetime, datetime, str]]()
        if bounds["gte"] is not None:
            gap = (_ms(bounds["lt"]) - _ms(bounds["gte"])) // FINEST
            for kind in KINDS:
                joined: list[list[int]] = []
                for begin, end in ((_ms(day["gte"]), _ms(day["lt"])) for day in found["by_day"] if day[kind]):
                    if joined and begin - joined[-1][1] <= gap:
                        joined[-1][1] = end
                    else:
                        joined.append([begin, end])
                stretches += [(_instant(begin), _instant(end), kind) for begin, end in joined]
        return cls(ended, stretches)

    @classmethod
    def of_report(cls, last: LastVerification) -> "SeenFindings | None":
        """Read what the operator has found by a job's schedule; None: it has compared nothing."""
        ended = instant_of(last.end_time)
        if ended is None or last.buckets is None:
            return None
        begin, end = instant_of(last.first_difference), instant_of(last.last_difference)
        if begin is None or end is None:
            return cls(ended, [])
        return cls(ended, [(begin, end, kind) for kind in _REPORTED if getattr(last, kind)])


class LastFindings:
    """What the last verification of each user has found of each job, as far as this process has made it."""

    def __init__(self) -> None:
        self._of: OrderedDict[tuple[str, str], SeenFindings] = OrderedDict()

    def of(self, user: str, job: JobView) -> SeenFindings | None:
        """Return what a user's last verification of a job has found; None: there was none."""
        return self._of.get((user, job.uid))

    def seen(self, user: str, job: JobView, found: SeenFindings) -> None:
        """Take in what was found."""
        self._of[user, job.uid] = found
        self._of.move_to_end((user, job.uid))
        if len(self._of) > REMEMBERED:
            self._of.popitem(last=False)


def _ms(text: str) -> int:
    return parse_instant(text, "time")


def _instant(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
