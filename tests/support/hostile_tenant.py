"""What a tenant does who wants to harm others: each attack goes on until its block ends."""

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.api import Api, ApiError
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.hostile_cluster import JOB, honest, kind_of
from support.hostile_host import Answer, Asked, Said, bomb, hostile_host, said
from support.operator import Operator
from support.threads import repeating

MIB = 2**20

ELSEWHERE = "127.0.0.2"
"""Where strangers come from: an address that is not that of the others."""


@dataclass
class Hostile:
    """The tenant: a namespace, a folder, the token of an editor of it and one of nobody."""

    operator: Operator
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
    def many(self, count: int, act: Callable[[int], object]) -> Iterator[None]:
        """Do it again and again in so many threads."""

        def attempt(number: int) -> None:
            with suppress(OSError, ApiError, ValueError, AssertionError):
                act(number)

        with repeating(count, attempt, pause=0.002):
            yield

    @contextmanager
    def having(self, *bodies: dict[str, Any]) -> Iterator[None]:
        """Have some objects for a while."""
        for body in bodies:
            self.api.create(body)
        try:
            yield
        finally:
            for body in reversed(bodies):
                with suppress(ApiError):
                    self.api.delete(body["metadata"]["name"], kind=body["kind"])
            for body in bodies:
                if body["kind"] == "RollupJob":
                    with suppress(AssertionError):
                        self.api.wait_gone(body["metadata"]["name"], 20)

    def preview(self, pattern: str, **more: Any) -> None:
        body = {
            "index_pattern": pattern,
            "rollup_index": "o",
            "cron": "0 0 0 1 1 ?",
            "page_size": 1000,
            "groups": {"date_histogram": {"field": "picked_up", "calendar_interval": "1d"}},
            "metrics": [{"field": "size", "metrics": ["min"]}],
            **more,
        }
        self.operator.request("POST", f"{self.jobs}/_preview", body, token=self.editor, timeout=5)

    def preview_at(self, name: str) -> None:
        """Preview a job on one of the stores."""
        spec = JOB.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        body = {"kind": "RollupJob", "metadata": {"name": "p"}, "spec": spec | {"storeRef": {"name": name}}}
        self.operator.request("POST", f"{self.jobs}/_preview", body, token=self.editor, timeout=10)


# The attacks

_attacks = itertools.count(1)


@contextmanager
def stars(it: Hostile) -> Iterator[None]:
    """Patterns that backtrack, by preview and as a job that runs each second."""
    pattern = "trips/" + "*a" * 8 + "zz.parquet"
    with it.having(trips_job("stars", indexPattern="trips/*****zz.parquet")), it.many(6, lambda _: it.preview(pattern)):
        yield


@contextmanager
def _stores_answering(it: Hostile, answer: Answer, count: int) -> Iterator[list[str]]:
    """Stores, and a job each, at a host that answers so. Yields their names.

    No attack takes the names of one before: a job whose store does not say that its claim is free is deleted only after
    its drain timeout.
    """
    attack = next(_attacks)
    names = [f"odd-{attack}-{n}" for n in range(count)]
    with hostile_host(answer) as host:
        stores = [store(name, opensearch={"hosts": [host.url]}) for name in names]
        of = {"groups": small_groups(), "indexPattern": "rows", "drainTimeoutSeconds": 5}
        jobs = [trips_job(name, storeRef={"name": name}, **of) for name in names]
        with it.having(*stores, *jobs):
            yield names


@contextmanager
def blanks(it: Hostile) -> Iterator[None]:
    """Errors whose text takes long to look at."""
    odd = said({"error": {"type": "x", "reason": " " * 200_000 + "rejected execution of " * 5_000}}, 400)
    with _stores_answering(it, lambda _: odd, 10):
        yield


@contextmanager
def large_answers(it: Hostile) -> Iterator[None]:
    """Answers that take memory and time to parse, to each request."""
    odd = Said(b"[" + b"[]," * (20 * MIB) + b"[]]")
    with _stores_answering(it, lambda _: odd, 10):
        yield


