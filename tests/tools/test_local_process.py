"""When a process of the local tools counts as over."""

import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local_tools.process import ProcessId

EXIT = {"x86_64": 60, "aarch64": 93}
"""The system call by which one thread ends, by machine."""

FIRST_THREAD_ENDS = """
import ctypes, sys, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).syscall(int(sys.argv[1]), 0)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in EXIT, reason="Linux shows threads, and calls have numbers"
)
def test_a_process_lives_as_long_as_any_thread_of_it() -> None:
    command = [sys.executable, "-c", FIRST_THREAD_ENDS, str(EXIT[platform.machine()])]
    with subprocess.Popen(command) as process:
        try:
            one = ProcessId.of(process.pid)
            deadline = time.monotonic() + 10
            while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert one.alive()
            assert not one.wait(0)
        finally:
            process.kill()
        assert one.wait(10)
