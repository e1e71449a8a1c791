"""The six steps of the demo. Each says what it does, does it, and shows what came out."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import isclose
from pathlib import Path
from typing import Any

from local_control_plane import binaries
from rollup_demo import check, data
from rollup_demo.check import Job
from rollup_demo.cluster import JOBS, STORES, Body
from rollup_demo.errors import DemoError
from rollup_demo.search_node import INDEX, SearchNode
from rollup_demo.stack import CALLER, MANIFESTS, ROLES, TOKEN_HOURS, Folder, Stack
from rollup_demo.tables import BEARER, Teller

ROLL_UP_GOAL_SECONDS = 2.0
QUIET_SECONDS = 2.0
STOP = "/_xpack/rollup/job/positions/_stop?wait_for_completion=true&timeout=10s"
START = "/_xpack/rollup/job/positions/_start"
_ATTEMPTS = 5
_COMMITS_BEFORE_STOP = 16
"""How often the database's files change before the stop; a page changes them once or a few times."""

Jobs = tuple[Job, Job]
Test = Callable[[Body], bool]


def demo(folder: Folder, teller: Teller) -> None:
    """Tell the whole story. Raises DemoError where something is not as promised; all has ended in any case."""
    with _begin(folder, teller) as stack:
        flights, positions = _load_and_start(stack, teller, stays=False)
        _roll_up(stack, flights, teller)
        _stop_in_the_middle(stack, positions, teller)
        teller.step("End the operator and the control plane, and remove their data")
    teller.done("Everything was as promised.")


def prepare(folder: Folder, teller: Teller, node: SearchNode | None = None) -> Stack:
    """Do the first three steps for `make up`, let all run on, and start the job of the flights.

    With a node, source and result of that job are indices there, and there is no other job.
    """
    stack = _begin(folder, teller)
    try:
        if node is None:
            _load_and_start(stack, teller, stays=True)
        else:
            _load_into(node, stack, teller)
    except BaseException:
        stack.stop()
        raise
    return stack


def _begin(folder: Folder, teller: Teller) -> Stack:
    teller.step("Start a real control plane: etcd and kube-apiserver, on free loopback ports")
    binaries()  # builds them where they are missing, and says how that goes
    stack = Stack.start(folder.path)
    teller.say(f"ready at {stack.plane.server}; the CRDs of crds/ are established")
    return stack


def _load_and_start(stack: Stack, teller: Teller, *, stays: bool) -> Jobs:
    teller.step("Load the flights that left New York in 2013 into Parquet files, a month each")
    flights, positions = data.load(stack.folder.data)
    teller.say(f"flights/*.parquet: {flights.rows:,} rows, {flights.first:%Y-%m-%d} to {flights.last:%Y-%m-%d}")
    teller.say(f"positions/*.parquet: {positions.rows:,} rows, where each was every {data.POSITION_MINUTES} minutes")

    names = ("store", "flights", "positions") if stays else ("store", "flights")
    _start_operator(stack, teller, [MANIFESTS / f"{name}.yaml" for name in names], stays=stays)
    return (
        Job("flights", "flights-hourly", "1 hour", ("dep_delay", "arr_delay", "air_time", "distance"), flights),
        Job("positions", "positions-5m", "5 minutes", ("minutes_flown", "miles_flown"), positions),
    )


def _load_into(node: SearchNode, stack: Stack, teller: Teller) -> None:
    teller.step(f"Load the flights that left New York in 2013 into {node.title} at {node.url}; up to a minute, once")
    node.load_flights(teller.say)
    folder = stack.folder
    folder.store_manifest.write_text(node.store_manifest())
    embedded = (MANIFESTS / "flights.yaml").read_text()
    folder.flights_manifest.write_text(embedded.replace("indexPattern: flights/*.parquet", f"indexPattern: {INDEX}"))
    manifests = (folder.store_manifest, folder.flights_manifest)
    _start_operator(stack, teller, manifests, stays=True, store_host=node.host)


