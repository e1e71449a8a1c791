"""The command that shows a job's data, rolled up and live: a table, or a chart drawn in the terminal."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

from rollup_operator.explaining.text import command, number_shown
from rollup_operator.model.time_values import parse_time_value
from rollup_operator.model.times import instant_of, rfc3339_ms
from rollup_operator.plugin.cluster import NamespaceClient, name_of
from rollup_operator.plugin.endpoint import post
from rollup_operator.plugin.outcome import Code, Failure, Where
from rollup_operator.plugin.output import Output, say
from rollup_operator.plugin.reaching import EndpointAddress, reached

KINDS = ("avg", "min", "max", "sum", "value_count")
DAY = 86_400_000
CALENDAR = {"1w": 7 * DAY, "1M": 28 * DAY, "1q": 90 * DAY, "1y": 365 * DAY}
"""Units of the calendar, and how many milliseconds each has at least."""

MOST_VALUES = 1_000
"""Values of one field that are asked for."""

BAR = 40
"""Characters of the longest bar."""

_INTERVAL = re.compile(r"([1-9]\d*)(ms|[smhd])|1[wMqy]")

_ROLLED, _LIVE, _BOTH = "rolled", "live", "both"
_BARS = {_ROLLED: "█", _LIVE: "░", _BOTH: "▒"}


@dataclass(frozen=True)
class Question:
    """What is asked of the data, as on the command line."""

    metrics: Sequence[str] = ()
    """`avg:dep_delay`, `count`."""
    by: Sequence[str] = ()
    interval: str | None = None
    last: str | None = None
    begin: str | None = None
    end: str | None = None
    where: str | None = None
    zone: str | None = None

    def body(self, date: str) -> dict[str, Any]:
        """Return the request. Raises Failure where the command line cannot be used."""
        below = dict(chain.from_iterable(self._metric(i, text) for i, text in enumerate(self.metrics)))
        aggs: dict[str, Any] = below
        for i, field in reversed(list(enumerate(self.by))):
            terms = {"field": field, "size": MOST_VALUES, "order": {"_key": "asc"}}
            aggs = {f"by{i}": {"terms": terms, **({"aggs": aggs} if aggs else {})}}
        if self.interval is not None:
            if not _INTERVAL.fullmatch(self.interval):
                form = "write a number and ms, s, m, h or d (15m, 1d), or a unit of the calendar: 1w, 1M, 1q, 1y"
                raise Failure(Code.USAGE, "Usage", f"--interval {self.interval!r}: {form}")
            kind = "calendar_interval" if self.interval in CALENDAR else "fixed_interval"
            time: dict[str, Any] = {"field": date, kind: self.interval}
            if self.zone is not None:
                time["time_zone"] = self.zone
            aggs = {"time": {"date_histogram": time, **({"aggs": aggs} if aggs else {})}}
        filters: list[dict[str, Any]] = []
        if bounds := self._range():
            filters.append({"range": {date: bounds | ({"time_zone": self.zone} if self.zone else {})}})
        if self.where:
            filters.append({"query_string": {"query": self.where}})
        return {"size": 0, "track_total_hits": True, "query": {"bool": {"filter": filters}}, "aggs": aggs}

    def _range(self) -> dict[str, str]:
        if self.last is not None and (self.begin is not None or self.end is not None):
            raise Failure(Code.USAGE, "Usage", "give --last, or --from and --to, not both")
        if self.last is not None:
            return {"gte": f"now-{self.last}"}
        given = {"gte": self.begin, "lt": self.end}
        return {name: value for name, value in given.items() if value is not None}

    @staticmethod
    def _metric(place: int, text: str) -> Iterator[tuple[str, Any]]:
        kind, colon, field = text.partition(":")
        if text == "count":
            return
        if not colon or not field or kind not in KINDS:
            one_of = ", ".join(f"{kind}:FIELD" for kind in KINDS)
            raise Failure(Code.USAGE, "Usage", f"--metric {text!r}: write count, or one of {one_of}")
        yield f"m{place}", {kind: {"field": field}}


@dataclass(frozen=True)
class Line:
    """One bucket."""

    keys: tuple[Any, ...]
    """Time first where there is an interval: epoch milliseconds."""
    numbers: tuple[Any, ...]
    data: str
    """rolled, live or both."""


async def query(where: Where, output: Output, server: EndpointAddress, word: str, question: Question) -> Code:
    """Write the data of the job of that name. Raises Failure."""
    server.check()
    question.body("")
    async with NamespaceClient.open(where) as cluster:
        job, namespace = await cluster.find(name_of(word)), cluster.namespace
    spec = job["spec"]
    body = question.body(str(spec["groups"]["dateHistogram"]["field"]))
    try:
        async with reached(where, server) as endpoint:
            answered = await post(endpoint, (namespace, str(spec["rollupIndex"]), "_search"), body, ("hits",))
    except Failure as e:
        if e.reason == "Refused" and not (job.get("status") or {}).get("watermark"):
            run = command("run", namespace, name_of(word))
            hint = f"Job {name_of(word)!r} has rolled up nothing yet: {run}"
            raise Failure(e.code, e.reason, f"{e.message} {hint}") from None
        raise
    if output.for_programs:
        output.document({"command": "query", "exitCode": Code.DONE} | answered)
        return Code.DONE
    heads, found = heads_of(question), lines(question, answered, whole="start" not in spec)
    if output.format == "csv":
        say(written(question, found).rstrip("\n"), keep="\n")
    elif output.format == "chart":
        for line in chart(question, found):
            say(line)
    else:
        output.table(heads, [[*map(number_shown, cells(question, line)), line.data] for line in found])
    for note in (*notes(answered), *nothing_found(found, job.get("status") or {})):
        output.complain("note", note)
    return Code.DONE


def heads_of(question: Question) -> list[str]:
    """Return the names of the columns."""
    time = ["TIME"] if question.interval is not None else []
    return [*time, *question.by, *(question.metrics or ("count",)), "DATA"]


def lines(question: Question, answered: Mapping[str, Any], *, whole: bool = False) -> list[Line]:
    """Return the buckets of an answer, those without documents left out.

    `whole`: the job has no spec.start, so its first bucket of documents holds all that the source has up to there.
    """
    rolled = [(_epoch_ms(job["from"]), _epoch_ms(job["to"])) for job in answered.get("_rollup", {}).get("jobs", ())]
    levels = (["time"] if question.interval is not None else []) + [f"by{i}" for i in range(len(question.by))]
    top = {"doc_count": answered["hits"]["total"]["value"], **answered.get("aggregations", {})}
    ends = _ends(question, answered) if question.interval is not None else {}
    return [
        Line(
            keys, _numbers(question, bucket), _data(keys[0], ends[keys[0]], rolled, whole) if ends else _overall(rolled)
        )
        for keys, bucket in _buckets(top, levels, ())
    ]


def cells(question: Question, line: Line) -> list[Any]:
    """Return a bucket's keys and numbers, its time as a text."""
    keys = list(line.keys)
    if question.interval is not None:
        keys[0] = rfc3339_ms(keys[0])
    return [*keys, *line.numbers]