@contextmanager
def large_pages(it: Hostile) -> Iterator[None]:
    """Pages of more than anybody asked for, all else being in order."""
    one = b'{"key":{"0":7200000},"doc_count":1,"m0":{"count":1,"min":1,"max":1,"avg":1,"sum":1}}'
    head = b'{"timed_out":false,"_shards":{"total":1,"failed":0},"aggregations":{"rollup":{"buckets":['
    odd = Said(head + b",".join([one] * (22 * MIB // len(one))) + b"]}}}")

    def answer(asked: Asked) -> Said:
        return odd if kind_of(asked) == "page" else honest(asked)

    with _stores_answering(it, answer, 10) as names, it.many(8, lambda n: it.preview_at(names[n])):
        yield


@contextmanager
def bombs(it: Hostile) -> Iterator[None]:
    """Answers that inflate a thousand times."""
    odd = bomb(300 * MIB)
    with _stores_answering(it, lambda _: odd, 10):
        yield


@contextmanager
def drips(it: Hostile) -> Iterator[None]:
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
            time.sleep(0.2)
            for connection in held:
                with suppress(OSError):
                    connection.send(b" ")

        host = f"http://127.0.0.1:{listening.getsockname()[1]}"
        stores = [store(f"drip-{n}", opensearch={"hosts": [host]}, maxConcurrentRuns=64) for n in range(40)]
        stack.enter_context(it.having(*stores))
        stack.enter_context(it.many(1, drip))
        yield


@contextmanager
def without_rights(it: Hostile) -> Iterator[None]:
    """Calls of somebody who may do nothing, on the other's jobs and with tokens of nobody."""
    theirs = f"/namespaces/{it.victim}/_rollup/job"

    def call(number: int) -> None:
        match number % 4:
            case 0:
                it.operator.get(f"{theirs}/_all", token=it.nobody, timeout=5)
            case 1:
                it.operator.post(f"{theirs}/_all/_stop", token=it.nobody, timeout=5)
            case 2:
                it.operator.get(f"{theirs}/trips?filter_path=" + "**." * 20 + "x", token=it.nobody, timeout=5)
            case _:
                it.operator.get(theirs, token=f"made-up-{time.monotonic_ns()}", timeout=5)

    with it.many(16, call):
        yield


@contextmanager
def links(it: Hostile) -> Iterator[None]:
    """Links to the folder itself, out of it and to what is not there, and patterns that walk along them."""
    made = [it.folder / f"l{n}" for n in range(6)]
    for link in made:
        link.symlink_to(".")
    out = it.folder / "out"
    out.symlink_to(f"../{it.victim}")
    pattern = "/".join(["l*"] * 7) + "/zz.parquet"
    jobs = [trips_job(f"links-{n}", indexPattern=pattern, rollupIndex=f"walked-{n}") for n in range(2)]
    try:
        with it.having(*jobs), it.many(6, lambda n: it.preview(pattern if n % 2 else "out/trips/*.parquet")):
            yield
    finally:
        for link in (*made, out):
            os.unlink(link)


@contextmanager
def connections(it: Hostile) -> Iterator[None]:
    """Thousands of connections: silent ones, half heads, and bodies that nobody asked for."""
    address = it.operator.connect().host, it.operator.connect().port
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
        with it.many(3, open_some):
            yield
    finally:
        for one in kept:
            with contextlib.suppress(OSError):
                one.close()


@contextmanager
def stores(it: Hostile) -> Iterator[None]:
    """Stores and jobs without end, each with as many runs as a store may have."""
    write_trips(it.folder, hours=400, per_hour=200)
    many = [store(f"many-{n}", maxConcurrentRuns=64, duckdb={"database": f"many{n}.duckdb"}) for n in range(12)]
    jobs = [
        trips_job(f"many-{n}-{m}", storeRef={"name": f"many-{n}"}, rollupIndex=f"many-{n}-{m}")
        for n in range(12)
        for m in range(3)
    ]
    with it.having(*many, *jobs):
        yield


@contextmanager
def bodies(it: Hostile) -> Iterator[None]:
    """Configurations that take much to parse, and patterns and groups that take much to check."""
    path = f"{it.jobs}/x"
    odd = {"groups": [[]] * 80_000}

    def send(number: int) -> None:
        if number % 2:
            it.operator.request("PUT", path, odd, token=it.editor, timeout=10)
        else:
            it.preview("trips/*.parquet", metrics=[{"field": f"f{n}", "metrics": ["min"]} for n in range(3_000)])

    with it.many(8, send):
        yield


ATTACKS: dict[str, Callable[[Hostile], contextlib.AbstractContextManager[None]]] = {
    attack.__name__: attack
    for attack in (
        stars, blanks, large_answers, large_pages, bombs, drips, without_rights, links, connections, stores, bodies
    )
}  # fmt: skip
