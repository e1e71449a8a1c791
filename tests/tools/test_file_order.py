"""Several workers share the files of tests to the last one, also where a worker dies."""

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = """
from support.file_order import FileSharing

def pytest_xdist_make_scheduler(config, log):
    return FileSharing(config, log)
"""

TESTS = """
import os, signal, pytest

@pytest.mark.parametrize("number", range(3))
def test_one(number):
    if (number, {dies}) == (1, True):
        os.kill(os.getpid(), signal.SIGKILL)
"""

TESTS_FOLDER = str(Path(__file__).parents[1])


def test_a_worker_that_dies_keeps_no_other_from_the_end(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for number in range(40):
        (tmp_path / f"test_{number:02}.py").write_text(TESTS.format(dies=number == 30))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-n",
            "2",
            "--dist",
            "loadfile",
            "--no-loadscope-reorder",
            "-p",
            "no:cacheprovider",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": TESTS_FOLDER, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "crashed while running 'test_30.py::test_one[1]'" in done.stdout
    assert "1 failed, 119 passed" in done.stdout
    assert done.returncode == 1