def written(question: Question, found: Sequence[Line]) -> str:
    """Return the buckets as CSV, numbers in full."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads_of(question))
    writer.writerows([*("" if n is None else n for n in cells(question, line)), line.data] for line in found)
    return out.getvalue()


def chart(question: Question, found: Sequence[Line]) -> list[str]:
    """Return a bar for each bucket, of its first number. What is rolled up and what is live have bars of their own."""
    if not found:
        return []
    values = [line.numbers[0] or 0 for line in found]
    most = max((abs(value) for value in values), default=0) or 1
    labels = ["  ".join(map(number_shown, cells(question, line)[: len(line.keys)])) for line in found]
    width = max(map(len, labels), default=0)
    bars = [
        f"{label.ljust(width)}  {_BARS[line.data] * max(round(abs(value) / most * BAR), value != 0)} "
        f"{number_shown(line.numbers[0])}"
        for label, line, value in zip(labels, found, values, strict=True)
    ]
    used = [kind for kind in (_ROLLED, _LIVE, _BOTH) if any(line.data == kind for line in found)]
    return [*bars, "", f"{(question.metrics or ('count',))[0]}: " + ", ".join(f"{_BARS[kind]} {kind}" for kind in used)]


def notes(answered: Mapping[str, Any]) -> list[str]:
    """Return what is not as it was asked for."""
    report = answered.get("_rollup", {})
    found: list[str] = []
    if (interval := report.get("interval")) is not None:
        found.append(f"the interval is {interval}: what is rolled up has no shorter one")
    found += [
        f"{rounded['time']} lies within the bucket that begins at {rounded['begins']}, which counts as a whole"
        for rounded in report.get("rounded", ())
    ]
    return found


def nothing_found(found: Sequence[Line], status: Mapping[str, Any]) -> Iterator[str]:
    """Yield what to say if no document matches: an empty table does not show whether the time range is the reason."""
    if any(line.keys for line in found) or any(number for line in found for number in line.numbers):
        return
    watermark = status.get("watermark")
    until = f"everything before {watermark} is rolled up" if watermark else "nothing is rolled up yet"
    yield f"no documents match. Of this job, {until}; check the time range (--last, --from, --to) and --where"


def _buckets(
    node: Mapping[str, Any], levels: Sequence[str], keys: tuple[Any, ...]
) -> Iterator[tuple[tuple[Any, ...], Mapping[str, Any]]]:
    if not levels:
        if node["doc_count"] or not keys:
            yield keys, node
        return
    for bucket in node.get(levels[0], {}).get("buckets", ()):
        yield from _buckets(bucket, levels[1:], (*keys, bucket["key"]))


def _numbers(question: Question, bucket: Mapping[str, Any]) -> tuple[Any, ...]:
    metrics = question.metrics or ("count",)
    return tuple(bucket["doc_count"] if text == "count" else bucket[f"m{i}"]["value"] for i, text in enumerate(metrics))


def _data(time: int, following: int, rolled: Sequence[tuple[int, int]], whole: bool) -> str:
    covered = sum(max(0, min(following, end) - max(time, begin)) for begin, end in rolled)
    if not covered:
        return _LIVE
    if whole:
        covered += max(0, min(begin for begin, _ in rolled) - time)
    return _ROLLED if covered >= following - time else _BOTH


def _overall(rolled: Sequence[tuple[int, int]]) -> str:
    return _BOTH if rolled else _LIVE


def _ends(question: Question, answered: Mapping[str, Any]) -> dict[int, int]:
    """Return where each bucket of time ends: where the next one begins. The last one has the length of its unit."""
    times = [bucket["key"] for bucket in answered.get("aggregations", {}).get("time", {}).get("buckets", ())]
    if not times:
        return {}
    interval = str(answered.get("_rollup", {}).get("interval", question.interval))
    return {**dict(pairwise(times)), times[-1]: times[-1] + _milliseconds(interval)}


def _milliseconds(interval: str) -> int:
    if (of_calendar := CALENDAR.get(interval)) is not None:
        return of_calendar
    try:
        return int(parse_time_value(interval, "interval").milliseconds)
    except ValueError:
        return 1  # nothing that is asked for


def _epoch_ms(text: str) -> int:
    moment = instant_of(text)
    return round(moment.timestamp() * 1000) if moment is not None else 0
