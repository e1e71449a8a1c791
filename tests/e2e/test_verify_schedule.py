"""Verification by schedule: a real API server, operator and database."""

from collections.abc import Callable
from pathlib import Path

from support.api import Api, Body, condition
from support.database import opened
from support.operator import Operator
from support.searcher import two_days_of_three
from support.waiting import request_run, status

EVERY = "0/4 * * * * ?"
"""Seconds between two verifications, so that the operator closes the database meanwhile."""

SETTINGS = {"expected": ["verification ended"]}


def plant(folder: Path, statement: str) -> None:
    """Change the result as somebody who opens the database can."""
    with opened(folder) as db:
        ((target,),) = db.execute("SELECT target FROM _rollup.claims").fetchall()
        db.execute(statement.replace("result", f'_rollup."result_{target}"'))


def verified(word: str, reason: str) -> Callable[[Body], bool]:
    def holds(body: Body) -> bool:
        found = condition(body, "Verified")
        return found is not None and (found["status"], found["reason"]) == (word, reason)

    return holds


def test_a_planted_fault_is_found_shown_and_repaired(operator: Operator, api: Api, folder: Path) -> None:
    two_days_of_three(api, folder)
    api.patch_job("trips", {"verify": {"cron": EVERY}})
    body = api.wait("trips", verified("True", "Equal"), 30)
    last = status(body)["lastVerification"]
    assert (last["from"], last["to"]) == ("2024-03-01T00:00:00Z", "2024-03-03T00:00:00Z")
    assert (last["outcome"], last["full"], last["days"], last["missing"]) == ("Equal", True, 2, 0)
    plant(folder, "DELETE FROM result WHERE rowid = 5")
    body = api.wait("trips", verified("False", "DocumentsDiffer"), 30)
    last, found = status(body)["lastVerification"], condition(body, "Verified")
    assert (last["missing"], last["differs"], last["extra"], last["duplicate"]) == (1, 0, 0, 0)
    assert (last["firstDifference"], last["lastDifference"]) == ("2024-03-01T00:00:00Z", "2024-03-02T00:00:00Z")
    assert found is not None
    assert found["message"] == last["message"]
    assert condition(body)["status"] == "True"
    command = f"kubectl rollup verify trips -n {api.namespace} --from 2024-03-01T00:00:00Z --to 2024-03-02T00:00:00Z"
    assert last["message"].endswith(f"To see them: {command}; to repair them, add --repair")
    assert api.wait_event("trips", "DocumentsDiffer")["type"] == "Warning"
    request_run(api, "trips", "repair 2024-03-01T00:00:00Z/2024-03-02T00:00:00Z")  # as --repair does
    api.wait("trips", verified("True", "Equal"), 30)
    assert len([e for e in api.events("trips") if e["reason"] == "DocumentsDiffer"]) == 1
    api.patch_job("trips", {"verify": None})
    gone = api.wait("trips", lambda body: condition(body, "Verified") is None, 10)
    assert "lastVerification" not in status(gone)


def test_a_source_that_shrank_is_no_failure(operator: Operator, api: Api, folder: Path) -> None:
    two_days_of_three(api, folder)
    plant(folder, "UPDATE result SET _count = _count + 1 WHERE rowid = 5")
    api.patch_job("trips", {"verify": {"cron": EVERY, "mode": "Counts"}})
    body = api.wait("trips", verified("True", "SourceShrunk"), 30)
    assert status(body)["lastVerification"]["extra"] == 1
    assert "the source holds less now" in status(body)["lastVerification"]["message"]


def test_a_source_that_is_gone_fails_the_verification_and_not_the_job(
    operator: Operator, api: Api, folder: Path
) -> None:
    two_days_of_three(api, folder)
    for file in folder.rglob("*.parquet"):
        file.unlink()
    api.patch_job("trips", {"verify": {"cron": EVERY}})
    body = api.wait("trips", verified("Unknown", "VerificationFailed"), 30)
    assert "The next verification begins" in status(body)["lastVerification"]["message"]
    assert condition(body)["status"] == "True"