def _start_operator(
    stack: Stack, teller: Teller, manifests: Sequence[Path], *, stays: bool, store_host: str | None = None
) -> None:
    teller.step("Start the operator as a process of its own, and apply a RollupStore and a RollupJob")
    stack.start_operator(stays=stays, store_host=store_host)
    teller.say(f"serving the Elasticsearch rollup API at {stack.url}, to those who may")
    for path in (ROLES, MANIFESTS / "caller.yaml"):
        teller.command(stack.cluster.apply(path))
    teller.command(f"ROLLUP_TOKEN=$(kubectl create token {CALLER} --duration {TOKEN_HOURS}h)")
    for path in manifests:
        teller.command(stack.cluster.apply(path))
    stack.cluster.wait(f"{STORES}/default", _ready, seconds=20, what="RollupStore default Ready")
    stack.cluster.wait(f"{JOBS}/flights", _shows("started"), seconds=20, what="RollupJob flights started")


def _roll_up(stack: Stack, job: Job, teller: Teller) -> None:
    teller.step("Roll the flights up by hour, carrier and origin, and compare with a direct query")
    seconds = _run(stack, job)
    teller.command("kubectl get rollupjobs")
    teller.block(stack.cluster.table("flights"))
    found = check.reconcile(job, stack.folder.results)
    teller.documents(
        f"The busiest of {found.documents:,} documents in {job.rollup_index}",
        job.metrics[1],
        check.busiest(job, stack.folder.results, rows=5),
    )
    teller.reconciliation("Result against source", found)
    if not found.holds:
        raise DemoError("the result of job flights differs from a direct query of its source")
    verdict = "under" if seconds < ROLL_UP_GOAL_SECONDS else "OVER"
    teller.say(
        f"{job.source.rows:,} rows became {found.documents:,} documents in {seconds:.2f} s, "
        f"{verdict} the goal of {ROLL_UP_GOAL_SECONDS:g} s"
    )
    # Quiet for the next step, which looks for writes.
    stack.cluster.patch(job.name, {"spec": {"desiredState": "stopped"}})
    stack.cluster.wait(f"{JOBS}/{job.name}", _stopped, seconds=20, what=f"RollupJob {job.name} stopped")


def _run(stack: Stack, job: Job) -> float:
    """Ask for a run and wait until it has reached the source's end; return the seconds that took."""
    began = time.monotonic()
    request = stack.cluster.ask_for_run(job.name)
    stack.cluster.wait(
        f"{JOBS}/{job.name}",
        lambda body: _finished(body, job, request),
        seconds=120,
        what=f"the end of a run of {job.name}",
    )
    return time.monotonic() - began


def _stop_in_the_middle(stack: Stack, job: Job, teller: Teller) -> None:
    teller.step(f"Start a long backfill of {job.source.rows:,} rows, and stop it in the middle through the API")
    teller.command(stack.cluster.apply(MANIFESTS / "positions.yaml"))
    stack.cluster.wait(f"{JOBS}/{job.name}", _stopped, seconds=20, what=f"RollupJob {job.name} seen")
    stopped = _interrupt(stack, job, teller)
    status = stopped["status"]
    teller.command(f"kubectl get rollupjobs {job.name}")
    teller.block(stack.cluster.table(job.name))
    teller.say(f"position: {json.dumps(status['position'])}")
    rows, pages = status["stats"]["documentsProcessed"], status["stats"]["pagesProcessed"]
    teller.say(f"{rows:,} of {job.source.rows:,} rows are rolled up, {rows / job.source.rows:.0%}, in {pages} pages")
    _must_be_quiet(stack, job, stopped, teller)
    _search(stack, job, teller)

    _start(stack, job, teller)
    seconds = _run(stack, job)
    body = stack.cluster.job(job.name)
    read, pages = body["status"]["stats"]["documentsProcessed"], body["status"]["stats"]["pagesProcessed"]
    teller.say(f"went on from there to the end in {seconds:.1f} s; in all {pages} pages, {read:,} rows")
    found = check.reconcile(job, stack.folder.results)
    teller.reconciliation("Stopped and continued, against an uninterrupted grouping", found)
    if not found.holds:
        raise DemoError("the result of the interrupted job differs from that of an uninterrupted one")
    if read != job.source.rows:
        raise DemoError(
            f"{read:,} rows were read for a source of {job.source.rows:,}: the job did not go on where it was"
        )


