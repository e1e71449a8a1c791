"""A small picture of the last runs' documents, for a row of the list of jobs."""

from collections.abc import Sequence

from markupsafe import Markup

from rollup_operator.escaping import escaped

_WIDTH, _HEIGHT = 96, 20
_STEP = 4
"""Pixels from one bar to the next."""
_SPARK = Markup(
    '<svg class="spark" width="{width}" height="{height}" role="img" aria-label="{label}"><title>{label}</title>'
    '<path d="{d}"/></svg>'
)


def spark(values: Sequence[float], *, label: str) -> Markup:
    """Draw a bar for each value, the newest at the right; a value of 0 is a dot on the ground.

    The picture has room for the newest 24 and is empty without any. Negative values count as 0.
    """
    newest = [max(0.0, value) for value in values[-(_WIDTH // _STEP) :]]
    largest = max(newest, default=0.0) or 1.0
    first = _WIDTH - _STEP * len(newest) + _STEP // 2
    bars = (
        f"M{first + _STEP * at} {_HEIGHT}v-{1 + (_HEIGHT - 2) * value / largest:.1f}" for at, value in enumerate(newest)
    )
    return _SPARK.format(width=_WIDTH, height=_HEIGHT, label=escaped(label), d="".join(bars))
