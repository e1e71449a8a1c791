"""What a job would do: reads its first page, discards it, and estimates the rest from it."""

import math
from collections.abc import Mapping
from dataclasses import replace

from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.base import Page, Preview, Source
from rollup_operator.stores.opensearch import replication
from rollup_operator.stores.opensearch.replication import Copies
from rollup_operator.stores.opensearch.source import seen, sources
from rollup_operator.stores.opensearch.source.pages import Pages
from rollup_operator.stores.opensearch.source.sources import EXACT
from rollup_operator.stores.opensearch.target.encoder import Batch
from rollup_operator.stores.opensearch.transport.client import OPAQUE_ID, Cluster

_WRITING = 0.9
"""The time of writing as a fraction of that of reading, as runs show."""

_ANY_EPOCH = 1
"""No document is written, so it does not matter of which epoch they would be."""


async def preview(
    cluster: Cluster, config: JobConfig, span: Span, documents: int, *, may_copy_segments: bool = True
) -> Preview:
    """Read the first page of the span. `may_copy_segments`: the cluster knows `index.replication.type`.

    Raises what `Session.describe` and `Session.read` raise.
    """
    fields = await sources.check(cluster, config, opaque_id=OPAQUE_ID)
    if span.empty:
        return Preview((), 0, 0, 0, 0.0)
    copies, unknown = replication.ANY, None
    if may_copy_segments:
        copies, unknown = await seen.complete_copies(cluster, config.spec.index_pattern, opaque_id=OPAQUE_ID)
    source = await sources.measure(
        cluster,
        config,
        start_ms=span.start_ms,
        bound_ms=span.end_ms,
        opaque_id=OPAQUE_ID,
        fields=fields,
        copies=copies,
    )
    notes = await _notes(cluster, config, span, fields, source, copies)
    if unknown is not None:
        notes.append(unknown)
    pages = Pages(
        cluster,
        config,
        epoch=_ANY_EPOCH,
        opaque_id=OPAQUE_ID,
        first=span.start_ms,
        bound_ms=span.end_ms,
        fields=fields,
        several=source.several,
        source=source,
        copies=copies,
    )
    try:
        page = await pages.next(None)
    finally:
        await pages.close()
    return replace(_reckon(source, page, documents), notes=tuple(notes))


async def _notes(
    cluster: Cluster,
    config: JobConfig,
    span: Span,
    fields: Mapping[str, SourceField],
    source: Source,
    copies: Copies,
) -> list[str]:
    notes = []
    if closed := await seen.closed(cluster, config.spec.index_pattern, opaque_id=OPAQUE_ID):
        notes.append(closed)
    if large := await sources.too_large(cluster, config, span, fields, copies):
        notes.append(
            f"{', '.join(map(repr, large))}: there are whole numbers beyond {EXACT} (2^53). Documents keep sums, "
            "minima and maxima as doubles, as the cluster adds them up: they are rounded to 15 to 17 digits"
        )
    if scripted := sorted(source.several & {*sources.countable(config.spec, fields)}):
        notes.append(
            f"{', '.join(map(repr, scripted))}: documents have several values. A document counts once in each of its "
            "buckets, which takes a script, and longer"
        )
    if (date := config.spec.groups.date_histogram.field) in source.several:
        notes.append(f"{date!r}: documents have several times. A document counts once for each, also within one bucket")
    return notes


def _reckon(source: Source, page: Page, documents: int) -> Preview:
    if not isinstance(page.handle, Batch):
        return Preview((), source.rows, 0, 0, 0.0)
    times = 1.0 if page.exhausted else max(1.0, source.rows / max(1, page.rows))
    batch = page.handle
    shown = [(batch.id(i), batch.source(i)) for i in range(min(documents, len(batch)))]
    buckets = min(source.rows, round(page.buckets * times))
    pages = min(math.ceil(times), max(1, buckets))
    return Preview(shown, source.rows, buckets, pages, page.took_s * times * (1 + _WRITING))
