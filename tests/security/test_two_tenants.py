"""Two tenants of one operator, one of them hostile: the other's runs and stops go on, and its files stay as they are.

The operator is a process of its own, on a real API server; the other tenant's jobs are on a DuckDB store and on a real
node. Quiet times are measured right before each attack: it may make a run or a stop slower, but not by much. The
hostile tenant is a third process, so that only the operator can slow the other tenant down, and who shares its
processors: the figures say how much of them each one takes.
"""

import hashlib
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from local_control_plane import ControlPlane
from local_stores import Node
from support.api import Api
from support.bodies import store
from support.callers import MANAGER, Account, install_roles
from support.data import exported, rolled_up_small, small_groups, trips_job, write_trips
from support.hostile_tenant import ATTACKS, Attackers
from support.operator import Operator
from support.store_http import StoreHttp
from support.store_nodes import lent
from support.waiting import NEVER, handled, request_run, run_completed

MIB = 2**20
CHART = 1024 * MIB
"""The chart's memory limit."""
ROUNDS = 3
TIMES, MORE = 2.0, 0.25
"""A run or a stop may take so many times its quiet time, in the median of all rounds, and so many seconds more, times
what the machine makes of it: the attackers, the node and the API server, and whatever else runs, share its processors
with the operator, and quiet times are a tenth of a second."""
WORST = 12.0
"""Seconds more of the slowest one."""

pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]

JOBS = "trips", "searched"
"""The other tenant's, one on DuckDB and one on a node."""

_numbers = itertools.count()


@dataclass
class Victim:
    """The tenant who wants nothing but to work."""

    operator: Operator
    api: Api
    folder: Path
    token: str

    def run(self) -> float:
        """Have the jobs run, and return how long that took."""
        value = f"run-{next(_numbers)}"
        began = time.monotonic()
        for job in JOBS:
            request_run(self.api, job, value)
        for job in JOBS:
            self.api.wait(job, lambda body: handled(value)(body) and run_completed(body) and _at_rest(body), 60)
        return time.monotonic() - began

    def stop(self, job: str) -> float:
        """Stop a job by the endpoint and start it again; return how long the stop took."""
        path = f"/namespaces/{self.api.namespace}/_rollup/job/{job}"
        began = time.monotonic()
        answer = self.operator.post(f"{path}/_stop?wait_for_completion=true&timeout=60s", token=self.token, timeout=70)
        took = time.monotonic() - began
        assert (answer.status, answer.body) == (200, {"stopped": True})
        assert self.operator.post(f"{path}/_start", token=self.token, timeout=60).status == 200
        return took

    def rounds(self) -> dict[str, list[float]]:
        """Run and stop each of the jobs several times, and return how long each round took."""
        took: dict[str, list[float]] = {"run": [], "stop": []}
        for _ in range(ROUNDS):
            took["run"].append(self.run())
            took["stop"].append(max(map(self.stop, JOBS)))
        return took

    def files(self) -> dict[str, str]:
        """The tenant's own files."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


def _at_rest(body: dict[str, object]) -> bool:
    return body["status"]["state"] == "started"  # type: ignore[index]


@pytest.fixture(scope="module")
def store_node(opensearch2_node: Node) -> Iterator[StoreHttp]:
    with lent(opensearch2_node) as client:
        yield client


@pytest.fixture(scope="module")
def operator(
    control_plane: ControlPlane,
    store_node: StoreHttp,  # to be wiped when the operator has ended
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("tenants")
    settings = {"memory_bytes": CHART, "denied_cache_seconds": 0.5, "store_check_seconds": 3}
    # A hostile tenant is worth a warning in the log, but no error of ours.
    process = Operator(control_plane.kubeconfig, folder, settings=settings, expected=['"level": "warning"'])
    try:
        yield process.start()
        process.stop()
    finally:
        process.kill()


@pytest.fixture(scope="module")
def tenants(control_plane: ControlPlane, operator: Operator) -> Iterator[Callable[[str], Api]]:
    with Api(control_plane) as admin:
        install_roles(admin)

        def tenant(name: str) -> Api:
            admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            (operator.data_root / name).mkdir(parents=True, exist_ok=True)
            return admin.within(name)

        yield tenant


@pytest.fixture(scope="module")
def victim(operator: Operator, tenants: Callable[[str], Api], store_node: StoreHttp) -> Victim:
    api = tenants("team-good")
    folder = operator.data_root / "team-good"
    write_trips(folder, hours=200, per_hour=60)
    store_node.create("two-tenants", {"picked_up": "date", "size": "double", "weight": "double"})
    store_node.load("two-tenants", ({"picked_up": n * 60_000, "size": n % 7, "weight": n % 5} for n in range(5_000)))
    api.create(store())
    api.create(store("cluster", opensearch={"hosts": [store_node.url]}))
    api.create(trips_job(groups=small_groups(), cron=NEVER))
    searched = trips_job("searched", groups=small_groups(), cron=NEVER, indexPattern="two-tenants")
    api.create(searched | {"spec": searched["spec"] | {"rollupIndex": "tenant-out", "storeRef": {"name": "cluster"}}})
    for job in JOBS:
        api.wait_condition(job, reason="Waiting", timeout=30)
    account = Account(api, "user").bind(MANAGER).in_force("delete")
    return Victim(operator, api, folder, account.token)


@pytest.fixture(scope="module")
def hostile(control_plane: ControlPlane, operator: Operator, tenants: Callable[[str], Api]) -> Iterator[Attackers]:
    api = tenants("team-bad")
    folder = operator.data_root / "team-bad"
    write_trips(folder)
    api.create(store())
    editor, nobody = Account(api, "editor").bind(MANAGER).in_force("delete"), Account(api, "nobody")
    it = api.namespace, str(folder), editor.token, nobody.token, "team-good"
    attackers = Attackers(control_plane, operator.url, *it)
    yield attackers
    attackers.end()


def busy() -> float:
    """How many would have each processor now, one at least."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Strain:
    """How many times longer the machine makes what a process does, since this was made: its threads wait for one."""

    def __init__(self, pid: int) -> None:
        self._tasks = Path(f"/proc/{pid}/task")
        self._before = self._now()

    def __call__(self) -> float:
        now = self._now()
        ran, waited = (sum(now[task][i] - self._before.get(task, (0, 0))[i] for task in now) for i in (0, 1))
        return 1 + waited / max(ran, 1)

    def _now(self) -> dict[str, tuple[int, int]]:
        found = {}
        for task in self._tasks.iterdir():
            with suppress(OSError):  # it has just ended
                ran, waited, _ = map(int, (task / "schedstat").read_text().split())
                found[task.name] = ran, waited
        return found


