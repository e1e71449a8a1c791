"""What a tenant does who wants to harm others: each attack goes on until its block ends.

As a program, it is that tenant, elsewhere than who measures: what it does takes no time of that process.
"""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_control_plane import ControlPlane
from support.api import Api, ApiError
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.endpoint import Endpoint
from support.hostile_cluster import JOB, honest, kind_of
from support.hostile_host import Answer, Asked, HostileHost, Said, bomb, hostile_host, said
from support.threads import repeating
from support.waiting import runs

MIB = 2**20

ELSEWHERE = "127.0.0.2"
"""Where strangers come from: an address that is not that of the others."""

CALLS_PER_SECOND = 200
"""How many calls an attack makes at most: what sends them shares the processors with what they are sent to."""

UNDER_WAY, UNDER_WAY_S = 10, 120.0
"""How much an attack has done once it is under way, and seconds within which it is, on any machine."""

GONE_S = 20.0
"""Seconds that its jobs have to go, so that the time after it is quiet."""

Done = Callable[[], int]
"""How much an attack has done so far."""


_attacks = itertools.count(1)


@dataclass
class Hostile:
    """The tenant: a namespace, a folder, the token of an editor of it and one of nobody."""

    endpoint: Endpoint
    api: Api
    folder: Path
    editor: str
    nobody: str
    victim: str
    """The other namespace."""

    @property
    def jobs(self) -> str:
        return f"/namespaces/{self.api.namespace}/_rollup/job"

    @contextmanager
    def many(self, count: int, act: Callable[[int], object]) -> Iterator[Done]:
        """Do it again and again in so many threads. Yields how often it was done."""
        done = [0] * count

        def attempt(number: int) -> None:
            with suppress(OSError, ApiError, ValueError, AssertionError):
                act(number)
            done[number] += 1

        with repeating(count, attempt, pause=count / CALLS_PER_SECOND):
            yield lambda: sum(done)

    @contextmanager
    def having(self, *bodies: dict[str, Any]) -> Iterator[None]:
        """Have some objects for a while."""
        attack = f"attack-{next(_attacks)}"
        for body in bodies:
            self.api.create(body | {"metadata": body["metadata"] | {"labels": {"attack": attack}}})
        try:
            yield
        finally:
            for kind in ("RollupJob", "RollupStore"):
                self.api.delete_all(f"attack={attack}", kind=kind)
            deadline = time.monotonic() + GONE_S
            for body in bodies:
                if body["kind"] == "RollupJob":
                    with suppress(AssertionError):
                        self.api.wait_gone(body["metadata"]["name"], deadline - time.monotonic())

    def jobs_run(self) -> int:
        """How often its jobs have run."""
        return sum(map(runs, self.api.list()))

    @staticmethod
    def configuration(pattern: str, **more: Any) -> dict[str, Any]:
        """A job as clients of Elasticsearch send it."""
        return {
            "index_pattern": pattern,
            "rollup_index": "o",
            "cron": "0 0 0 1 1 ?",
            "page_size": 1000,
            "groups": {"date_histogram": {"field": "picked_up", "calendar_interval": "1d"}},
            "metrics": [{"field": "size", "metrics": ["min"]}],
            **more,
        }

    def preview(self, pattern: str) -> None:
        body = self.configuration(pattern)
        self.endpoint.request("POST", f"{self.jobs}/_preview", body, token=self.editor, timeout=5)

    def preview_at(self, name: str) -> None:
        """Preview a job on one of the stores."""
        spec = JOB.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        body = {"kind": "RollupJob", "metadata": {"name": "p"}, "spec": spec | {"storeRef": {"name": name}}}
        self.endpoint.request("POST", f"{self.jobs}/_preview", body, token=self.editor, timeout=10)


# The attacks


@contextmanager
def stars(it: Hostile) -> Iterator[Done]:
    """Patterns that backtrack, by preview and as a job that runs each second."""
    pattern = "trips/" + "*a" * 8 + "zz.parquet"
    job = trips_job("stars", indexPattern="trips/*****zz.parquet")
    with it.having(job), it.many(6, lambda _: it.preview(pattern)) as done:
        yield done


