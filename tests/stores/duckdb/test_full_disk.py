"""A volume that is full: stops and deletions end all the same, and the reason is named. On a real one, of tmpfs."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollup_operator.model.conditions import Reason
from support.embedded import Embedded, Row, config, spec
from support.rounding import HOUR, ms

START = ms("2024-03-01T00:00")
SIZE = 24 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Embedded]:
    place = str(tmp_path).encode()
    if _LIBC.mount(b"tmpfs", place, b"tmpfs", 0, f"size={SIZE}".encode()):
        pytest.skip(f"no volume can be mounted here: {os.strerror(ctypes.get_errno())}")
    try:
        yield Embedded(tmp_path, page_seconds=0.05)
    finally:
        _LIBC.umount2(place, 2)


def fill(embedded: Embedded) -> Path:
    """Leave no room at all."""
    path = embedded.root / "fill"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path


ROWS: list[Row] = [(START + i * HOUR // 50, float(i % 13), "ab"[i % 2], i % 40) for i in range(5000)]


async def test_a_run_that_finds_no_room_is_released_and_goes_on_when_there_is_some(embedded: Embedded) -> None:
    embedded.write("rows.parquet", ROWS)
    job = config(spec("rows.parquet"))
    await embedded.completed(config(spec("rows.parquet"), job_id="first"))
    path = fill(embedded)
    result = await embedded.run(job)
    assert result.outcome == "Failed"
    assert result.error is not None
    assert getattr(result.error, "reason", None) is Reason.DISK_FULL, result
    assert result.error.transient  # type: ignore[attr-defined]
    assert str(embedded.root) not in result.message
    assert await embedded.held() == []
    path.unlink()
    claim = await embedded.completed(job)
    assert claim.stats.documents_processed == len(ROWS)


@pytest.mark.parametrize("delete", [False, True])
async def test_a_job_is_settled_and_deleted_on_a_full_volume(embedded: Embedded, delete: bool) -> None:
    embedded.write("rows.parquet", ROWS)
    job = config(spec("rows.parquet"))
    await embedded.completed(job)
    path = fill(embedded)
    store = embedded.store()
    settled = await store.settle(job, "me", delete_documents=delete)
    assert settled.claim is not None
    assert (settled.claim.position is None) is delete
    assert embedded.export(job).exists() is not delete
    await store.close()
    path.unlink()
    await embedded.completed(job)
    assert embedded.export(job).exists()
