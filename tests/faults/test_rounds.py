"""Rounds of users and faults: two replicas on a real API server and a real node, and whatever happens nothing is lost.

A round lets users stop, start, edit, delete and re-create jobs over sources that grow while replicas are killed, frozen
and cut off. Then all faults end, and the API server's and the node's own records are asked: each job is as was asked
last and reacts to a change, what is stopped is quiet, documents are what the rows say, and no run has written anything
when a later one was at work. `--rounds 50` plays more of them; ROLLUP_TEST_SEED repeats the choices of one series.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from local_control_plane import ControlPlane
from support.api import Api
from support.bodies import store
from support.operator_fixtures import StartOperator
from support.proxy import FaultyProxy
from support.replicas import election, leader_of
from support.rounds_mischief import LEASE_SECONDS, Mischief
from support.rounds_source import Source
from support.rounds_traffic import Traffic
from support.rounds_user import Scene, User
from support.rules import check_rules
from support.store_http import StoreHttp, unique
from support.store_jobs import slow_down
from support.store_proxy import ProxyThread

JOBS = 8
SECONDS = 7.0
"""How long the users of a round go on, and longer while something goes wrong."""

EXPECTED = (
    "write failed",
    "the lease cannot be used",
    "halting: the lease is not renewed",
    "lease not released",
    "sweep failed",
    "cannot ask the API server",
    "status of a store not written",
    "event not posted",
    "watch-stream",
    "Watch",
    "watching",
    "Request attempt",
    "Broken connection",
    "claim not released",
    "waiting for the API server",
    "nothing begins yet: the jobs cannot be listed",
)
"""What a replica may say of an API server or a store that it cannot reach."""


@pytest.fixture
def way(opensearch: StoreHttp) -> Iterator[ProxyThread]:
    """Name it before `start_operator`: what begins first ends last, and an operator needs its store to let jobs go."""
    with ProxyThread(opensearch.url) as made:
        yield made


@pytest.fixture
def ways(control_plane: ControlPlane, tmp_path: Path) -> Iterator[list[FaultyProxy]]:
    """A way to the API server for each replica. Name it before `start_operator`, too."""
    with ExitStack() as stack:
        made = []
        for number in range(2):
            folder = tmp_path / f"way-{number}"
            folder.mkdir()
            made.append(stack.enter_context(FaultyProxy(control_plane, folder)))
        yield made


def grow(source: Source, choose: random.Random, until: float) -> None:
    """Let a source grow until a time of time.monotonic()."""
    while time.monotonic() < until:
        source.grow(choose.randint(1, 5), choose)
        # No event marks a random moment.
        time.sleep(choose.uniform(0, 1))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_rounds_of_users_and_faults(
    way: ProxyThread,
    ways: list[FaultyProxy],
    start_operator: StartOperator,
    api: Api,
    opensearch: StoreHttp,
    request: pytest.FixtureRequest,
    say: Callable[[str], None],
) -> None:
    seed = int(os.environ.get("ROLLUP_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    say(f"rounds: ROLLUP_TEST_SEED={seed}")
    choose = random.Random(seed)
    traffic = Traffic(way)
    sources = [Source(opensearch), Source(opensearch)]
    targets = [unique("rolled") for _ in range(4)]
    for source in sources:
        source.grow(choose.randint(30, 80), choose)
    api.create(store(opensearch={"hosts": [way.proxy.url]}))
    settings = election(api, lease_seconds=LEASE_SECONDS, sweep_seconds=3)
    replicas = [start_operator(kubeconfig=each.kubeconfig, settings=settings, expected=EXPECTED) for each in ways]
    leader_of(api, replicas)
    scene = Scene(api, opensearch, traffic, replicas)
    users = [User(scene, f"job-{n}", sources[n % 2], targets[n // 2]) for n in range(JOBS)]
    for user in users:
        user.create(choose, "started")
        user.check(choose)
    slow_down(opensearch, targets[0])  # so that what is cut off goes on for a while
    with ThreadPoolExecutor(JOBS + len(sources)) as pool:
        for number in range(request.config.getoption("--rounds")):
            begun = time.monotonic()
            mischief = Mischief(api, replicas, ways, way, traffic, random.Random(f"{seed}/{number}"), scene.thawed)
            acting = [
                pool.submit(user.act, random.Random(f"{seed}/{number}/{user.name}"), begun + SECONDS) for user in users
            ]
            acting += [
                pool.submit(grow, source, random.Random(f"{seed}/{number}/source-{n}"), begun + SECONDS)
                for n, source in enumerate(sources)
            ]
            try:
                mischief.play()
            finally:
                mischief.end()
                say(f"  round {number}: {'; '.join(mischief.story)}")
            for acts in acting:
                acts.result(60)
            acted = time.monotonic()
            checks = [pool.submit(user.check, random.Random(f"{seed}/{number}/{user.name}/check")) for user in users]
            for check in checks:
                check.result(600)
            check_rules(api)
            assert traffic.overlaps() == []
            for replica in replicas:
                assert not (found := replica.surprises()), "\n".join(["surprises in a replica's log:", *found])
            say(f"  round {number}: {acted - begun:.1f} s, and {time.monotonic() - acted:.1f} s until all was checked")
    terms = sum(map(len, traffic.terms().values()))
    say(f"rounds: {terms} claims; {', '.join(f'{count} {what}' for what, count in sorted(scene.counts.items()))}")
