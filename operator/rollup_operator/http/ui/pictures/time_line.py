"""The time line of a job's source: which stretches are rolled up, which are being worked on, and what is missing.

Kinds differ in shape and place as well as in colour, and may lie over each other: raw data that is gone is a hollow
lower half of a stretch that is rolled up, a rewritten stretch shows above it, one that differs below it, and what is
missing is as high as the whole picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from markupsafe import Markup

from rollup_operator.escaping import escaped
from rollup_operator.http.ui.pictures.plot import WIDTH, ShownPeriod, label, legend
from rollup_operator.http.ui.pictures.ticks import time_text


class StretchKind(StrEnum):
    """What a stretch of the source's period is, in the words of the legend."""

    WAITING = "not rolled up yet"
    ROLLED = "rolled up"
    GONE = "raw data gone"
    LATE = "rewritten"
    RUNNING = "running now"
    DIFFERS = "differs"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class SourceStretch:
    """A part of the source's period. `note` is added to what is shown to who points at it."""

    begin: datetime
    end: datetime
    kind: StretchKind
    note: str = ""


_TOP, _HEIGHT, _BELOW = 18, 32, 26
_MOST_TOLD = 40
"""Stretches that are read out; the others are only drawn."""
_LEAST = 4
"""Width of the shortest stretch, in units of the picture: an hour in a year can be seen."""
_SHAPES = {
    StretchKind.WAITING: (12, 8),
    StretchKind.ROLLED: (4, 24),
    StretchKind.GONE: (16, 12),
    StretchKind.LATE: (0, 10),
    StretchKind.RUNNING: (4, 24),
    StretchKind.DIFFERS: (22, 10),
    StretchKind.MISSING: (0, _HEIGHT),
}
"""Top and height of each kind, in the order in which they are drawn."""
_FIGURE = Markup(
    '<figure class="time-line"><svg class="picture" width="100%" height="{height}" role="img">'
    "<title>Time line of the source</title><desc>{desc}</desc>{content}</svg>{legend}</figure>"
)
_BAND = Markup(
    '<svg x="0" y="{y}" width="100%" height="{height}" viewBox="0 0 {width} {height}" preserveAspectRatio="none">'
    "{content}</svg>"
)
_STRETCH = Markup(
    '<rect class="stretch {name}" x="{x}" y="{y}" width="{width}" height="{height}"><title>{text}</title></rect>'
)
_NOW = Markup('<line class="now" x1="{x}%" x2="{x}%" y1="{top}" y2="{bottom}"/>')
_NOTHING = Markup('<text class="label middle nothing" x="50%" y="{y}">nothing is known of the source yet</text>')


def time_line(stretches: Sequence[SourceStretch], *, now: datetime) -> Markup:
    """Draw the source's period with a legend of the kinds that occur; `now` is marked where it is within or close."""
    height = _TOP + _HEIGHT + _BELOW
    ordered = sorted(stretches, key=lambda each: (list(_SHAPES).index(each.kind), each.begin))
    if not ordered:
        return _FIGURE.format(
            height=height, desc="Nothing is known of the source yet.", legend="",
            content=_NOTHING.format(y=_TOP + _HEIGHT // 2),
        )  # fmt: skip
    span = _span(ordered, now)
    content = _BAND.format(
        y=_TOP, height=_HEIGHT, width=WIDTH, content=Markup().join(_stretch(each, span) for each in ordered)
    ) + span.axis(_TOP + _HEIGHT)
    if span.begin <= now <= span.end:
        content += _now(span.percent(now))
    occurring = [kind for kind in _SHAPES if any(each.kind is kind for each in ordered)]
    return _FIGURE.format(
        height=height,
        desc=escaped(_told(ordered)),
        content=content,
        legend=legend((f"stretch {_name(kind)}", _swatch(kind), kind.value) for kind in occurring),
    )


def _span(stretches: Sequence[SourceStretch], now: datetime) -> ShownPeriod:
    begin, end = min(each.begin for each in stretches), max(each.end for each in stretches)
    close = (end - begin) / 5
    return ShownPeriod(begin, now if end < now <= end + close else end)


def _stretch(stretch: SourceStretch, span: ShownPeriod) -> Markup:
    y, height = _SHAPES[stretch.kind]
    width = max(span.place(stretch.end) - span.place(stretch.begin), _LEAST)
    x = min(span.place(stretch.begin), WIDTH - width)
    return _STRETCH.format(
        name=_name(stretch.kind), x=round(x, 1), y=y, width=round(width, 1), height=height, text=escaped(_text(stretch))
    )


def _now(percent: float) -> Markup:
    return _NOW.format(x=percent, top=_TOP - 4, bottom=_TOP + _HEIGHT) + label(percent, _TOP - 6, "now")


def _swatch(kind: StretchKind) -> Markup:
    y, height = _SHAPES[kind]
    return Markup('width="12" y="{}" height="{}"').format(round(y * 12 / _HEIGHT, 1), round(height * 12 / _HEIGHT, 1))


def _told(stretches: Sequence[SourceStretch]) -> str:
    told = [_text(each) + "." for each in sorted(stretches, key=lambda each: each.begin)]
    left = len(told) - _MOST_TOLD
    return " ".join(told[:_MOST_TOLD] + ([f"And {left} more."] if left > 0 else []))


def _name(kind: StretchKind) -> str:
    return kind.name.lower()


def _text(stretch: SourceStretch) -> str:
    note = f"; {stretch.note}" if stretch.note else ""
    return f"{stretch.kind.value}: {time_text(stretch.begin)} to {time_text(stretch.end)}{note}"
