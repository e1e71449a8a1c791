"""Random rows of a source and jobs that roll them up, each made out of one number."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.model.times import rfc3339_ms
from support.rounding import DAY, HOUR, MINUTE, ms

Row = dict[str, Any]

TIME = "ts"
FIELDS = {
    TIME: "date",
    "carrier": "keyword",
    "origin": "keyword",
    "code": "long",
    "size": "long",
    "distance": "double",
    "delay": "double",
    "price": "double",
}
CARRIERS = ("AA", "B6", "DL", "UA", "aa")
ORIGINS = ("JFK", "New York", "a*c", "", "x:y")
BEGINS = ("2024-03-29T00:00", "2024-10-25T00:00", "2023-12-30T12:00", "2024-04-05T00:00")
"""Two days before the clocks of Berlin change, twice, a turn of a year, and two days before those of Lord Howe do."""
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "+02:00", "Australia/Lord_Howe")
KINDS = ("min", "max", "sum", "avg", "value_count")
PHASES = ("before", "part", "stopped", "during", "after", "deleted")
"""Of a job: not begun, run in the middle of the time, stopped in a run, running, complete, and its raw data deleted."""


@dataclass(frozen=True)
class World:
    """Rows of a source, and jobs."""

    begin: int
    days: int
    rows: Sequence[Row]
    jobs: Sequence[Mapping[str, Any]]
    """Changes for `spec`."""
    phases: Sequence[str]
    """One for each job."""
    middle: int
    """Up to where a job has rolled up that is in the phase `part`."""
    late: Sequence[Row] = ()
    """What comes when the jobs are in their phases. Those that look back run once more then, if they were complete."""
    many: bool = False
    """Whether fields of groups have several values. Then nothing is rolled up, since such rows count in each bucket."""


class Chance(random.Random):
    """Chance, with words for it."""

    def often(self, share: float) -> bool:
        return self.random() < share

    def some(self, of: Sequence[Any], least: int = 0, most: int | None = None) -> list[Any]:
        return self.sample(list(of), self.randint(least, min(len(of), most or len(of))))


def world(chance: Chance, *, small: bool = False, phase: str | None = None) -> World:
    """Make one up. `small`: of few rows and days, so that answers are short. `phase`: that of the first job."""
    begin, days = ms(chance.choice(BEGINS)), chance.randint(1, 2 if small else 6)
    jobs = [_job(chance, begin, days) for _ in range(chance.choice([1, 1, 2]))]
    middle = begin + chance.randrange(days * DAY)
    many = chance.often(0.1)
    phases = ["before" if many else chance.choice(PHASES) for _ in jobs]
    if phase is not None and not many:
        phases[0] = phase
    of_values = chance.choice([0.0, 0.0, 0.3])
    count = 0 if chance.often(0.05) else chance.choice([5, 20, 40, 60] if small else [5, 40, 100, 200])
    rows = [_row(chance, begin, days, of_values, many) for _ in range(count)]
    late: list[Row] = []
    if "during" not in phases and chance.often(0.3):
        late = [_row(chance, begin, days, of_values, many) for _ in range(chance.choice([1, 20]))]
    return World(begin, days, rows, jobs, phases, middle, late, many)


def _row(chance: Chance, begin: int, days: int, of_values: float, many: bool) -> Row:
    """`of_values`: how often a number has several values. `many`: all other fields but the time have, too."""
    step = chance.choice([1, MINUTE, HOUR, HOUR])
    made: dict[str, Callable[[], Any]] = {
        TIME: lambda: begin + chance.randrange(days * DAY) // step * step,
        "carrier": lambda: chance.choice(CARRIERS),
        "origin": lambda: chance.choice(ORIGINS),
        "code": lambda: chance.randint(-1, 3),
        "size": lambda: chance.randint(-30, 60),
        "distance": lambda: chance.randint(-10, 20) * 25.0,
        # Halves and quarters add up without an error, in any order; the other numbers do not.
        "delay": lambda: chance.randint(-200, 400) / 4,
        "price": lambda: chance.uniform(-1000, 1000),
    }
    gap = {TIME: 0.05}
    found = {name: make() for name, make in made.items() if not chance.often(gap.get(name, 0.12))}
    for name in found:
        if name != TIME and (many or name in ("delay", "price")) and chance.often(of_values):
            found[name] = [made[name]() for _ in range(chance.randint(1, 3))]
    return found


def values(rows: Sequence[Row], field: str) -> Iterator[Any]:
    """Yield all values that rows have of a field."""
    for row in rows:
        found = row.get(field)
        if found is not None:
            yield from found if isinstance(found, list) else [found]


def lists(of: World) -> set[str]:
    """Return the fields of which a row has several values."""
    return {field for row in (*of.rows, *of.late) for field, value in row.items() if isinstance(value, list)}


def _job(chance: Chance, begin: int, days: int) -> dict[str, Any]:
    interval: dict[str, Any]
    if chance.often(0.75):
        interval = {"fixedInterval": chance.choice(["30m", "1h", "1h", "1h", "2h", "6h", "1d"])}
    else:
        interval = {"calendarInterval": chance.choice(["1h", "1d", "1w", "1M"])}
    zone = chance.choice(ZONES) if chance.often(0.4) else "UTC"
    groups: dict[str, Any] = {"dateHistogram": {"field": TIME, "timeZone": zone, **interval}}
    if terms := chance.some(["carrier", "origin", "code"], 0 if chance.often(0.2) else 2):
        groups["terms"] = {"fields": terms}
    if chance.often(0.7):
        groups["histogram"] = {"fields": chance.some(["size", "distance"], 1), "interval": chance.choice([10, 50])}
    metrics = [
        {"field": f, "metrics": list(KINDS) if chance.often(0.7) else chance.some(KINDS, 1)}
        for f in ("delay", "price")
        if chance.often(0.9)
    ]
    job = {"groups": groups, "metrics": metrics, "pageSize": chance.choice([3, 10, 1000])}
    if chance.often(0.15):
        job["start"] = rfc3339_ms((begin + chance.randrange(days * DAY)) // DAY * DAY)
    if chance.often(0.15):
        job["end"] = rfc3339_ms((begin + chance.randrange(days * DAY)) // DAY * DAY + 2 * DAY)
        if "start" in job and job["end"] <= job["start"]:
            del job["end"]
    if chance.often(0.3):
        job["lookback"] = "1000d"
    return job
