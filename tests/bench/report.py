"""The table for people: each figure beside the peer's, if one ran, and beside the goal. The reader judges."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bench.machine import NOISY

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One line: where the figure stands in a subject's result, and what DESIGN.md aims at."""

    what: str
    path: str
    unit: str = ""
    goal: str = ""


ROWS = (
    Row("stop, answer of the PATCH → stopped shown: p50", "stop.stop.p50", "ms", "≤ 1.15 x Go yardstick"),
    Row("  p95", "stop.stop.p95", "ms"),
    Row("  p99", "stop.stop.p99", "ms", "≤ 1.1 x Go yardstick"),
    Row("  max", "stop.stop.max", "ms"),
    Row("  floor: own change shown, p50", "stop.echo.p50", "ms"),
    Row("  floor: the PATCH itself, p50", "stop.patch.p50", "ms"),
    Row("  API writes per stop", "stop.writes_per_stop", "", "1"),
    Row("  events posted meanwhile, per stop", "stop.events_per_stop", "", "≤ 1"),
    Row("storm until the last is stopped (median)", "storm.storm_s", "s", "≤ 1.0 x Go (1,000), 1.2 x (10,000)"),
    Row("  its PATCHes alone", "storm.sent_s", "s"),
    Row("  one stop within it: p50", "storm.stop.p50", "ms"),
    Row("  p99", "storm.stop.p99", "ms"),
    Row("  API writes per stop", "storm.writes_per_stop", "", "1"),
    Row("  events posted meanwhile, per stop", "storm.events_per_stop", "", "≤ 1"),
    Row("endpoint, POST _stop and wait: p50", "endpoint.endpoint.p50", "ms"),
    Row("  p99", "endpoint.endpoint.p99", "ms"),
    Row("  bare, PATCH sent → stopped shown: p50", "endpoint.bare.p50", "ms"),
    Row("  p99", "endpoint.bare.p99", "ms"),
    Row("  endpoint over bare: p50", "endpoint.over.p50", "ms", "≤ 5"),
    Row("  p99", "endpoint.over.p99", "ms", "≤ 20"),
    Row("waiters at once", "waiters.waiters"),
    Row("  answered with 200", "waiters.answered"),
    Row("  asked before their job had stopped", "waiters.asked_before_the_stop"),
    Row("  answer after the job's stop: p50", "waiters.late.p50", "ms"),
    Row("  p99", "waiters.late.p99", "ms"),
    Row("  max", "waiters.late.max", "ms", "≤ 1000"),
    Row("  all waited after", "waiters.arrived_s", "s"),
    Row("  all answered after", "waiters.took_s", "s"),
    Row("  memory per waiter", "waiters.kib_per_waiter", "KiB"),
    Row("waits that timed out", "waits.waits"),
    Row("  memory before", "waits.before_mib", "MiB"),
    Row("  a minute after", "waits.at_rest_mib", "MiB"),
    Row("  grown by", "waits.grown_mib", "MiB", "≤ 20"),
    Row("cold start: all jobs Ready after", "cold.all_s", "s"),
    Row("  the first of them after", "cold.first_s", "s"),
    Row("  API requests", "cold.requests"),
    Row("  of these writes", "cold.writes"),
    Row("  and events", "cold.events"),
    Row("  memory then", "cold.rss_mib", "MiB"),
    Row("restart: serving after", "restart.serving_s", "s"),
    Row("  all jobs seen after", "restart.all_s", "s", "≤ 5 (10,000 jobs)"),
    Row("  writes to unchanged jobs", "restart.writes_beyond", "", "0"),
    Row("  events about unchanged jobs", "restart.events_beyond", "", "0"),
    Row("  memory then", "restart.rss_mib", "MiB"),
    Row("idle: API writes, events included", "memory.writes", "", "0"),
    Row("  CPU time", "memory.cpu_seconds", "s"),
    Row("  memory", "memory.rss_mib", "MiB", "≤ 150 (1,000 jobs), 350 (10,000)"),
    Row("  peak memory", "memory.peak_mib", "MiB"),
)


