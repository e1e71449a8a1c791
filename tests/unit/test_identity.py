"""What a job is told whose record in the store another job owns."""

from dataclasses import replace

import pytest

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
        judge(HERE, owner=owner, config_hash=HERE.config_hash, has_documents=False, is_alive=lambda _: True)
    assert [part for part in shown if part not in str(error.value)] == []
    assert [part for part in hidden if part in str(error.value)] == []
