"""`make picture`: the README's picture of the page, with the data of the demo that `make up` has started."""

import os
import subprocess
import sys
from pathlib import Path

from local_browser import CHROMIUM, why_not
from rollup_demo.cluster import JOBS, Body
from rollup_demo.errors import DemoError
from rollup_demo.stack import PROJECT, Stack

FILE = PROJECT / "docs" / "page.png"
LARGEST = 150_000
"""Bytes of the picture, which all who clone the repository fetch."""
SIZE = (1100, 1200)
"""Width and height, in pixels: the state of a job, its time line and its chart."""
PATH = "/ui/namespaces/default/jobs/flights"
_SETTLED_MS = 8000
"""Virtual time for the page's script to fetch the chart."""
_SECONDS = 60.0


def take(stack: Stack, file: Path = FILE) -> None:
    """Run the job of the flights and write the picture of its page. Raises DemoError."""
    if (reason := why_not()) is not None:
        raise DemoError(f"no browser on this machine: {reason}")
    stack.cluster.ask_for_run("flights")
    stack.cluster.wait(f"{JOBS}/flights", _is_rolled_up, seconds=60, what="the end of a run of flights")
    with subprocess.Popen(
        [sys.executable, "-m", "rollup_operator.plugin", "ui", "--no-browser", "--url", stack.url],
        env=os.environ | {"KUBECONFIG": str(stack.plane.kubeconfig), "ROLLUP_TOKEN": stack.endpoint.token},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().removeprefix("The page is at ").strip()
            if not address:
                raise DemoError("kubectl rollup ui did not begin")
            _shoot(address.replace("/ui/?", f"{PATH}?"), file)
        finally:
            server.terminate()


def _is_rolled_up(body: Body) -> bool:
    found = body.get("status", {})
    return "watermark" in found and found["state"] == "started"


def _shoot(address: str, file: Path) -> None:
    width, height = SIZE
    flags = [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking",
        f"--window-size={width},{height}", f"--virtual-time-budget={_SETTLED_MS}", f"--screenshot={file}",
    ]  # fmt: skip
    done = subprocess.run([CHROMIUM, *flags, address], capture_output=True, text=True, check=False, timeout=_SECONDS)
    if done.returncode != 0 or not file.exists():
        raise DemoError(f"{CHROMIUM} has taken no picture: {done.stderr[-500:]}")
    if file.stat().st_size > LARGEST:
        raise DemoError(f"{file} has {file.stat().st_size:,} bytes, more than {LARGEST:,}: take a smaller window")
