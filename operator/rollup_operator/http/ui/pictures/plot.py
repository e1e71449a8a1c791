"""What pictures over time share: the way from instants to places, the ticks below, and the legend."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from rollup_operator.http.ui.pictures.ticks import time_ticks

WIDTH = 1000
"""Width of the part that stretches, in units of its own."""
_TICK = Markup('<line class="tick" x1="{x}%" x2="{x}%" y1="{y}" y2="{below}"/>')
_LABEL = Markup('<text class="label {side}{rare}" x="{x}%" y="{y}">{text}</text>')
_ENTRY = Markup(
    '<li><svg class="swatch" width="12" height="12" aria-hidden="true"><rect class="{name}" {shape}/></svg> {text}</li>'
)
WHOLE = Markup('width="12" height="12"')
"""The shape of a swatch that is filled."""


@dataclass(frozen=True, slots=True)
class ShownPeriod:
    """The period that a picture shows."""

    begin: datetime
    end: datetime

    def place(self, when: datetime) -> float:
        """Return where an instant is, from 0 to WIDTH."""
        share = (when - self.begin) / (self.end - self.begin) if self.end > self.begin else 0.0
        return round(WIDTH * min(max(share, 0.0), 1.0), 1)

    def percent(self, when: datetime) -> float:
        """Return where an instant is, from 0 to 100."""
        return round(self.place(when) * 100 / WIDTH, 2)

    def axis(self, y: int) -> Markup:
        """Return the ticks and their texts below the height `y`; a narrow picture shows every other text."""
        return Markup().join(
            _TICK.format(x=self.percent(when), y=y, below=y + 5)
            + label(self.percent(when), y + 19, text, every_other=bool(number % 2))
            for number, (when, text) in enumerate(time_ticks(self.begin, self.end))
        )


def label(percent: float, y: int, text: str, *, every_other: bool = False) -> Markup:
    """Return a text centred at a place; near an edge it begins or ends there, so that nothing is cut off."""
    side = "left" if percent < 6 else "right" if percent > 94 else "middle"
    return _LABEL.format(side=side, rare=" every-other" if every_other else "", x=percent, y=y, text=text)


def legend(entries: Iterable[tuple[str, Markup, str]]) -> Markup:
    """Return a list of colours: the class, the shape and the text of each."""
    items = Markup().join(_ENTRY.format(name=name, shape=shape, text=text) for name, shape, text in entries)
    return Markup('<ul class="legend">{}</ul>').format(items)
