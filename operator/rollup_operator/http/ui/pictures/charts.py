r"""A chart of values over time, as lines or as bars on top of each other.

::

    1,200 |             rolled up | live
          |     __/\____    /\__  |
      600 |----/--------\__/----\-|- - ------
          |   /                   |
        0 |--+------------+-------|------+---
         1 Nov 2026     8 Nov          15 Nov
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from markupsafe import Markup

from rollup_operator.escaping import escaped
from rollup_operator.http.ui.pictures.plot import WHOLE, WIDTH, ShownPeriod, legend
from rollup_operator.http.ui.pictures.ticks import LARGEST, number_text, number_ticks, tick_texts, time_text

COLOURS = 6
"""ChartSeries beyond these begin again with the first colour."""
_TOP, _HEIGHT, _BELOW = 24, 180, 26
"""Heights, in pixels, of the room for the cut's text, of the plot, and of the times below."""
_DIGIT = 7
"""Width of a digit, in pixels."""
_LARGEST = LARGEST / 1e9
"""Values beyond it are not drawn; a stack of those below has an axis."""
_MOST_HINTS = 120
"""Of so many instants each has its values as a hint; of more, the page would grow too large."""
_FIGURE = Markup(
    '<figure class="chart"><div class="sheet">{scale}<svg class="picture" width="100%" height="{height}" role="img">'
    "<title>{title}</title><desc>{desc}</desc>{content}</svg></div>{legend}</figure>"
)
_NUMBERS = Markup('<svg class="picture" width="{width}" height="{height}" aria-hidden="true">{content}</svg>')
_NUMBER = Markup('<text class="label right" x="100%" dx="-8" y="{y}">{text}</text>')
_DATA = Markup(
    '<svg x="0" y="{y}" width="100%" height="{height}" viewBox="0 0 {width} {height}" preserveAspectRatio="none">'
    "{content}</svg>"
)
_PATH = Markup('<path class="{kind} series-{colour}{live}" d="{d}"/>')
_GRID = Markup('<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>')
_UNIT = Markup('<text class="label left" x="0" y="15">{text}</text>')
_HINT = Markup('<rect class="hint" x="{x}" y="0" width="{width}" height="{height}"><title>{text}</title></rect>')
_CUT = Markup('<line class="cut" x1="{x}%" x2="{x}%" y1="6" y2="{y}"/>')
_BESIDE = Markup('<text class="label {side}" x="{x}%" dx="{dx}" y="15">{text}</text>')
_NOTHING = Markup('<text class="label middle nothing" x="50%" y="{y}">no data in this period</text>')


@dataclass(frozen=True, slots=True)
class ChartSeries:
    """Values that one line or colour shows. Each belongs to the bucket that begins at its instant; None: a gap."""

    name: str
    points: Sequence[tuple[datetime, float | None]]

    @property
    def values(self) -> Iterator[tuple[datetime, float]]:
        """The points that can be drawn, in order of time."""
        return (
            (when, value)
            for when, value in sorted(self.points, key=lambda point: point[0])
            if value is not None and abs(value) <= _LARGEST
        )


