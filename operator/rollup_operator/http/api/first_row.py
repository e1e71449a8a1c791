"""Where a source begins now: what is rolled up of the time before is all that is left of it."""

from rollup_operator.http.api.search import Scope, Searches
from rollup_operator.http.api.search_errors import asking
from rollup_operator.query.sources import Logical
from rollup_operator.stores.errors import SourceNotFound
from rollup_operator.stores.search import Exists, Fetch, Number


async def first_row(searches: Searches, scope: Scope, source: Logical) -> int | None:
    """Return the time of the first row that a source has, in epoch milliseconds; None: it has none.

    Raises ApiError, StoreTrouble.
    """
    async with searches.turn(scope, source):
        readable = await searches.readable(scope, source)
        if readable.live is None:
            return None
        date = readable.live.rows.spec.groups.date_histogram.field
        async with asking(source.store):
            fetch = Fetch(readable.live.rows, Exists(date), None, (Number("min", date),))
            try:
                [found] = await readable.store.search([fetch])
            except SourceNotFound:
                return None
    [value] = found[()].rows[()].numbers
    return None if value is None else int(value)
