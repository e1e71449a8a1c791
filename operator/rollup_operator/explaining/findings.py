"""What a verification has found, in words, and what of it a run can repair. Pure: reads answers of the verify call."""

from collections.abc import Mapping
from typing import Any

from rollup_operator.model.counts import counted
from rollup_operator.model.finding_words import KINDS, wrong_of
from rollup_operator.model.run_request import Stretch, fewer
from rollup_operator.model.time_values import parse_instant

FIELDS = 3
"""Numbers of one finding that are written."""


def to_repair(found: Mapping[str, Any]) -> list[Stretch]:
    """Return the stretches with what a run can repair: all but what the source has lost."""
    days = [day for day in found["by_day"] if any(day[kind] for kind in KINDS if kind != "extra")]
    return fewer([(parse_instant(day["gte"], "gte"), parse_instant(day["lt"], "lt")) for day in days])


def progress_of(progress: Mapping[str, Any]) -> tuple[str, float | None]:
    """Return the line that shows how far a verification is, and how much is done in per cent."""
    parts = [progress["doing"]]
    if progress["buckets"]:
        parts.append(counted(progress["buckets"], "bucket"))
    if progress["findings"]:
        parts.append(counted(progress["findings"], "finding"))
    return "  ".join(parts), progress["percent"]


def described(example: Mapping[str, Any]) -> str:
    """Say what is wrong with a bucket."""
    time, *others = example["key"].values()
    names = [name.rpartition(".")[0] for name in list(example["key"])[1:]]
    bucket = " ".join([time, *(f"{name}={value_of(value)}" for name, value in zip(names, others, strict=True))])
    numbers = [
        f"{field['field'].removesuffix('.value')} is {number(field['stored'])}, the source gives "
        f"{number(field['recomputed'])}"
        for field in example["fields"][:FIELDS]
    ]
    more = len(example["fields"]) - FIELDS
    if more > 0:
        numbers.append(f"and {counted(more, 'more number')}")
    if example["kind"] == "duplicate":
        numbers.append(the_right_one(example))
    return f"{example['kind']}: {bucket}: {'; '.join(numbers)}"


def the_right_one(example: Mapping[str, Any]) -> str:
    """Say which of a bucket's documents is its own."""
    older = f" or, if none has that, {example['older_id']}" if "older_id" in example else ""
    return f"the right one has the _id {example['_id']}{older}"


def verdict(found: Mapping[str, Any]) -> str:
    """Say in one sentence what was found."""
    bounds, buckets, days = found["range"], found["buckets"], found["days"]
    if bounds["gte"] is None:
        until = found["rolled_up_to"]
        return "nothing of that time is rolled up" if until else "nothing is rolled up yet"
    stretch = f"from {bounds['gte']} to {bounds['lt']}"
    if wrong := wrong_of(buckets):
        return f"of {counted(buckets['compared'], 'bucket')} compared, {wrong} ({stretch})"
    if not days["compared"]:
        return f"the counts of {counted(days['total'], 'day')} are equal ({stretch})"
    return f"{counted(buckets['compared'], 'bucket')} of {counted(days['compared'], 'day')} are equal ({stretch})"


def remarks(found: Mapping[str, Any], how: str) -> list[str]:
    """Return what to know of an answer. `how` says what compares every bucket."""
    days, said = found["days"], []
    if not found["full"] and days["compared"] < days["total"]:
        left = days["total"] - days["compared"]
        said.append(
            f"of {counted(left, 'day')} only the number of rows was compared, which is equal: {how} compares every "
            "bucket"
        )
    if found["buckets"]["extra"]:
        said.append(
            "extra: the source has fewer rows now than were rolled up, or none. What is rolled up is all that is left "
            "of them"
        )
    return said


def next_step(found: Mapping[str, Any], repair: str, *, repaired: bool) -> str:
    """Say what to do about findings; empty: nothing. `repair` says what makes a run repair them.

    `repaired`: a run was to repair them already.
    """
    if not to_repair(found):
        return ""
    if not repaired:
        return f"a run can repair this: {repair}"
    if not any(found["buckets"][kind] for kind in ("differs", "missing")):
        return "a run removes no documents of a cluster: delete those with another _id than the one shown"
    return f"the source may have changed meanwhile: {repair}. If it stays, find out who else writes to the rollup index"


def number(value: Any) -> str:
    """Write a number of a bucket."""
    return "none" if value is None else value_of(value)


def value_of(value: Any) -> str:
    """Write the value of a group."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return "missing" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)
