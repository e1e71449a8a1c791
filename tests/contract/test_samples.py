"""The sample manifests do what they say."""

from pathlib import Path

import pytest
import yaml

from rollup_operator.model.job_view import JobView
from rollup_operator.model.validation import InvalidSpec, check
from support.api import Api

SAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "samples"


def test_all_are_accepted_and_only_the_invalid_one_is_found_wanting(api: Api):
    jobs = {}
    for path in sorted(SAMPLES.glob("*.yaml")):
        body = api.create(yaml.safe_load(path.read_text()))
        if body["kind"] == "RollupJob":
            jobs[path.stem] = JobView.of(body)
    check(jobs.pop("rollupjob"))
    with pytest.raises(
        InvalidSpec, match=r"^spec\.groups\.dateHistogram\.timeZone: 'America/New_Yrok' is no time zone"
    ):
        check(jobs.pop("rollupjob-invalid"))
    assert not jobs
