"""What the demo prints: steps with the time that has passed, commands as a user would type them, tables."""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rollup_demo.check import Reconciliation

RESULTS = ".local/data/.rollup-operator/default/results"
BEARER = "Authorization: Bearer $ROLLUP_TOKEN"
"""The header that says who calls."""

_PAGE = ("the page in a browser, without a login", "kubectl rollup ui")

_LOG = ("what the operator says", "tail -f .local/operator.log")
_CALL = f'curl -sS -H "{BEARER}" $ROLLUP_URL/_rollup/job'
_STOP_CALL = (
    f'curl -sS -XPOST -H "{BEARER}" "$ROLLUP_URL/_rollup/job/{{job}}/_stop?wait_for_completion=true&timeout=10s"'
)

_HINTS = (
    _PAGE,
    ("run the flights now, and see the progress", "kubectl rollup run flights --wait"),
    (
        "look at the data, what is rolled up and what is not yet, as one",
        "kubectl rollup query flights --interval 1M --metric avg:dep_delay --where origin:JFK -o chart",
    ),
    ("start the long backfill", "kubectl rollup start positions"),
    ("have it run now, and see the progress; Ctrl-C ends only the waiting", "kubectl rollup run positions --wait"),
    ("both jobs, and each change of them", "kubectl rollup get --watch"),
    ("stop the backfill, and know when it is quiet", "kubectl rollup stop positions --wait"),
    ("why it is as it is", "kubectl rollup explain positions"),
    ("the same stop by Elasticsearch's API", _STOP_CALL.format(job="positions")),
    ("a job as Elasticsearch shows it", f"{_CALL}/positions"),
    (
        "the result of the flights, a Parquet file, as Elasticsearch documents",
        f".venv/bin/rollup-operator export {RESULTS}/flights-hourly/flights.parquet | head",
    ),
    _LOG,
)

_NODE_HINTS = (
    _PAGE,
    ("run the flights now, and see the progress", "kubectl rollup run flights --wait"),
    (
        "look at the data, what is rolled up and what is not yet, as one",
        "kubectl rollup query flights --interval 1M --metric avg:dep_delay --where origin:JFK -o chart",
    ),
    ("the job, and each change of it", "kubectl rollup get --watch"),
    ("stop it, and know when it is quiet", "kubectl rollup stop flights --wait"),
    ("why it is as it is", "kubectl rollup explain flights"),
    ("the same stop by Elasticsearch's API", _STOP_CALL.format(job="flights")),
    ("the job as Elasticsearch shows it", f"{_CALL}/flights"),
    ("some of its documents, after a run", "curl -sS '{node}/flights-hourly/_search?size=3&pretty'"),
    _LOG,
    (
        "remove what stays in the node after `make down`",
        "curl -sS -XDELETE '{node}/flights,flights-hourly,rollup-operator-claims-1'",
    ),
)


class Teller:
    """Writes to standard output, failures to standard error. Times are seconds since it was made."""

    def __init__(self, steps: int) -> None:
        """Colours only on a terminal; a fixed width elsewhere, so that logs look the same everywhere."""
        width = None if sys.stdout.isatty() else 110
        self._console = Console(highlight=False, width=width)
        self._errors = Console(stderr=True, highlight=False, width=width)
        self._began = time.monotonic()
        self._step, self._steps = 0, steps

    def step(self, text: str) -> None:
        """Announce the next step."""
        self._step += 1
        elapsed = f"{time.monotonic() - self._began:6.1f} s"
        self._console.print(f"\n[bold cyan]{self._step}/{self._steps}[/] [dim]{elapsed}[/]  [bold]{escape(text)}[/]")

    def say(self, text: str) -> None:
        """Tell what happened, in a line or so."""
        self._console.print(f"             {escape(text)}", soft_wrap=True)

    def command(self, text: str) -> None:
        """Show a command that does what was just done."""
        self._console.print(f"             [green]$[/] {escape(text)}", soft_wrap=True)

    def block(self, text: str) -> None:
        """Show the output of a command as it is."""
        for line in text.splitlines():
            self._console.print(f"               {escape(line)}", soft_wrap=True)

    def fail(self, text: str) -> None:
        """Say what went wrong."""
        self._errors.print(f"\n[bold red]error:[/] {escape(text)}", soft_wrap=True)

    def done(self, text: str) -> None:
        """Say the last word."""
        self._console.print(f"\n[bold green]{escape(text)}[/]  ({time.monotonic() - self._began:.1f} s in all)\n")

    def hints(self, url: str, node: str | None) -> None:
        """Say what to try with what `make up` has started, on the embedded store or on a node at a URL."""
        self._console.print("\n[bold]It stays until `make down`. To use it in this shell:[/]")
        self._console.print("  source .local/env")
        self._console.print(f"\n[bold]In a browser:[/] {escape(url)}/ui/ shows the jobs; log in with $ROLLUP_TOKEN")
        self._console.print(f"\n[bold]Then, for instance[/] (ROLLUP_URL is {escape(url)}):")
        lines = _HINTS if node is None else [(comment, text.format(node=node)) for comment, text in _NODE_HINTS]
        for comment, command in lines:
            self._console.print(f"  [dim]# {escape(comment)}[/]\n  {escape(command)}", soft_wrap=True)

    def documents(self, title: str, metric: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Show some documents of a result."""
        table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
        for name in ("hour (UTC)", "carrier", "origin"):
            table.add_column(name)
        for name in ("flights", f"{metric} min", "avg", "max"):
            table.add_column(name, justify="right")
        for at, carrier, origin, count, low, mean, high in rows:
            table.add_row(f"{at:%Y-%m-%d %H:%M}", carrier, origin, str(count), f"{low:g}", f"{mean:.1f}", f"{high:g}")
        self._console.print(table)

    def months(
        self, metric: str, found: Sequence[tuple[int, int, float]], direct: Sequence[tuple[int, int, float]], end: int
    ) -> None:
        """Show the months of a search beside those of the direct query; `end`: up to where they are rolled up."""
        table = Table(title="One search, rolled up and live", box=box.SIMPLE_HEAD, title_justify="left")
        table.add_column("month (UTC)")
        for name in ("rows", f"{metric} avg", "direct query: rows", "avg"):
            table.add_column(name, justify="right")
        table.add_column("")
        following = [key for key, *_ in found[1:]] + [end + 1]
        for (key, count, mean), (_, rows, average), next_key in zip(found, direct, following, strict=False):
            data = "rolled up" if next_key <= end else "live" if key >= end else "both"
            month = f"{datetime.fromtimestamp(key / 1000, UTC):%Y-%m}"
            table.add_row(month, f"{count:,}", f"{mean:.6f}", f"{rows:,}", f"{average:.6f}", data)
        self._console.print(table)

    def reconciliation(self, title: str, found: Reconciliation) -> None:
        """Show every number next to that of the direct query."""
        table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
        table.add_column("what")
        table.add_column("rolled up", justify="right")
        table.add_column("direct query", justify="right")
        table.add_column("")
        for check in found.checks:
            verdict = "[green]equal[/]" if check.equal else "[bold red]DIFFERS[/]"
            table.add_row(check.what, _figure(check.rolled_up), _figure(check.direct), verdict)
        self._console.print(table)


def _figure(value: Any) -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.4f}"
    return f"{int(value):,}" if isinstance(value, int | float) else str(value)
