"""What a job would do: its first page is read and thrown away, the rest is reckoned from that."""

import math

from rollup_operator.stores.base import JobConfig, Page, Preview, Source, Span
from rollup_operator.stores.opensearch import sources
from rollup_operator.stores.opensearch.client import OPAQUE_ID, Cluster
from rollup_operator.stores.opensearch.encoder import Batch
from rollup_operator.stores.opensearch.pages import Pages

_WRITING = 0.9
"""What writing takes on top of reading, as a part of it: what runs show."""

_ANY_EPOCH = 1
"""No document is written, so it does not matter of which epoch they would be."""


async def preview(cluster: Cluster, config: JobConfig, span: Span, documents: int) -> Preview:
    """Read the first page of the span. Raises what `Session.describe` and `Session.read` raise."""
    fields = await sources.check(cluster, config, opaque_id=OPAQUE_ID)
    if span.empty:
        return Preview((), 0, 0, 0, 0.0)
    source = await sources.measure(cluster, config, start_ms=span.start_ms, bound_ms=span.end_ms, opaque_id=OPAQUE_ID)
    pages = Pages(
        cluster,
        config,
        epoch=_ANY_EPOCH,
        opaque_id=OPAQUE_ID,
        first=span.start_ms,
        bound_ms=span.end_ms,
        fields=fields,
        source=source,
    )
    try:
        page = await pages.next(None)
    finally:
        await pages.close()
    return _reckon(source, page, documents)


def _reckon(source: Source, page: Page, documents: int) -> Preview:
    if not isinstance(page.handle, Batch):
        return Preview((), source.rows, 0, 0, 0.0)
    times = 1.0 if page.exhausted else max(1.0, source.rows / max(1, page.rows))
    batch = page.handle
    shown = [(batch.id(i), batch.source(i)) for i in range(min(documents, len(batch)))]
    buckets = min(source.rows, round(page.buckets * times))
    return Preview(shown, source.rows, buckets, math.ceil(times), page.took_s * times * (1 + _WRITING))
