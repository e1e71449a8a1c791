"""Rows, and what conditions and groupings make of them, by hand: the same in every store."""

import asyncio
from collections.abc import Awaitable, Callable

from rollup_operator.indexer.run import Run
from rollup_operator.rollup.bounds import Bounds
from rollup_operator.stores.search import (
    EVERYTHING,
    NOTHING,
    All,
    AtLeast,
    Between,
    ByPredicate,
    ByTerms,
    ByTime,
    ByWidth,
    Exists,
    Grouping,
    Instant,
    Key,
    Level,
    Not,
    Number,
    OneOf,
    Predicate,
    Prefix,
    Row,
    Wildcard,
)
from support.embedded import Row as SourceRow
from support.embedded import spec
from support.rounding import HOUR

DATA: list[SourceRow] = [
    (0 * HOUR + 5, 1.0, "a", 5),
    (0 * HOUR + 6, 2.5, "a", 5),
    (0 * HOUR + 7, None, "b", -5),
    (1 * HOUR, -4.0, None, 12),
    (2 * HOUR, 8.0, "Ab", None),
    (5 * HOUR, 16.0, "b", 12),
    (5 * HOUR + 1, 32.0, "a*c", 25),
]
HOURS = ByTime("ts", tuple(Bounds.of(spec().groups.date_histogram).segments(0, 10 * HOUR)))
NUMBERS = tuple(Number(f, "value") for f in ("sum", "count", "min", "max"))  # type: ignore[arg-type]

CONDITIONS: list[tuple[Predicate, int]] = [
    (EVERYTHING, 7),
    (NOTHING, 0),
    (Exists("term"), 6),
    (Not(Exists("term")), 1),
    (OneOf("term", ("a", "b", "zz", "a\0b", "\ud800")), 4),
    (Not(OneOf("term", ("a", "b"))), 3),
    (OneOf("size", (5, 12.0, 2.5)), 4),
    (OneOf("ts", (Instant(HOUR),)), 1),
    (Between("ts", Instant(HOUR), Instant(5 * HOUR)), 2),
    (Between("ts", Instant(HOUR), Instant(5 * HOUR), includes_low=False, includes_high=True), 2),
    (Between("size", 5, 12), 2),
    (Between("size", 5, 12, includes_low=False, includes_high=True), 2),
    (Between("size", 4.5, 12.5), 4),
    (Between("size", None, 5), 1),
    (Between("size"), 6),
    (Between("size", float("-inf"), 1e15), 6),
    (Between("value", -4, 2.5, includes_high=True), 3),
    (Between("term", "a", "b"), 3),
    (Between("term", "A", "a", includes_high=True), 3),
    (Prefix("term", "a"), 3),
    (Prefix("term", "A", ignores_case=True), 4),
    (Wildcard("term", "a*"), 3),
    (Wildcard("term", "?"), 4),
    (Wildcard("term", r"a\*?"), 1),
    (Wildcard("term", "*B*", ignores_case=True), 3),
    (Wildcard("term", "a.c"), 0),
    (All((Exists("term"), Not(OneOf("term", ("a",))))), 4),
    (AtLeast(1, (OneOf("term", ("a",)), OneOf("size", (12,)))), 4),
    (AtLeast(2, (OneOf("term", ("b",)), OneOf("size", (12,)), Exists("value"))), 2),
    (AtLeast(3, (Exists("term"),)), 0),
    (AtLeast(0, ()), 7),
    (Not(AtLeast(1, (Prefix("term", "a"), Between("size", 10, None)))), 2),
]

GROUPINGS: list[tuple[Grouping, dict[Key, int]]] = [
    (ByTerms("term", "keyword", 10), {"a": 2, "b": 2, "Ab": 1, "a*c": 1}),
    (ByTerms("term", "keyword", 10, "{x}'"), {"a": 2, "b": 2, "Ab": 1, "a*c": 1, "{x}'": 1}),
    (ByTerms("size", "long", 10, 12), {5: 2, -5: 1, 12: 3, 25: 1}),
    (ByWidth("size", 10), {-10.0: 1, 0.0: 2, 10.0: 2, 20.0: 1}),
    (ByWidth("size", 2.5, 1.0, missing=0), {-6.5: 1, 3.5: 2, 11.0: 2, 23.5: 1, -1.5: 1}),
    (ByPredicate((OneOf("term", ("a",)), Exists("size"), NOTHING)), {0: 2, 1: 6}),
    (ByPredicate(()), {}),
    (HOURS, {0: 3, HOUR: 1, 2 * HOUR: 1, 5 * HOUR: 2}),
    (ByTime("ts", ()), {}),
]

NESTED = Level("h", HOURS, NUMBERS[:1], (Level("t", ByTerms("term", "keyword", 10), NUMBERS),))
NESTED_ROWS = {
    (): {(): Row(7, (55.5, 6, -4.0, 32.0))},
    ("h",): {
        (0,): Row(3, (3.5,)),
        (1 * HOUR,): Row(1, (-4.0,)),
        (2 * HOUR,): Row(1, (8.0,)),
        (5 * HOUR,): Row(2, (48.0,)),
    },
    ("h", "t"): {
        (0, "a"): Row(2, (3.5, 2, 1.0, 2.5)),
        (0, "b"): Row(1, (0, 0, None, None)),
        (2 * HOUR, "Ab"): Row(1, (8.0, 1, 8.0, 8.0)),
        (5 * HOUR, "b"): Row(1, (16.0, 1, 16.0, 16.0)),
        (5 * HOUR, "a*c"): Row(1, (32.0, 1, 32.0, 32.0)),
    },
}
"""The rows of each level of NESTED, and NUMBERS of all rows; no bucket is left out."""


async def halted_amid_late_rows(run: Run, look: Callable[[], Awaitable[object]]) -> None:
    """Look again and again while a run rewrites late rows, and halt it once it has rewritten some."""
    task = asyncio.ensure_future(run.index())
    while not task.done():
        await look()
        if run.progress.rewritten:
            run.halt()
    assert (await task).outcome == "Halted"
