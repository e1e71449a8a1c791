"""What a job is told whose record in the store another job owns."""

from dataclasses import replace

import pytest

from rollup_operator.model.conditions import Reason
from rollup_operator.rollup.identity import judge
from rollup_operator.stores.errors import IdentityConflict
from support.embedded import config

HERE = config()


@pytest.mark.parametrize(
    ("cluster", "shown", "hidden"),
    [
        (HERE.owner.cluster, ["team/other", "set another spec.jobId"], ["cluster", "ROLLUP_CLUSTER"]),
        ("east", ["team/other of the cluster named 'east'", "ROLLUP_CLUSTER as it was"], []),
    ],
)
def test_a_job_of_another_cluster_is_not_taken_for_this_one(cluster: str, shown: list[str], hidden: list[str]) -> None:
    owner = replace(HERE.owner, cluster=cluster, name="other", uid="2")
    with pytest.raises(IdentityConflict) as error:
        judge(
            HERE, owner=owner, config_hash=HERE.config_hash, pattern=None, has_documents=False, is_alive=lambda _: True
        )
    assert [part for part in shown if part not in str(error.value)] == []
    assert [part for part in hidden if part in str(error.value)] == []


@pytest.mark.parametrize(
    ("uid", "pattern", "has_documents", "refused"),
    [
        ("1", "other", True, True),
        ("1", "rows", True, False),
        ("1", None, True, False),
        ("1", "other", False, False),
        ("2", "other", True, False),
    ],
    ids=["changed", "the-same", "not-recorded", "nothing-written", "created-again"],
)
def test_documents_of_another_source_are_not_continued_by_the_job_that_made_them(
    uid: str, pattern: str | None, has_documents: bool, refused: bool
) -> None:
    def judged() -> None:
        judge(
            HERE,
            owner=replace(HERE.owner, uid=uid),
            config_hash=HERE.config_hash,
            pattern=pattern,
            has_documents=has_documents,
            is_alive=lambda _: False,
        )

    assert HERE.owner.uid == "1"
    if not refused:
        judged()
        return
    with pytest.raises(IdentityConflict, match="holds documents of job 'job' from 'other'") as error:
        judged()
    assert error.value.reason is Reason.CONFIG_CHANGED