def chart(
    series: Sequence[ChartSeries],
    *,
    interval: timedelta,
    cut: datetime | None,
    unit: str = "",
    title: str,
    bars: bool = False,
) -> Markup:
    """Draw series whose buckets are `interval` long; what begins at or after `cut` is live and lighter.

    Buckets without a value leave a gap. The picture is as wide as its place and keeps its height and text sizes.
    """
    drawn = [list(each.values) for each in series]
    height = _TOP + _HEIGHT + _BELOW
    if not any(drawn):
        return _FIGURE.format(
            height=height, title=escaped(title), desc="No data in this period.", scale="", legend="",
            content=_NOTHING.format(y=_TOP + _HEIGHT // 2),
        )  # fmt: skip
    instants = sorted({when for points in drawn for when, _ in points})
    span = ShownPeriod(instants[0], _after(instants[-1], interval))
    stacked = _stacked(drawn) if bars else []
    heights = [end for column in stacked for _, ends in column for end in ends] or [
        v for line in drawn for _, v in line
    ]
    low, high = min(heights), max(heights)
    if bars or 0 <= low <= high / 2 or low == high:
        low, high = min(low, 0.0), max(high, 0.0)
    scale = _Scale(number_ticks(low, high))
    if bars:
        paths = [path for i, column in enumerate(stacked) for path in _bars(column, i, span, scale, interval, cut)]
    else:
        paths = [path for i, line in enumerate(drawn) for path in _lines(line, i, span, scale, interval, cut)]
    hints = _hints(series, drawn, instants, span, interval, unit) if len(instants) <= _MOST_HINTS else ()
    content = (
        scale.grid()
        + (_UNIT.format(text=escaped(unit)) if unit else "")
        + _DATA.format(y=_TOP, height=_HEIGHT, width=WIDTH, content=Markup().join([*paths, *hints]))
        + (_cut(span, cut) if cut is not None else "")
        + span.axis(_TOP + _HEIGHT)
    )
    names = [("series-" + str(i % COLOURS + 1), WHOLE, escaped(each.name)) for i, each in enumerate(series)]
    return _FIGURE.format(
        height=height,
        title=escaped(title),
        desc=escaped(_summary(series, drawn, span, cut, unit)),
        scale=scale.numbers(height),
        content=content,
        legend=legend(names) if len(series) > 1 else "",
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """The way from values to heights: 0 is the top of the plot."""

    ticks: Sequence[float]

    def y(self, value: float) -> float:
        bottom, top = self.ticks[0], self.ticks[-1]
        return round(_HEIGHT * (1 - (value - bottom) / (top - bottom)), 1)

    def grid(self) -> Markup:
        return Markup().join(_GRID.format(y=_TOP + self.y(tick)) for tick in self.ticks)

    def numbers(self, height: int) -> Markup:
        """Return the picture at the left, with a number for each line of the grid."""
        texts = tick_texts(self.ticks)
        content = Markup().join(
            _NUMBER.format(y=_TOP + self.y(tick) + 4, text=text) for tick, text in zip(self.ticks, texts, strict=True)
        )
        return _NUMBERS.format(width=_DIGIT * max(map(len, texts)) + 10, height=height, content=content)


_Column = list[tuple[datetime, tuple[float, float]]]


def _stacked(drawn: Sequence[Sequence[tuple[datetime, float]]]) -> list[_Column]:
    """Return each series' bars as (begin, end), every one on top of those before it; negative ones go down."""
    up: dict[datetime, float] = {}
    down: dict[datetime, float] = {}
    columns: list[_Column] = []
    for points in drawn:
        column: _Column = []
        for when, value in points:
            side = up if value >= 0 else down
            begin = side.get(when, 0.0)
            side[when] = begin + value
            column.append((when, (begin, begin + value)))
        columns.append(column)
    return columns


def _bars(
    column: _Column, number: int, span: ShownPeriod, scale: _Scale, interval: timedelta, cut: datetime | None
) -> Iterator[Markup]:
    pieces: Mapping[bool, list[str]] = {False: [], True: []}
    for when, (begin, end) in column:
        left, right = span.place(when), span.place(_after(when, interval))
        space = min(1.5, (right - left) / 8)
        high, low = sorted((scale.y(begin), scale.y(end)))
        pieces[_is_live(when, cut)].append(f"M{left + space:.1f} {low}V{high}H{right - space:.1f}V{low}z")
    for live, parts in pieces.items():
        if parts:
            yield _path("bars", number, live, "".join(parts))


def _lines(
    line: Sequence[tuple[datetime, float]],
    number: int,
    span: ShownPeriod,
    scale: _Scale,
    interval: timedelta,
    cut: datetime | None,
) -> Iterator[Markup]:
    """Join values of buckets that follow each other, each at the middle of its bucket; one alone is a dot."""
    for stretch in _stretches(line, interval):
        at = [
            (f"{span.place(_after(when, interval / 2)):.1f} {scale.y(v)}", _is_live(when, cut)) for when, v in stretch
        ]
        if len(at) == 1:
            yield _path("dot", number, at[0][1], f"M{at[0][0]}h0")
            continue
        rolled = [place for place, live in at if not live]
        live = [place for place, live in at if live]
        if len(rolled) > 1:
            yield _path("line", number, False, f"M{'L'.join(rolled)}")
        if live:
            yield _path("line", number, True, f"M{'L'.join([*rolled[-1:], *live])}")


def _stretches(line: Sequence[tuple[datetime, float]], interval: timedelta) -> Iterator[list[tuple[datetime, float]]]:
    """Cut a line where buckets are missing; calendar buckets differ in length."""
    stretch: list[tuple[datetime, float]] = []
    for when, value in line:
        if stretch and when - stretch[-1][0] > interval * 1.5:
            yield stretch
            stretch = []
        stretch.append((when, value))
    yield stretch


def _path(kind: str, number: int, live: bool, d: str) -> Markup:
    return _PATH.format(kind=kind, colour=number % COLOURS + 1, live=" live" if live else "", d=d)


def _hints(
    series: Sequence[ChartSeries],
    drawn: Sequence[Sequence[tuple[datetime, float]]],
    instants: Sequence[datetime],
    span: ShownPeriod,
    interval: timedelta,
    unit: str,
) -> Iterator[Markup]:
    """Yield what shows a bucket's values to who points at it."""
    known = [dict(points) for points in drawn]
    for when in instants:
        values = [
            f"{f'{each.name}: ' if len(series) > 1 else ''}{_with_unit(points[when], unit)}"
            for each, points in zip(series, known, strict=True)
            if when in points
        ]
        x = span.place(when)
        width = round(span.place(_after(when, interval)) - x, 1)
        yield _HINT.format(
            x=x, width=width, height=_HEIGHT, text=escaped("\n".join([time_text(when), *values]), keep="\n")
        )


def _cut(span: ShownPeriod, cut: datetime) -> Markup:
    if not span.begin < cut < span.end:
        return Markup()
    x = span.percent(cut)
    texts = []
    if x > 30:
        texts.append(_BESIDE.format(side="right", x=x, dx=-6, text="rolled up"))
    if x < 90:
        texts.append(_BESIDE.format(side="left", x=x, dx=6, text="live"))
    return _CUT.format(x=x, y=_TOP + _HEIGHT) + Markup().join(texts)


def _summary(
    series: Sequence[ChartSeries],
    drawn: Sequence[Sequence[tuple[datetime, float]]],
    span: ShownPeriod,
    cut: datetime | None,
    unit: str,
) -> str:
    """Say in words what the chart shows."""
    parts = [f"From {time_text(span.begin)} to {time_text(span.end)}."]
    if cut is not None and cut <= span.begin:
        parts.append("All of it is live.")
    elif cut is not None and cut < span.end:
        parts.append(f"Rolled up until {time_text(cut)}, live after that.")
    for each, points in zip(series, drawn, strict=True):
        if points:
            values = [value for _, value in points]
            lowest, highest, latest = (_with_unit(value, unit) for value in (min(values), max(values), values[-1]))
            parts.append(f"{each.name}: lowest {lowest}, highest {highest}, latest {latest}.")
    return " ".join(parts)


def _with_unit(value: float, unit: str) -> str:
    return f"{number_text(value)} {unit}".rstrip()


def _is_live(when: datetime, cut: datetime | None) -> bool:
    return cut is not None and when >= cut


def _after(when: datetime, length: timedelta) -> datetime:
    try:
        return when + length
    except OverflowError:  # the year 10,000
        return datetime.max.replace(tzinfo=UTC)
