"""Memory that this process has freed, or has no use for now, and gives back to the system.

Python's own allocator takes memory by the MiB, and gives a MiB back once nothing in it is in use. Ten thousand calls
that wait fill hundreds of them, and in each of these is something small that lasts, as the newest view of a job. The C
library gives memory back by pages of 4 KiB, but takes twice as long for a small object. So it serves small objects only
while there are very many calls: `serve_by_pages`. What lasts of that time would keep a page for each object, since
what was beside it has gone: Python's own allocator serves what is known to last, `lasting`.

Both work with glibc alone. Elsewhere nothing changes, nor where PYTHONMALLOC says what serves small objects.
"""

import ctypes
import mmap
import os
import sysconfig
from collections.abc import Iterator
from contextlib import ContextDecorator, suppress
from functools import cache
from types import TracebackType
from typing import ClassVar, NamedTuple

_FROM_LIBRARY = 0
"""Python's domain of memory that the C library serves always."""

_SMALL = 1, 2
"""The domains of small objects, and of what belongs to them."""


LARGE_CODE = 2**24
"""Bytes. Other libraries have less code, and more of it is always in use."""


_FREE_FLOATS = 100
"""How many freed floats Python keeps. Of tuples it keeps thousands: what lasts is better made of other things."""


class _Allocator(ctypes.Structure):
    """Python's `PyMemAllocatorEx`."""

    _fields_: ClassVar = [(name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")]


class _Found(NamedTuple):
    """What served a domain at first, and what serves it by pages."""

    domain: int
    own: _Allocator
    by_pages: _Allocator


def serve_by_pages(wanted: bool) -> bool:
    """From now on, have the C library serve small objects, or Python's own allocator. Returns whether the former does.

    An object that the other one has served may be resized and freed all the same: Python's allocator knows its own, and
    hands all else on to the C library, as it has to for large objects.
    """
    _Lasting.apart = _serve(wanted)
    return _Lasting.apart


def _serve(by_pages: bool) -> bool:
    served = False
    for found in _found():
        if _allocator_of(found.domain).context is None:  # else something has come between, as a debugger of memory
            served = by_pages
            new = found.by_pages if by_pages else found.own
            ctypes.pythonapi.PyMem_SetAllocator(found.domain, ctypes.byref(new))
    return served


class _Lasting(ContextDecorator):
    """See `lasting`."""

    apart = False
    """Whether the C library serves all other small objects."""
    _depth = 0
    _floats: ClassVar[list[float]] = []
    """All that Python keeps for the next ones to be made, wherever in memory they are."""

    def __enter__(self) -> None:
        if _Lasting.apart and _Lasting._depth == 0:
            _serve(by_pages=False)
            _Lasting._floats = [float(number) for number in range(_FREE_FLOATS)]
        _Lasting._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _Lasting._depth -= 1
        if _Lasting._depth == 0:
            _Lasting._floats = []
            if _Lasting.apart:
                _serve(by_pages=True)


lasting = _Lasting()
"""Surrounds what makes small objects that outlive many calls. In the event loop's thread, and without an `await`."""


def give_back() -> None:
    """Return freed memory to the system, wherever in the heap it lies; glibc itself does so only at the heap's end."""
    if _has_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def unmap_code() -> None:
    """Leave the code of large libraries to the system's cache of files, which has it for as long as there is room.

    What is called is mapped again, in a few milliseconds.
    """
    if _has_glibc():
        for begin, end in _large_code():
            ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


def _large_code() -> Iterator[tuple[int, int]]:
    """Yield from where to where the code of large libraries is mapped: of DuckDB's, some fifty MiB."""
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as mappings:
        for mapping in mappings:
            addresses, rights, _, _, file, *_ = mapping.split(maxsplit=5)
            if rights == "r-xp" and file != "0":  # never written to; what has no file could not be read again
                begin, end = (int(address, 16) for address in addresses.split("-"))
                if end - begin >= LARGE_CODE:
                    yield begin, end


@cache
def _found() -> tuple[_Found, ...]:
    """Return all domains that may change; none: nothing may."""
    if not _has_glibc() or "PYTHONMALLOC" in os.environ:
        return ()
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return ()  # mimalloc serves objects there, and takes each for its own
    library = _allocator_of(_FROM_LIBRARY)
    own = {domain: _allocator_of(domain) for domain in _SMALL}
    if any(one.context is not None for one in (library, *own.values())):
        return ()
    return tuple(
        _Found(domain, one, _Allocator(None, library.malloc, library.calloc, one.realloc, one.free))
        for domain, one in own.items()
    )


def _has_glibc() -> bool:
    return hasattr(ctypes.CDLL(None), "malloc_trim")


def _allocator_of(domain: int) -> _Allocator:
    found = _Allocator()
    ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(found))
    return found
