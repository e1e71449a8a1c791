"""The second listener of a real operator, its log and its traces: what a stop leaves in each of them."""

import hashlib
import json
import math
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from local_control_plane import ControlPlane
from rollup_operator.http.listener.tls import expiry_of
from support.api import Api
from support.backfill import HOURS, PAGE_SECONDS, PER_HOUR, begin, begun
from support.bodies import store
from support.data import end_of, small_groups, trips_job, write_trips
from support.database import opened
from support.operator import Operator
from support.operator_fixtures import StartOperator
from support.waiting import NEVER, finished, request_run, run_completed

CALLER = "0af7651916cd43dd8448eb211c80319c"
"""A trace that a caller has begun."""


class Collector:
    """Takes in spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: dict[str, Any] = {}
        home = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        home.spans |= {span.name: span for span in scope.spans}
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
        return found


def scraped(port: int) -> dict[str, float]:
    """Samples by name, with labels as they are written: name{a=b}."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = answer.read().decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {
        s.name + ("{" + ",".join(f"{k}={v}" for k, v in sorted(s.labels.items())) + "}" if s.labels else ""): s.value
        for s in samples
    }


def when(port: int, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Scrape until it holds."""
    found: dict[str, float] = {}

    def there() -> bool:
        nonlocal found
        found = scraped(port)
        return holds(found)

    wait_until(there)
    return found


def wait_until(holds: Callable[[], bool]) -> None:
    """Ask until it holds, as nothing announces when a number is there."""
    deadline = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def probed(port: int, path: str) -> int:
    """The status of a probe; 0 while nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError:
        return 0


def runs_of(body: dict[str, Any]) -> int:
    """How many runs of a job have begun."""
    count: int = body.get("status", {}).get("stats", {}).get("triggerCount", 0)
    return count


def test_a_job_can_be_followed_from_its_run_to_its_end(
    start_operator: StartOperator, api: Api, folder: Path, port: int
) -> None:
    write_trips(folder)
    operator = start_operator(settings={"metrics_port": port})
    api.create(store())
    api.create(trips_job(groups=small_groups(), cron=NEVER))
    api.wait_condition("trips", reason="Waiting")
    for number in range(1, 6):  # within a second or two: runs that end in one second are several
        request_run(api, "trips", str(number))
        api.wait("trips", lambda body, number=number: runs_of(body) == number and run_completed(body))
    api.wait("trips", finished(end_of(47)))
    job = f"rollup_job=trips,rollup_namespace={api.namespace}"
    found = when(port, lambda s: s.get(f"rollup_job_state{{{job},state=started}}") == 1)
    stats = api.get("trips")["status"]["stats"]
    assert found[f"rollup_job_ready{{{job}}}"] == found[f"rollup_job_desired_started{{{job}}}"] == 1
    assert found[f"rollup_job_documents_total{{{job}}}"] == stats["documentsProcessed"]
    assert found[f"rollup_job_pages_total{{{job}}}"] == stats["pagesProcessed"]
    assert found["rollup_runs_total{outcome=Completed}"] == found["rollup_run_seconds_count"] == 5
    assert found[f"rollup_job_runs_total{{{job}}}"] == 5
    assert found[f"rollup_store_ready{{rollup_namespace={api.namespace},rollup_store=default}}"] == 1
    assert found["rollup_operator_leader"] == 1
    assert found["rollup_operator_reconcile_total{result=success}"] > 0
    assert found["rollup_operator_api_requests_total{code=200,verb=PUT}"] > 0
    assert found["rollup_operator_reconcile_total{result=error}"] == 0

    path = f"/namespaces/{api.namespace}/_rollup/job/trips/_stop?wait_for_completion=true"
    assert operator.post(path).status == 200
    found = when(port, lambda s: s.get("rollup_stop_seconds_count", 0) == 1)
    assert found["rollup_stop_requests_total{result=stopped}"] == found["rollup_stop_wait_seconds_count"] == 1
    assert found[f"rollup_job_state{{{job},state=stopped}}"] == found["rollup_jobs{state=stopped}"] == 1
    assert found["rollup_http_requests_total{action=stop,code=200}"] == 1
    assert found["rollup_auth_reviews_total{cached=false,kind=token,result=allowed}"] == 1
    assert operator.post(path, token="nonsense").status == 401
    found = scraped(port)
    assert found["rollup_http_requests_total{action=stop,code=401}"] == 1
    assert found["rollup_auth_reviews_total{cached=false,kind=token,result=denied}"] == 1

    api.delete("trips")
    api.wait_gone("trips")
    found = when(port, lambda s: s["rollup_jobs{state=stopped}"] == 0)
    assert not [name for name in found if "job=trips" in name]


def same_numbers(operator: Operator, api: Api, port: int, holds: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    """The counters of a job once status, API and metrics agree on them, and `holds` of them."""
    found: dict[str, int] = {}

    def agree() -> bool:
        nonlocal found
        job, path = (
            f"{{rollup_job=trips,rollup_namespace={api.namespace}}}",
            f"/namespaces/{api.namespace}/_rollup/job/trips",
        )
        status = api.get("trips")["status"].get("stats", {})
        found = operator.get(path).body["jobs"][0]["stats"]
        series = {
            "runs": found["trigger_count"],
            "pages": found["pages_processed"],
            "documents": found["documents_processed"],
            "rollups": found["rollups_indexed"],
            "failures": found["search_failures"] + found["index_failures"],
        }
        samples = scraped(port)
        return (
            {name.replace("_", "").lower(): n for name, n in found.items()} == {k.lower(): n for k, n in status.items()}
            and all(samples.get(f"rollup_job_{name}_total{job}") == n for name, n in series.items())
            and holds(found)
        )

    wait_until(agree)
    return found


def test_counters_count_the_same_everywhere(start_operator: StartOperator, api: Api, folder: Path, port: int) -> None:
    operator = start_operator(settings={"metrics_port": port}, page_seconds=PAGE_SECONDS)
    begin(api, folder, cron=NEVER)
    api.wait_condition("trips", reason="Waiting")
    request_run(api, "trips", "once")
    api.wait_state("trips", "indexing")
    # The run that is under way counts.
    shown = operator.get(f"/namespaces/{api.namespace}/_rollup/job/trips").body["jobs"][0]
    assert (shown["status"]["job_state"], shown["stats"]["trigger_count"]) == ("indexing", 1)
    api.wait("trips", finished(end_of(HOURS - 1)), 60)
    good = same_numbers(operator, api, port, lambda stats: stats["documents_processed"] == HOURS * PER_HOUR)
    assert (good["trigger_count"], good["search_failures"], good["index_failures"]) == (1, 0, 0)
    assert good["rollups_indexed"] == HOURS
    assert 1 < good["index_total"] <= good["pages_processed"]
    assert good["pages_processed"] == good["search_total"] == good["processing_total"]
    with opened(folder):
        request_run(api, "trips", "while another process holds the database")
        api.wait_condition("trips", status="False", reason="StoreUnavailable")
        bad = same_numbers(operator, api, port, lambda stats: stats["search_failures"] >= 2)
        assert bad["trigger_count"] >= 1 + bad["search_failures"]  # a retry counts
        assert scraped(port)["rollup_runs_total{outcome=Failed}"] >= 1
    api.wait("trips", run_completed, 30)
    mended = same_numbers(operator, api, port, lambda stats: stats["trigger_count"] > bad["trigger_count"])
    assert mended["search_failures"] >= bad["search_failures"]
    assert mended["documents_processed"] == good["documents_processed"]


def test_the_second_listener_has_the_probes_and_nothing_of_the_api(start_operator: StartOperator, port: int) -> None:
    operator = start_operator(settings={"metrics_port": port})
    base = f"http://127.0.0.1:{port}"
    assert probed(port, "/healthz") == 200
    wait_until(lambda: probed(port, "/readyz") == 200)  # the watch begins after the endpoint
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{base}/_rollup/job/_all", timeout=10)
    assert operator.get("/metrics").status in {404, 405}


def test_an_operator_that_waits_for_the_api_server_is_alive_and_not_ready(
    control_plane: ControlPlane, tmp_path: Path, port: int
) -> None:
    config = json.loads(control_plane.kubeconfig.read_text())
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        for cluster in config["clusters"]:
            cluster["cluster"]["server"] = f"https://127.0.0.1:{nobody.getsockname()[1]}"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    operator = Operator(kubeconfig, tmp_path, settings={"metrics_port": port}).launch()
    try:
        wait_until(lambda: probed(port, "/healthz") == 200)
        assert probed(port, "/readyz") == 503
        assert scraped(port)["rollup_operator_leader"] == 0
        assert operator.running
    finally:
        operator.kill()


def test_a_port_that_is_taken_ends_the_operator_with_the_cure(control_plane: ControlPlane, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {"metrics_port": taken.getsockname()[1]}
        operator = Operator(control_plane.kubeconfig, tmp_path, settings=settings)
        with pytest.raises(AssertionError) as failed:
            operator.start()
    text = " ".join(str(failed.value).split())
    assert "choose another metrics_port or metrics_host" in text
    assert "the operator ended with 2" in text


def test_a_stop_leaves_one_line_for_each_change_and_linked_traces(
    start_operator: StartOperator, api: Api, folder: Path, collector: Collector
) -> None:
    operator = start_operator(page_seconds=PAGE_SECONDS, settings={"tracing_endpoint": collector.url})
    begun(api, folder)
    path = f"/namespaces/{api.namespace}/_rollup/job/trips/_stop?wait_for_completion=true"
    headers = {"Authorization": f"Bearer {operator.token}", "traceparent": f"00-{CALLER}-b7ad6b7169203331-01"}
    answer = operator.request("POST", path, headers=headers)
    assert answer.status == 200
    stopped = api.wait_state("trips", "stopped")
    uid, generation = stopped["metadata"]["uid"], stopped["metadata"]["generation"]

    changes = operator.records("job changed")
    assert all(change["uid"] == uid and change["namespace"] == api.namespace for change in changes)
    last = changes[-1]
    assert (last["state"], last["reason"], last["generation"]) == ("stopped", "Stopped", generation)
    assert last["request_id"] == answer.headers["X-Request-Id"]
    assert [c["state"] for c in changes].count("stopped") == 1
    assert operator.token not in operator.log.read_text()

    operator.stop()  # sends what is left
    call, write, wait = (collector.spans[n] for n in ("stop job", "apply spec.desiredState", "wait for stopped"))
    assert {span.trace_id.hex() for span in (call, write, wait)} == {CALLER}
    assert write.parent_span_id == wait.parent_span_id == call.span_id
    stop = collector.spans["stop"]
    digest = hashlib.sha256(f"{uid}/{generation}".encode()).digest()
    assert (stop.trace_id, stop.span_id) == (digest[:16], digest[16:24])
    assert not stop.parent_span_id
    assert [(link.trace_id, link.span_id) for link in call.links] == [(stop.trace_id, stop.span_id)]
    assert [event.name for event in stop.events][-1] == "stopped"
    assert call.start_time_unix_nano < stop.end_time_unix_nano


def test_the_end_of_a_certificate_is_read_as_a_client_sees_it(control_plane: ControlPlane, tmp_path: Path) -> None:
    address = urlsplit(control_plane.server)
    trust = ssl.create_default_context(cafile=control_plane.ca)
    plain = socket.create_connection((address.hostname or "", address.port or 0))
    with trust.wrap_socket(plain, server_hostname=address.hostname) as connection:
        seen = connection.getpeercert()
    assert seen is not None
    file = control_plane.directory / "certificates" / "apiserver.crt"
    assert expiry_of(file) == ssl.cert_time_to_seconds(str(seen["notAfter"]))
    chain = tmp_path / "chain.crt"
    chain.write_text(f"subject=/CN=some words before it\n{file.read_text()}{control_plane.ca.read_text()}")
    assert expiry_of(chain) == expiry_of(file)
    chain.write_text(file.read_text().replace("M", "A", 40))
    assert math.isnan(expiry_of(chain))
    assert math.isnan(expiry_of(tmp_path / "none"))


def test_without_an_endpoint_nothing_of_tracing_is_imported() -> None:
    code = (
        "import sys; from rollup_operator.observability.telemetry import Telemetry; import rollup_operator.app;"
        "Telemetry('x', leading=lambda: True); sys.exit('opentelemetry.sdk' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