def table(result: Result) -> Table:
    """Lay the whole result out."""
    subjects = list(result["subjects"])
    compared = "peer" in subjects
    shown = Table(title=f"{result['jobs']:,} jobs", title_justify="left")
    shown.add_column("what")
    for name in [*subjects, *(["ratio"] if compared else [])]:
        shown.add_column(name, justify="right")
    shown.add_column("unit")
    shown.add_column("goal")
    for row in ROWS:
        figures = [find(result["subjects"][name], row.path) for name in subjects]
        if figures[0] is None:
            continue
        ratio = [_ratio(*figures)] if compared else []
        shown.add_row(row.what, *(_text(figure) for figure in figures), *ratio, row.unit, row.goal)
    for cells in (*_duckdb(result.get("duckdb")), *_search(result.get("search"))):
        padding = [""] * (len(subjects) - 1 + compared)
        shown.add_row(cells[0], cells[1], *padding, *cells[2:])
    return shown


def notes(result: Result) -> Iterator[str]:
    """Say which figures deserve no trust."""
    for name, phases in result["subjects"].items():
        for phase, measurement in phases.items():
            noise = measurement.get("noise_of_rounds") or [measurement.get("usage", {}).get("noise_cores", 0.0)]
            loud = [cores for cores in noise if cores >= NOISY]
            if loud:
                yield (
                    f"noisy: strangers used up to {max(loud):.2f} cores in {len(loud)} of {len(noise)} rounds of "
                    f"{phase} of {name}; repeat it on a calm machine"
                )
        failures = phases.get("waiters", {}).get("failures")
        if failures:
            yield f"waiters not answered with 200: {failures}"


def find(subject: Result, path: str) -> Any:
    """Return the figure at a dotted path, None where it was not measured."""
    at: Any = subject
    for step in path.split("."):
        at = at.get(step) if isinstance(at, Mapping) else None
    return at


def _duckdb(measured: Mapping[str, Any] | None) -> Iterator[tuple[str, str, str, str]]:
    for order, run in (measured or {}).items():
        yield f"DuckDB run, {run['rows']:,} rows {order}", _text(run["run_s"]), "s", ""
        yield "  over one direct statement", _text(run["ratio"]), "x", f"≤ {run['goal']}"
        yield "  pages", _text(run["pages"]), "", "≥ 10"


_SEARCH_ROWS = (
    Row("search, {rows:,} rows, 30 days by day and term: p50", "chart.ours.p50", "ms"),
    Row("  over the bare requests of its two parts", "chart.over_bare", "x", "≤ 1.3"),
    Row("  how much faster than over all rows", "chart.raw_over_ours", "x", "cluster, 10 M rows: ≥ 20"),
    Row("20 panels in one _msearch, the first of a process", "panels.cold_ms", "ms", "≤ 2000"),
    Row("  later: p50", "panels.ours.p50", "ms"),
    Row("  over the bare _msearch of their parts", "panels.over_bare", "x"),
    Row("stop in the middle of a run, nobody searches: p50", "beside.stop.quiet.p50", "ms"),
    Row("  p99", "beside.stop.quiet.p99", "ms"),
    Row("  20 clients search all rows: p50", "beside.stop.ours.p50", "ms", "≤ 100"),
    Row("  p99", "beside.stop.ours.p99", "ms", "≤ 500"),
    Row("  20 clients search the node itself: p50", "beside.stop.node.p50", "ms"),
    Row("  p99", "beside.stop.node.p99", "ms"),
    Row("run beside 20 clients that search, over quiet", "beside.run_over_quiet.ours", "x"),
    Row("  if they search the node itself", "beside.run_over_quiet.node", "x"),
    Row("  one of their searches meanwhile: p50", "beside.searches.ours.p50", "ms"),
)


def _search(measured: Mapping[str, Any] | None) -> Iterator[tuple[str, str, str, str]]:
    for store, figures in (measured or {}).items():
        for row in _SEARCH_ROWS:
            if (figure := find(figures, row.path)) is not None:
                what = row.what.format(rows=figures["rows"])
                yield what if what.startswith(" ") else f"{store}: {what}", _text(figure), row.unit, row.goal


def _ratio(ours: float | None, peers: float | None) -> str:
    return f"{ours / peers:.2f}" if ours is not None and peers else ""


_FORMATS: tuple[tuple[float, Callable[[float], str]], ...] = (
    (10.0, lambda figure: f"{figure:.2f}"),
    (100.0, lambda figure: f"{figure:.1f}"),
)


def _text(figure: float | None) -> str:
    if figure is None:
        return ""
    if isinstance(figure, int) or figure == int(figure):
        return f"{int(figure):,}"
    return next((form(figure) for limit, form in _FORMATS if abs(figure) < limit), f"{figure:,.0f}")
