"""An operator under measurement: its process and its jobs. Ours, or a peer with a group of its own."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.client import Jobs, Server
from bench.machine import Machine
from local_control_plane import ControlPlane

OURS = "rollup-operator.dev"


@dataclass
class Subject:
    """One operator. `name` is what it is called in the result."""

    name: str
    jobs: Jobs
    command: Sequence[str]
    folder: Path
    machine: Machine
    environment: Mapping[str, str]
    url_file: Path | None = None
    """Where it writes the URL of its endpoint, if it has one."""
    token: str = ""
    """Whose calls the endpoint takes."""
    names: list[str] = field(default_factory=list)
    """Its jobs."""
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        assert self.url_file is not None
        return self.url_file.read_text().strip()

    def start(self) -> float:
        """Start the process; return when that was."""
        if self.url_file is not None:
            self.url_file.unlink(missing_ok=True)
        at = time.perf_counter()
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log)
        self.machine.know(self.name, self._process.pid)
        return at

    async def serving(self, timeout: float = 60.0) -> float | None:
        """Return when the endpoint was first known to serve; None for an operator without one."""
        if self.url_file is None:
            return None
        end = time.perf_counter() + timeout
        while not self.url_file.exists():
            self.check()
            if time.perf_counter() > end:
                raise TimeoutError(f"{self.name} does not serve after {timeout:g} s: see {self.folder}")
            await asyncio.sleep(0.005)
        return time.perf_counter()

    def check(self) -> None:
        """Raise RuntimeError when the process has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            log = (self.folder / f"{self.name}.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name} ended with exit code {self._process.returncode}:\n{log}")

    async def stop(self) -> float:
        """End the process with SIGTERM; return how many seconds that took."""
        if self._process is None or self._process.poll() is not None:
            return 0.0
        began = time.perf_counter()
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, 40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return time.perf_counter() - began


def ours(plane: ControlPlane, server: Server, machine: Machine, folder: Path) -> Subject:
    """Return our operator, from the environment that runs the bench."""
    url_file = folder / "url"
    _write_source(folder / "data" / "default")
    return Subject(
        name="ours",
        jobs=Jobs(server, OURS, _spec),
        command=[
            *(sys.executable, "-m", "rollup_operator", "run", "--data-root", str(folder / "data")),
            *("--http-port", "0", "--url-file", str(url_file), "--log-format", "json"),
        ],
        folder=folder,
        machine=machine,
        # Rights that are asked for once stay known: what is measured is the endpoint, not the API server's reviews.
        environment={**_environment(plane), "ROLLUP_ALLOWED_CACHE_SECONDS": "3600"},
        url_file=url_file,
        token=plane.token(),
    )


def peer(
    command: Sequence[str], plane: ControlPlane, server: Server, machine: Machine, folder: Path, like_ours: bool
) -> Subject:
    """Return another operator, whose group is $BENCH_GROUP. Its spec is like ours, or {desiredState, payload}."""
    group = os.environ.get("BENCH_GROUP", "rollup.dev")
    return Subject(
        name="peer",
        jobs=Jobs(server, group, _spec if like_ours else lambda _: {"payload": "x" * 512}),
        command=command,
        folder=folder,
        machine=machine,
        environment=_environment(plane),
    )


def _environment(plane: ControlPlane) -> Mapping[str, str]:
    return {**os.environ, "KUBECONFIG": str(plane.kubeconfig)}


def _spec(name: str) -> dict[str, Any]:
    """Return a job that idles: its schedule has no tick while the bench runs."""
    return {
        "indexPattern": "source.parquet",
        "rollupIndex": f"{name}-rollup",
        "cron": "0 0 0 1 1 ? 2099",
        "groups": {
            "dateHistogram": {"field": "time", "fixedInterval": "1h"},
            "terms": {"fields": ["carrier", "origin"]},
        },
        "metrics": [{"field": "distance", "metrics": ["min", "max", "sum", "avg", "value_count"]}],
    }


def _write_source(folder: Path) -> None:
    """Write the source of all jobs: one that is not there would be looked for again and again."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = "TIMESTAMP '2024-01-01' AS time, 'a' AS carrier, 'b' AS origin, 1.0 AS distance"
    copy = f"COPY (SELECT {columns}) TO '{folder / 'source.parquet'}' (FORMAT parquet)"
    # In a process of its own: DuckDB's memory is none of the bench's.
    subprocess.run([sys.executable, "-c", "import duckdb, sys; duckdb.sql(sys.argv[1])", copy], check=True)


STORE = {
    "apiVersion": f"{OURS}/v1alpha1",
    "kind": "RollupStore",
    "metadata": {"name": "default"},
    "spec": {"duckdb": {}},
}
