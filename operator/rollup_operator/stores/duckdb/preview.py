"""What a job would do: reads its first page, discards it, and estimates the rest from it. Called in a worker."""

import math
import time
from dataclasses import replace
from typing import Any

from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.documents import Layout, layout_of
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import CsvFound, Preview, Source
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.source import judging
from rollup_operator.stores.duckdb.source.reading import Range, Reading
from rollup_operator.stores.duckdb.statements import sql
from rollup_operator.stores.duckdb.target.export import columns_of, document_of

_WRITING = 1.0
"""Seconds that writing and exporting take per second of reading, as runs show."""


def preview(lane: Lane, config: JobConfig, span: Span, documents: int, page_seconds: float) -> Preview:
    """Read the first page of the span. Raises the errors of a source."""
    # A page of a source without order is not worth summarising all of it.
    reading = replace(Reading.begin(lane, config, span), spread=0.0)
    reading.pace(page_seconds, None)
    began = time.monotonic()
    try:
        page = reading.next(lane, span.start_ms, lambda start, end: None)
        took = time.monotonic() - began
        found = Preview((), reading.source.rows, 0, 0, 0.0)
        notes = list(reading.notes)
        if page is not None:
            layout = layout_of(config.job_id, config.spec)
            found = _reckon(reading.source, page, _documents(lane, layout, page, documents), took, page_seconds)
            notes += _rounded(lane, reading, page)
        types = {name: reading.types[name] for name in judging.named(config.spec)}
        csv = [CsvFound(d.delimiter, d.header, d.types, d.time_format) for d in reading.found.dialects]
        return replace(found, columns=types, csv=csv, notes=notes)
    finally:
        reading.drop_all(lane)


def _rounded(lane: Lane, reading: Reading, page: Range) -> list[str]:
    """Say which numbers of the page a DOUBLE, as which documents have all metrics, does not hold to the last digit."""
    long = [c for c in reading.plan.aggregates if not c.exact]
    if not long:
        return []
    beyond = ", ".join(f"coalesce(max(abs({sql.name(c.name)})) >= {2**53}, false)" for c in long)
    (found,) = lane.execute(f"SELECT {beyond} FROM ({page.select})")
    names = [c.name for c, is_beyond in zip(long, found, strict=True) if is_beyond]
    if not names:
        return []
    return [
        f"{', '.join(names)}: there are numbers from {2**53} on, and documents have metrics as DOUBLE: they are "
        "computed exactly and then rounded to 53 bits"
    ]


def _reckon(
    source: Source, page: Range, documents: list[tuple[str, dict[str, Any]]], took: float, page_seconds: float
) -> Preview:
    times = max(1.0, source.rows / max(1, page.rows))
    buckets = page.buckets if times == 1 else min(source.rows, round(page.buckets * times))
    reading = took * times
    # A page has a bucket at least, however long a bucket takes.
    pages = 1 if times == 1 else min(max(2, math.ceil(reading / page_seconds)), max(1, buckets))
    return Preview(documents, source.rows, buckets, pages, reading * (1 + _WRITING))


def _documents(lane: Lane, layout: Layout, page: Range, limit: int) -> list[tuple[str, dict[str, Any]]]:
    columns = ", ".join(expression for _, expression in columns_of(layout))
    rows = lane.execute(f"SELECT {columns} FROM ({page.select}) ORDER BY ALL NULLS FIRST LIMIT {limit}")
    return [document_of(layout, row) for row in rows]
