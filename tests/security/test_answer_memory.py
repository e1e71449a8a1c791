"""What stores answer takes no more memory than there is for answers, however many of them there are at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from rollup_operator.sharing.memory import MIB
from support.hostile_cluster import honest, kind_of
from support.hostile_host import Asked, Said, bomb, hostile_host

ROOT = Path(__file__).parents[2]

CLIENT = """
import asyncio, resource, sys
sys.path.insert(0, sys.argv[1])
from rollup_operator.model.store import ClusterStoreSpec as Spec
from rollup_operator.sharing.shares import Account, Shares
from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.errors import StoreError
from rollup_operator.stores.opensearch import ClusterStore, Connections, HostRules
from support.hostile_cluster import HOUR, JOB

async def no_secret(name):
    raise AssertionError

async def main(do, url):
    answers, pages = Shares(32 * 2**20), Shares(64 * 2**20)
    stores = []
    for number in range(12):
        spec = Spec.model_validate({"hosts": [url], "requestTimeoutSeconds": 20})
        connections = Connections("opensearch", spec, read_secret=no_secret, rules=HostRules.read(["127.0.0.1"]))
        who = f"namespace-{number % 3}"
        client = connections.cluster(answers=Account(answers, who), pages=Account(pages, who))
        stores.append(ClusterStore("opensearch", client, is_alive=bool))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def use(store):
        try:
            await (store.check() if do == "check" else store.preview(JOB, Span(0, 6 * HOUR), 10))
            return "good"
        except StoreError as e:
            return str(e)

    told = await asyncio.gather(*map(use, stores))
    for store in stores:
        await store.close()
    assert answers.taken == pages.taken == 0, (answers.taken, pages.taken)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, *sorted(set(told)), sep="\\n")

asyncio.run(main(*sys.argv[2:]))
"""


def grown(do: str, url: str) -> tuple[float, list[str]]:
    """Let twelve stores of three namespaces do the same at a time. Returns MiB, and what came of it."""
    command = [sys.executable, "-c", CLIENT, str(ROOT / "tests"), do, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    kib, *outcomes = done.stdout.splitlines()
    return int(kib) / 1024, outcomes


def lists(size: int) -> Said:
    return Said(b"[" + b"[]," * (size // 3) + b"[]]")


def buckets(size: int) -> Said:
    """A page whose buckets could be cut, and are far more than anybody asked for."""
    one = b'{"key":{"0":7200000,"1":1.0,"2":"a"},"doc_count":1,"m0":{"count":1,"min":1,"max":1,"avg":1,"sum":1}}'
    head = b'{"timed_out":false,"_shards":{"total":1,"failed":0},"aggregations":{"rollup":{"buckets":['
    return Said(head + b",".join([one] * (size // len(one))) + b"]}}}")


ODD = {
    "about": {"lists": lists(60 * MIB), "a bomb": bomb(300 * MIB), "without end": Said(b"[]," * 20_000, times=1_000)},
    "page": {"lists": lists(23 * MIB), "buckets": buckets(23 * MIB), "a bomb": bomb(300 * MIB)},
}


@pytest.mark.parametrize(("kind", "body"), [(kind, body) for kind, bodies in ODD.items() for body in bodies])
def test_memory_stays_within_what_there_is_for_answers(kind: str, body: str) -> None:
    def answer(asked: Asked) -> Said:
        return ODD[kind][body] if kind_of(asked) == kind else honest(asked)

    with hostile_host(answer) as host:
        mib, outcomes = grown("check" if kind == "about" else "preview", host.url)
    assert "good" not in outcomes
    assert mib < (64 if kind == "about" else 180)


def test_pages_of_many_stores_are_all_read() -> None:
    with hostile_host(honest) as host:
        _, outcomes = grown("preview", host.url)
    assert outcomes == ["good"]
