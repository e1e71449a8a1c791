"""How far a run has come, and what is said of that."""

from rollup_operator.indexer.progress import Progress
from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.base import Page, Rewritten, Source


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def page(rows: int, time: int = 0, *, exhausted: bool = False) -> Page:
    return Page(1, rows, {"ts.date_histogram": time}, exhausted, 0.1)


def step(progress: Progress, clock: Clock, page: Page, seconds: float) -> None:
    clock.now += seconds
    progress.committed(page)


def test_nothing_is_done_before_it_is_known_what_is_due() -> None:
    progress = Progress()
    assert (progress.report().percent, progress.report().remaining_seconds) == (0, None)
    assert progress.describe() == "beginning"
    progress.expect(Source(1, 1000, 0, 999), Span(0, 1000))
    assert progress.describe() == "beginning (0 pages, 0 rows, 0 documents so far)"


def test_rows_tell_the_share_and_the_pace_the_rest() -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    progress.expect(Source(1, 1000, 0, 999), Span(0, 1000))
    step(progress, clock, page(100), 5.0)
    report = progress.report()
    assert (report.percent, report.remaining_seconds) == (10, 45)
    assert progress.describe() == "beginning (1 page, 100 rows, 1 document so far, 10 %, about 45s left)"


def test_the_pace_is_that_of_the_last_minute() -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    progress.expect(Source(1, 1000, 0, 999), Span(0, 1000))
    for _ in range(40):
        step(progress, clock, page(10), 10.0)
    for _ in range(7):
        step(progress, clock, page(50), 10.0)
    assert progress.percent == 75
    assert progress.remaining_s == 50


def test_time_tells_the_share_where_rows_are_not_counted() -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    progress.expect(Source(1, 0, 5_000), Span(0, 9_000))
    step(progress, clock, page(10, 6_000), 3.0)
    assert progress.percent == 25


def test_all_is_done_only_after_the_last_page() -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    progress.expect(Source(1, 100, 0, 99), Span(0, 100))
    step(progress, clock, page(130), 3.0)  # rows have come since they were counted
    assert progress.percent == 99
    step(progress, clock, page(1, exhausted=True), 1.0)
    report = progress.report()
    assert (report.percent, report.remaining_seconds) == (100, 0)


def test_no_estimate_is_made_from_next_to_nothing() -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    progress.expect(Source(1, 100, 0, 99), Span(0, 100))
    step(progress, clock, page(10), 0.5)
    report = progress.report()
    assert report.remaining_seconds is None


def test_the_summary_tells_of_late_rows_only_where_there_were_some() -> None:
    progress = Progress()
    assert progress.summary() == "0 pages, 0 rows, 0 documents"
    progress.looked_back(Rewritten(2, 0))
    progress.looked_back(Rewritten(1, 4))
    assert progress.summary() == (
        "0 pages, 0 rows, 0 documents; 3 documents rewritten after late rows; "
        "4 documents kept, since the source holds fewer rows for them now"
    )
