"""Somebody who changes folders for links, and back, as fast as it goes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SWAP = """
import ctypes, os, sys
call = ctypes.CDLL(None, use_errno=True).renameat2
one, other = map(os.fsencode, sys.argv[1:])
swap = lambda: call(-100, one, -100, other, 2)  # RENAME_EXCHANGE
if swap():
    sys.exit(os.strerror(ctypes.get_errno()))
print("swapping", flush=True)
while True:
    swap()
"""


@contextmanager
def swapped(one: Path, other: Path) -> Iterator[None]:
    """Let another process exchange two names again and again."""
    process = subprocess.Popen([sys.executable, "-c", _SWAP, one, other], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "swapping\n"
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