@contextmanager
def _stores_answering(it: Hostile, answer: Answer) -> Iterator[tuple[HostileHost, Sequence[str]]]:
    """Stores, and a job each, at a host that answers so. Yields it and their names.

    No attack takes the names of one before: a job whose store does not say that its claim is free is deleted only after
    its drain timeout.
    """
    attack = next(_attacks)
    names = [f"odd-{attack}-{n}" for n in range(10)]
    with hostile_host(answer) as host:
        stores = [store(name, opensearch={"hosts": [host.url]}) for name in names]
        of = {"groups": small_groups(), "indexPattern": "rows", "drainTimeoutSeconds": 1}
        jobs = [trips_job(name, storeRef={"name": name}, **of) for name in names]
        with it.having(*stores, *jobs):
            try:
                yield host, names
            finally:
                host.answer = honest  # so that they go soon


@contextmanager
def blanks(it: Hostile) -> Iterator[Done]:
    """Errors whose text takes long to look at."""
    odd = said({"error": {"type": "x", "reason": " " * 200_000 + "rejected execution of " * 5_000}}, 400)
    with _stores_answering(it, lambda _: odd) as (host, _):
        yield lambda: len(host.asked)


@contextmanager
def large_answers(it: Hostile) -> Iterator[Done]:
    """Answers that take memory and time to parse, to each request."""
    odd = Said(b"[" + b"[]," * (20 * MIB) + b"[]]")
    with _stores_answering(it, lambda _: odd) as (host, _):
        yield lambda: len(host.asked)


