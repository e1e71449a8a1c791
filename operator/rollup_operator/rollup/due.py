"""The time ranges of a run: what is new, and what it reads again for late documents. Pure.

    spec.start                                                    now - delay
    ──┬───────┬───────┬───────┬───────┬───────┬───────┬───────┬───────┬───────▶ time, at edges of buckets
      │ written, not read     │ again                 │ fresh         │ not over yet
                              │                       │               └ the watermark of this run
                              │                       └ end of the last bucket written
                              └ the last watermark - lookback

The beginning of a bucket decides whether a job covers it: `spec.start <= beginning < spec.end`. So if one of two jobs
ends where the other starts, each bucket belongs to exactly one of them.

Looking back is exact: documents that arrive at most `lookback` after the end of their bucket are all there when the
bucket is older than that. A run first reads again the buckets that were younger when the last run read them, and then
reads what is new; a halt between the two steps leaves both for the next run.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.status import PositionValue
from rollup_operator.model.time_values import parse_instant, parse_time_value
from rollup_operator.model.times import rfc3339_ms
from rollup_operator.rollup.bounds import Bounds, Span


@dataclass(frozen=True, slots=True)
class Due:
    """What a run has to do."""

    fresh: Span
    """What to read from the position on; `start_ms` counts only if it is after the position."""
    again: Span
    """What was written before and is to be read again; often empty."""
    nothing: str | None
    """Why there is nothing to do at all; None: there may be something."""
    watermark_ms: int | None = None
    """The recorded watermark, if it is credible."""
    doubt: str | None = None
    """What is impossible in the record, and what the run does about it."""


def due(
    spec: RollupJobSpec,
    now: datetime,
    *,
    position: Mapping[str, PositionValue] | None = None,
    watermark_ms: int | None = None,
    latest_ms: int | None = None,
    hold_ms: int = 0,
) -> Due:
    """Compute it from the progress of a job. Raises ValueError naming the field that cannot be used.

    `latest_ms`: no clock shows a later time, so a later watermark or position was written by a clock that was ahead.
    None: unknown, and the record is believed. `hold_ms`: a delay that the source requires.
    """
    bounds = Bounds.of(spec.groups.date_histogram)
    start = _edge(bounds, spec.start, "spec.start") if spec.start is not None else 0
    end = bounds.upper(now, hold_ms)
    until = _edge(bounds, spec.end, "spec.end") if spec.end is not None else None
    if until is not None:
        end = min(end, until)
    record = _Record(position_ms(spec, position), watermark_ms, latest_ms)
    again = _again(spec, bounds, record, start, end)
    if position is not None:
        start = 0  # a position is never moved back, nor are buckets behind it skipped
    fresh = Span(start, end)
    believed = record.believed_ms
    complete = until is not None and believed is not None and believed >= until and spec.lookback is None
    return Due(fresh, again, _nothing(fresh, again, until, complete=complete), believed, _doubt(record, again))


@dataclass(frozen=True, slots=True)
class _Record:
    """The progress of the job in its record. In epoch milliseconds."""

    last_ms: int | None
    """Where the bucket of the position begins; None: nothing was written."""
    watermark_ms: int | None
    latest_ms: int | None

    @property
    def watermark_is_ahead(self) -> bool:
        return self._ahead(self.watermark_ms)

    @property
    def position_is_ahead(self) -> bool:
        return self._ahead(self.last_ms)

    @property
    def believed_ms(self) -> int | None:
        return None if self.watermark_is_ahead else self.watermark_ms

    def _ahead(self, ms: int | None) -> bool:
        return ms is not None and self.latest_ms is not None and ms > self.latest_ms


def _again(spec: RollupJobSpec, bounds: Bounds, record: _Record, start: int, end: int) -> Span:
    last, believed = record.last_ms, record.believed_ms
    if last is None:
        return Span(0, 0)
    back = int(parse_time_value(spec.lookback, "lookback").milliseconds) if spec.lookback is not None else 0
    written = bounds.next_edge(last)
    if record.position_is_ahead:  # new rows are before the position, so they are read here
        low = bounds.round_down(believed - back) if believed is not None else 0
        return Span(max(low, start), end)
    lows = []
    if spec.lookback is not None:
        lows.append(bounds.round_down(max(written, believed or 0) - back))
    if record.watermark_is_ahead:  # the newest buckets were read before they were over
        lows.append(bounds.round_down(last - bounds.delay_ms))
    return Span(max(0, start, min(lows)), min(written, end)) if lows else Span(0, 0)


def written_of(
    spec: RollupJobSpec, position: Mapping[str, PositionValue] | None, stretches: Iterable[tuple[int, int]]
) -> list[Span]:
    """Return what is written of stretches [from, to) that are to be read again: whole buckets that begin in them.

    A bucket that 1970 cuts counts as one that begins there.
    """
    last = position_ms(spec, position)
    if last is None:
        return []
    bounds = Bounds.of(spec.groups.date_histogram)
    start = _edge(bounds, spec.start, "spec.start") if spec.start is not None else 0
    end = bounds.next_edge(last)
    if spec.end is not None:
        end = min(end, _edge(bounds, spec.end, "spec.end"))
    spans = [
        Span(max(start, bounds.next_edge(begin - 1) if begin > 0 else 0), min(end, bounds.next_edge(until - 1)))
        for begin, until in stretches
    ]
    return [span for span in spans if not span.empty]


def rolled_up_to(
    spec: RollupJobSpec,
    position: Mapping[str, PositionValue] | None,
    watermark_ms: int | None,
    *,
    last_is_whole: bool,
) -> int:
    """Return the edge up to which every bucket is written, by the job's record; 0 where none is.

    `last_is_whole`: the store never ends a page within the buckets of one time. Otherwise some of those that begin
    with the position's may be missing, until a run has come to its end.

        position's bucket     |----| next edge          watermark
        a run was halted here  ^ or ^ with last_is_whole     ^ where the last run that came to its end has ended
    """
    last = position_ms(spec, position)
    if last is not None and last_is_whole:
        last = Bounds.of(spec.groups.date_histogram).next_edge(last)
    return max(0, watermark_ms or 0, last or 0)


def position_ms(spec: RollupJobSpec, position: Mapping[str, PositionValue] | None) -> int | None:
    """Return where the bucket of a position begins; None: nothing is written. Raises ValueError if it is none."""
    if position is None:
        return None
    last = position.get(f"{spec.groups.date_histogram.field}.date_histogram")
    if type(last) is not int:
        raise ValueError("the position is none of this job's")
    return last


def _doubt(record: _Record, again: Span) -> str | None:
    """Say what is wrong with the record, and what follows."""
    parts = []
    if record.watermark_is_ahead:
        reread = "" if again.empty else f", and the buckets from {rfc3339_ms(again.start_ms)} on are read again"
        parts.append(
            f"the recorded watermark {rfc3339_ms(record.watermark_ms or 0)} lies in the future, so it was written by a "
            f"clock that was ahead: it is replaced{reread}"
        )
    if record.position_is_ahead:
        parts.append(
            f"the recorded position {rfc3339_ms(record.last_ms or 0)} lies in the future: until then runs read what is "
            "new by looking back"
        )
    return "; ".join(parts) or None


def _edge(bounds: Bounds, text: str, field: str) -> int:
    """Return the beginning of the first bucket that begins at or after an instant."""
    return bounds.next_edge(parse_instant(text, field) - 1)


def _nothing(fresh: Span, again: Span, until: int | None, *, complete: bool) -> str | None:
    if complete:
        return f"everything before {rfc3339_ms(until or 0)}, which is spec.end, is rolled up"
    if not (fresh.empty and again.empty):
        return None
    if until is not None and fresh.start_ms >= until:
        return "no bucket begins between spec.start and spec.end"
    return f"nothing is due before the bucket of {rfc3339_ms(fresh.start_ms)} is over, as spec.start says"
