"""How full the volume of the embedded stores is, as a scrape shows it.

A file system may hang, a network's above all. So it is asked in a thread, and a scrape waits for it a moment only.
"""

import asyncio
import math
import os
from pathlib import Path

PATIENCE = 0.5
"""Seconds that a scrape waits for the volume; it then shows what was last known."""


class Volume:
    """The volume of a folder. Its numbers are NaN while there is no such folder: no embedded store was used."""

    def __init__(self, folder: Path) -> None:
        self.size_bytes = self.available_bytes = math.nan
        self._folder = folder
        self._asking: asyncio.Future[tuple[float, float]] | None = None

    async def measure(self) -> None:
        """Ask the file system, unless it still owes an answer."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(asyncio.to_thread(_bytes, self._folder))
        asking = self._asking
        await asyncio.wait({asking}, timeout=PATIENCE)
        if asking.done():
            self.size_bytes, self.available_bytes = asking.result()


def _bytes(folder: Path) -> tuple[float, float]:
    try:
        found = os.statvfs(folder)
    except OSError:
        return math.nan, math.nan
    return float(found.f_frsize * found.f_blocks), float(found.f_frsize * found.f_bavail)