@contextmanager
def large_pages(it: Hostile) -> Iterator[Done]:
    """Pages of more than anybody asked for, all else being in order."""
    one = b'{"key":{"0":7200000},"doc_count":1,"m0":{"count":1,"min":1,"max":1,"avg":1,"sum":1}}'
    head = b'{"timed_out":false,"_shards":{"total":1,"failed":0},"aggregations":{"rollup":{"buckets":['
    odd = Said(head + b",".join([one] * (22 * MIB // len(one))) + b"]}}}")

    def answer(asked: Asked) -> Said:
        return odd if kind_of(asked) == "page" else honest(asked)

    with _stores_answering(it, answer) as (_, names), it.many(8, lambda n: it.preview_at(names[n])) as done:
        yield done


@contextmanager
def bombs(it: Hostile) -> Iterator[Done]:
    """Answers that inflate a thousand times."""
    odd = bomb(300 * MIB)
    with _stores_answering(it, lambda _: odd) as (host, _):
        yield lambda: len(host.asked)


@contextmanager
def drips(it: Hostile) -> Iterator[Done]:
    """Answers that never end, some bytes a second."""
    with ExitStack() as stack:
        listening = socket.create_server(("127.0.0.1", 0))
        stack.callback(listening.close)
        held: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    held.append(connection)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n{")

        threading.Thread(target=accept, daemon=True).start()

        def drip(_: int) -> None:
            time.sleep(0.05)
            for connection in held:
                with suppress(OSError):
                    connection.send(b" ")

        host = f"http://127.0.0.1:{listening.getsockname()[1]}"
        stores = [store(f"drip-{n}", opensearch={"hosts": [host]}, maxConcurrentRuns=64) for n in range(40)]
        stack.enter_context(it.having(*stores))
        done = stack.enter_context(it.many(1, drip))
        yield lambda: done() if len(held) >= UNDER_WAY else 0


@contextmanager
def without_rights(it: Hostile) -> Iterator[Done]:
    """Calls of somebody who may do nothing, on the other's jobs and with tokens of nobody."""
    theirs = f"/namespaces/{it.victim}/_rollup/job"

    def call(number: int) -> None:
        match number % 4:
            case 0:
                it.endpoint.get(f"{theirs}/_all", token=it.nobody, timeout=5)
            case 1:
                it.endpoint.post(f"{theirs}/_all/_stop", token=it.nobody, timeout=5)
            case 2:
                it.endpoint.get(f"{theirs}/trips?filter_path=" + "**." * 20 + "x", token=it.nobody, timeout=5)
            case _:
                it.endpoint.get(theirs, token=f"made-up-{time.monotonic_ns()}", timeout=5)

    with it.many(16, call) as done:
        yield done


@contextmanager
def links(it: Hostile) -> Iterator[Done]:
    """Links to the folder itself, out of it and to what is not there, and patterns that walk along them."""
    made = [it.folder / f"l{n}" for n in range(6)]
    for link in made:
        link.symlink_to(".")
    out = it.folder / "out"
    out.symlink_to(f"../{it.victim}")
    pattern = "/".join(["l*"] * 7) + "/zz.parquet"
    jobs = [trips_job(f"links-{n}", indexPattern=pattern, rollupIndex=f"walked-{n}") for n in range(2)]
    try:
        previews = it.many(6, lambda n: it.preview(pattern if n % 2 else "out/trips/*.parquet"))
        with it.having(*jobs), previews as done:
            yield done
    finally:
        for link in (*made, out):
            os.unlink(link)


@contextmanager
def connections(it: Hostile) -> Iterator[Done]:
    """Thousands of connections: silent ones, half heads, and bodies that nobody asked for."""
    address = it.endpoint.connect().host, it.endpoint.connect().port
    head = b"PUT /_rollup/job/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %d\r\nContent-Length: 262144\r\n\r\n"
    kept: list[socket.socket] = []

    def open_some(number: int) -> None:
        if len(kept) > 4_000:
            for _ in range(500):
                kept.pop(0).close()
        for _ in range(50):
            one = socket.socket()
            one.setblocking(False)
            one.bind((ELSEWHERE, 0))
            with suppress(BlockingIOError):
                one.connect(address)
            kept.append(one)
        time.sleep(0.05)
        for one in kept[-50:]:
            with suppress(OSError):
                one.send((head % time.monotonic_ns() + b"x" * 65_536) if number % 2 else b"GET / HT")

    try:
        with it.many(3, open_some) as done:
            yield done
    finally:
        for one in kept:
            with contextlib.suppress(OSError):
                one.close()


@contextmanager
def stores(it: Hostile) -> Iterator[Done]:
    """Stores and jobs without end, each with as many runs as a store may have."""
    write_trips(it.folder, hours=400, per_hour=200)
    many = [store(f"many-{n}", maxConcurrentRuns=64, duckdb={"database": f"many{n}.duckdb"}) for n in range(12)]
    jobs = [
        trips_job(f"many-{n}-{m}", storeRef={"name": f"many-{n}"}, rollupIndex=f"many-{n}-{m}")
        for n in range(12)
        for m in range(3)
    ]
    with it.having(*many, *jobs):
        yield it.jobs_run


@contextmanager
def bodies(it: Hostile) -> Iterator[Done]:
    """Configurations that take much to parse, and patterns and groups that take much to check."""
    odd = json.dumps({"groups": [[]] * 60_000}).encode()  # a longer one would not be read
    metrics = [{"field": f"f{n}", "metrics": ["min"]} for n in range(3_000)]
    long = json.dumps(it.configuration("trips/*.parquet", metrics=metrics)).encode()

    def send(number: int) -> None:
        if number % 2:
            it.endpoint.request("PUT", f"{it.jobs}/x", odd, token=it.editor, timeout=10)
        else:
            it.endpoint.request("POST", f"{it.jobs}/_preview", long, token=it.editor, timeout=10)

    with it.many(8, send) as done:
        yield done


ATTACKS: dict[str, Callable[[Hostile], contextlib.AbstractContextManager[Done]]] = {
    attack.__name__: attack
    for attack in (
        stars, blanks, large_answers, large_pages, bombs, drips, without_rights, links, connections, stores, bodies
    )
}  # fmt: skip


# The tenant's own process


class Attackers:
    """The tenant in a process of its own, which dies with this one."""

    def __init__(self, plane: ControlPlane, url: str, *it: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.hostile_tenant", str(plane.directory), url, *it],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    @contextmanager
    def at(self, attack: str) -> Iterator[None]:
        """Let it attack. Fails unless the attack is under way before the block, and goes on in it."""
        self._tell(attack)
        begun = self._hear()
        assert begun >= UNDER_WAY, f"the attack has begun {begun} times only"
        try:
            yield
        finally:
            self._tell("")
            done = self._hear()
            self._hear()
        assert done > begun, "the attack did not go on"

    def end(self) -> None:
        self._process.communicate(timeout=60)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _hear(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the attackers' process has ended"
        return int(line)


def main(directory: str, url: str, namespace: str, folder: str, editor: str, nobody: str, victim: str) -> None:
    """Carry out the attacks whose names come on standard input, each until an empty line or the end of the input."""
    plane = ControlPlane.find(Path(directory))
    assert plane is not None
    with Api(plane, namespace) as api:
        it = Hostile(Endpoint(url, ""), api, Path(folder), editor, nobody, victim)
        for line in iter(sys.stdin.readline, ""):
            with ATTACKS[line.strip()](it) as done:
                begun = _reached(done, UNDER_WAY)
                print(begun, flush=True)
                sys.stdin.readline()
                print(_reached(done, begun + 1), flush=True)
            print(0, flush=True)


def _reached(done: Done, enough: int) -> int:
    deadline = time.monotonic() + UNDER_WAY_S
    while (so_far := done()) < enough and time.monotonic() < deadline:
        time.sleep(0.02)
    return so_far


if __name__ == "__main__":
    main(*sys.argv[1:])
