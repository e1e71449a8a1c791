"""How many of a query's optional clauses have to be met: Elasticsearch's `minimum_should_match`. Pure."""

from typing import Final

_LONGEST: Final = 256


def at_least(clauses: int, given: str) -> int:
    """Return how many of `clauses` are needed: `2`, `-1`, `75%`, `-25%`, `2<-25% 9<-3`. Raises ValueError."""
    text = given.strip()
    if len(text) > _LONGEST:
        raise ValueError(f"[minimum_should_match] has at most [{_LONGEST}] characters")
    if "<" in text:
        needed = clauses
        for part in text.replace(" <", "<").replace("< ", "<").split():
            bound, share, *_ = (*part.split("<"), "")
            if clauses <= _whole(bound):
                return needed
            needed = at_least(clauses, share)
        return needed
    if text.endswith("%"):
        percent = _whole(text[:-1])
        # Cut off towards zero, as Java does.
        part_of = int(clauses * percent / 100)
        needed = clauses + part_of if percent < 0 else part_of
    else:
        needed = _whole(text)
        needed = clauses + needed if needed < 0 else needed
    return max(needed, 0)


def _whole(text: str) -> int:
    digits = text.strip().removeprefix("-").removeprefix("+")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 9:
        raise ValueError(f'For input string: "{text}"')
    return int(text)
