"""How CSV files write dates and times, in the directives of strptime. Pure.

    03/04/2024   %d/%m/%Y: April 3        %m/%d/%Y: March 4
    03-04-24     %d-%m-%y, %m-%d-%y, %y-%m-%d

DuckDB takes the first of these that fits. Only a value such as 13/04/2024 shows which one is meant.
"""

import re
from collections.abc import Sequence

_DATE_PART = re.compile(r"%-?[dmyY]")
_CLOCK = re.compile(r"%-?[cfgHIMnpSTXzZ]")
_ISO_DATE = "%Y-%m-%d"
_ORDERS = (("d", "m", "y"), ("m", "d", "y"), ("y", "m", "d"))


def options(format_: str) -> dict[str, str]:
    """Return the options of read_csv and sniff_csv that have all dates and times read by a format alone."""
    has_clock = _CLOCK.search(format_) is not None
    return {"dateformat": _ISO_DATE if has_clock else format_, "timestampformat": format_}


def is_plain(format_: str | None) -> bool:
    """Whether nobody needs to be told of a format: none, or year, month and day in this order."""
    return format_ is None or format_.startswith("%Y")


def other_orders(format_: str) -> Sequence[str]:
    """Return the formats with day, month and year in other usual orders; none if the year shows the order."""
    parts = _DATE_PART.findall(format_)
    by_letter = {part[-1].lower(): part for part in parts}
    if is_plain(format_) or len(parts) != len(by_letter) or by_letter.keys() != {"d", "m", "y"}:
        return ()
    fixed = "%Y" in parts
    orders = (order for order in _ORDERS if not (fixed and order[0] == "y"))
    frame = _DATE_PART.sub("{}", format_.replace("{", "{{").replace("}", "}}"))
    found = (frame.format(*(by_letter[letter] for letter in order)) for order in orders)
    return [other for other in found if other != format_]