def _interrupt(stack: Stack, job: Job, teller: Teller) -> Body:
    """Start the job and stop it once some pages are committed; return it as it stands then."""
    commits = _COMMITS_BEFORE_STOP
    for _ in range(_ATTEMPTS):
        _start(stack, job, teller)
        began = time.monotonic()
        request = stack.cluster.ask_for_run(job.name)
        stack.cluster.wait(
            f"{JOBS}/{job.name}", _begun(job, request), seconds=30, what=f"RollupJob {job.name} indexing"
        )
        _until_written(stack.folder.own, times=commits)
        teller.say(f"it has been indexing for {time.monotonic() - began:.1f} s; now stop it:")
        teller.command(f'curl -XPOST -H "{BEARER}" "$ROLLUP_URL{STOP}"')
        answer = stack.endpoint.post(STOP)
        teller.block(f"{answer.text}   HTTP {answer.status} after {answer.seconds * 1000:.0f} ms")
        if (answer.status, answer.body) != (200, {"stopped": True}):
            raise DemoError(f"the stop was answered {answer.status}: {answer.text}")
        body = stack.cluster.job(job.name)
        if not _stopped(body):
            raise DemoError(f"the stop was answered with success, but the status says {body['status']}")
        if "watermark" in body["status"]:
            teller.say("this machine was quicker than that: the job was through. Delete it, and begin anew:")
            teller.command(stack.cluster.delete(job.name))
            teller.command(stack.cluster.apply(MANIFESTS / "positions.yaml"))
            commits = max(1, commits // 4)
        elif body["status"].get("position") is None:
            teller.say("no page was written yet; once more:")
            commits *= 2
        else:
            return body
    raise DemoError(f"{_ATTEMPTS} attempts to stop {job.name} in the middle all missed it")


def _start(stack: Stack, job: Job, teller: Teller) -> None:
    teller.command(f'curl -XPOST -H "{BEARER}" $ROLLUP_URL{START}')
    answer = stack.endpoint.post(START)
    teller.block(f"{answer.text}   HTTP {answer.status} after {answer.seconds * 1000:.0f} ms")
    if (answer.status, answer.body) != (200, {"started": True}):
        raise DemoError(f"the start was answered {answer.status}: {answer.text}")
    stack.cluster.wait(f"{JOBS}/{job.name}", _shows("started"), seconds=20, what=f"{job.name} started")


def _must_be_quiet(stack: Stack, job: Job, stopped: Body, teller: Teller) -> None:
    """Look for a while for any write after a stop. Raises DemoError when there is one."""
    # The embedded database is closed a moment after its last user has left, which folds its log into its file.
    log = stack.folder.own / "databases" / "rollup.duckdb.wal"
    deadline = time.monotonic() + 2
    while log.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    before = _files(stack.folder.data_root)
    for body in stack.cluster.changes(f"{JOBS}/{job.name}", stopped, seconds=QUIET_SECONDS):
        raise DemoError(f"job {job.name} was written to after its stop: {body['status']}")
    after = _files(stack.folder.data_root)
    if before != after:
        changed = sorted(str(path) for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        raise DemoError(f"files were written after the stop: {', '.join(changed)}")
    last = check.last_bucket(job, stack.folder.results)
    position = _position(stopped["status"]["position"], job)
    if last is not None and last != position:
        raise DemoError(f"the last bucket of the result is {last}, the position says {position}")
    teller.say(
        f"{QUIET_SECONDS:g} s later: no event of the job (resourceVersion {stopped['metadata']['resourceVersion']}), "
        f"none of {len(after)} files changed; the result ends where the position says, {position:%Y-%m-%d %H:%M}"
    )


def _search(stack: Stack, job: Job, teller: Teller) -> None:
    """Ask for all months in one request, while a part of them is rolled up and the rest is not."""
    metric = job.metrics[1]
    time_of = {"field": job.source.time_field, "calendar_interval": "1M"}
    request = {"size": 0, "aggs": {"months": {"date_histogram": time_of, "aggs": {"m": {"avg": {"field": metric}}}}}}
    teller.say("a search goes over what is rolled up and what is not yet, as one:")
    teller.command(f"curl -H \"{BEARER}\" $ROLLUP_URL/{job.rollup_index}/_search -d '{json.dumps(request)}'")
    answer = stack.endpoint.post(f"/{job.rollup_index}/_search", request)
    if answer.status != 200:
        raise DemoError(f"the search was answered {answer.status}: {answer.text}")
    (rolled,) = answer.body["_rollup"]["jobs"]
    end = round(datetime.fromisoformat(rolled["to"]).timestamp() * 1000)
    found = [(b["key"], b["doc_count"], b["m"]["value"]) for b in answer.body["aggregations"]["months"]["buckets"]]
    direct = check.by_month(job, metric)
    teller.months(metric, found, direct, end)
    if [(key, count) for key, count, _ in found] != [(key, count) for key, count, _ in direct] or any(
        not isclose(ours, theirs, rel_tol=1e-12) for (_, _, ours), (_, _, theirs) in zip(found, direct, strict=True)
    ):
        raise DemoError("the search over rolled and live data differs from a direct query of the source")
    teller.say(f"answered in {answer.seconds * 1000:.0f} ms; what is rolled up ends at {rolled['to']}")


def _until_written(folder: Path, *, times: int) -> None:
    """Return once the database's files have changed so often: pages are committed meanwhile."""
    deadline = time.monotonic() + 30
    seen = _files(folder)
    while times and time.monotonic() < deadline:
        time.sleep(0.01)
        if (now := _files(folder)) != seen:
            seen, times = now, times - 1


def _files(folder: Path) -> Mapping[Path, tuple[int, int]]:
    found = {}
    for path in folder.rglob("*"):
        try:
            about = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            found[path.relative_to(folder)] = (about.st_size, about.st_mtime_ns)
    return found


def _position(position: Mapping[str, Any], job: Job) -> datetime:
    return datetime.fromtimestamp(position[f"{job.source.time_field}.date_histogram"] / 1000, UTC)


def _finished(body: Body, job: Job, request: str) -> bool:
    status = body["status"]
    last_run, watermark = status.get("lastRun", {}), status.get("watermark")
    if status.get("lastHandledRunRequest") == request and last_run.get("outcome") in ("Failed", "Fenced"):
        raise DemoError(f"the run of {job.name} failed: {last_run.get('message')}")
    return (
        status.get("lastHandledRunRequest") == request
        and status.get("state") == "started"
        and watermark is not None
        and datetime.fromisoformat(watermark) > job.source.last
    )


def _begun(job: Job, request: str) -> Test:
    """Return a test: the run is under way, or was too quick to be seen."""
    return lambda body: _indexing(body) or _finished(body, job, request)


def _shows(state: str) -> Test:
    """Return a test: the job shows that state, decided on its newest spec."""

    def test(body: Body) -> bool:
        status = body.get("status", {})
        return bool(status.get("state") == state and status.get("observedGeneration") == body["metadata"]["generation"])

    return test


_stopped = _shows("stopped")
_indexing = _shows("indexing")


def _ready(body: Body) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in body.get("status", {}).get("conditions", []))
