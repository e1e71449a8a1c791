"""Thousands of calls, right and wrong, made up from docs/openapi.yaml; the same ones each time."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import yaml

from support.api import Api
from support.bodies import store
from support.client_environments import ROOT, interpreter
from support.data import trips_job, write_trips
from support.operator import Operator
from support.operator_fixtures import StartOperator
from support.waiting import NEVER

HERE = Path(__file__).resolve().parent
DOCUMENT = ROOT / "docs" / "openapi.yaml"
METHODS = {"get", "put", "post", "delete"}


@pytest.fixture
def served(start_operator: StartOperator, api: Api, folder: Path) -> Operator:
    """An operator whose default namespace is the test's, with the jobs and sources that schemathesis.toml names."""
    for name in ("a", "b"):
        write_trips(folder, name)
    write_flights(folder)
    api.create(store())
    api.create(trips_job("a", cron=NEVER, desiredState="stopped"))
    api.create(trips_job("b", cron=NEVER, desiredState="started"))
    api.create(trips_job("c", cron=NEVER, jobId="Job C", desiredState=None))
    return start_operator(default_namespace=api.namespace)


def write_flights(folder: Path) -> None:
    """The source of the document's examples."""
    (folder / "flights").mkdir()
    with duckdb.connect() as db:
        db.execute(
            "COPY (SELECT TIMESTAMP '2024-01-01' AS time_hour, 'UA' AS carrier, 'EWR' AS origin, "
            f"{2**53 + 1} AS distance, "  # which a preview has a note of
            f"227.0 AS air_time) TO '{folder}/flights/a.parquet' (FORMAT parquet)"
        )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_call_gets_an_answer_that_the_document_knows(
    served: Operator, say: Callable[[str], None], pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    examples: int = pytestconfig.getoption("--fuzz-examples")
    schemathesis = interpreter("schemathesis", say).with_name("schemathesis")
    say(f"fuzz: up to {examples} made-up calls for each call of the API; about {max(20, examples // 4)} seconds")
    command = [str(schemathesis), "--config-file", str(HERE / "schemathesis.toml"), "--no-color", "run"]
    command += [str(DOCUMENT), "--url", served.url, "--max-examples", str(examples)]
    command += ["--report", "json", "--report-json-path", str(tmp_path / "report.json")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    environment |= {"ROLLUP_TOKEN": served.token, "ROLLUP_SEEN": str(tmp_path / "seen.json")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, f"{done.stdout[-20_000:]}{done.stderr}"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["complete"]
    assert report["operations"]["tested"] == report["operations"]["total"]
    assert report["test_cases"]["generated"] >= 10 * examples
    seen = json.loads((tmp_path / "seen.json").read_text())
    document = yaml.safe_load(DOCUMENT.read_text())
    calls = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in METHODS & item.keys()}
    # A call that never succeeds, or a job that is never in the way, would leave most of the code alone.
    expected = {f"{call} 200" for call in calls} | {"PUT /_rollup/job/{id} 409", "POST /_rollup/job/{id}/_stop 404"}
    expected.add("notes of a preview")
    # Without a body, which a document cannot give to GET, they ask for documents, or for nothing.
    expected -= {
        f"GET {path}/{call} 200" for path in ("", "/{index}") for call in ("_search", "_msearch", "_rollup_search")
    }
    # No job was deleted, so none has left documents.
    purges = [f"{method} /_rollup/documents/{{index}}/{{id}}" for method in ("GET", "DELETE")]
    expected = (expected - {f"{call} 200" for call in purges}) | {f"{call} 404" for call in purges}
    assert expected <= seen.keys(), seen