def memory(operator: Operator) -> int:
    """The most bytes that the process has ever had in memory."""
    status = Path(f"/proc/{operator.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def processor_seconds(pid: int) -> float:
    """How long a process has had a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_tenant_harms_nobody_else(
    attack: str, victim: Victim, hostile: Attackers, control_plane: ControlPlane, say: Callable[[str], None]
) -> None:
    before = victim.files()
    calm = Strain(victim.operator.pid)
    quiet = victim.rounds()
    usually = calm()
    pids = {
        "operator": victim.operator.pid,
        "attackers": hostile.pid,
        "API server": control_plane.pids["kube-apiserver"],
    }
    with hostile.at(attack):
        strained = Strain(victim.operator.pid)
        began, used = time.monotonic(), {name: processor_seconds(pid) for name, pid in pids.items()}
        took = victim.rounds()
        passed = time.monotonic() - began
        shares = {name: (processor_seconds(pid) - used[name]) / passed for name, pid in pids.items()}
        strain = strained()
        slower = max(1.0, strain / usually)
        alive = [victim.operator.request("GET", "/healthz", headers={}, timeout=20).status for _ in range(3)]
    most = memory(victim.operator)
    median = {what: (statistics.median(quiet[what]), statistics.median(took[what])) for what in took}
    figures = ", ".join(f"{w} {q:.3f} -> {t:.3f} (worst {max(took[w]):.2f}) s" for w, (q, t) in median.items())
    taken = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    say(f"{attack}: {figures}; processors: {taken}; strain {usually:.1f} -> {strain:.1f}; {most // MIB} MiB at most")
    assert alive == [200] * 3
    for what, (usual, now) in median.items():
        limit = TIMES * usual * slower + MORE * max(strain, busy())
        assert now < limit, f"a {what} took {now:.2f} s, {usual:.2f} s in quiet times, at most {limit:.2f} s"
        assert max(took[what]) < TIMES * max(quiet[what]) * slower + WORST * slower
    assert most < CHART
    assert victim.files() == before
    assert exported(victim.folder) == rolled_up_small(victim.folder)
