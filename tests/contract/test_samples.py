"""The sample manifests do what they say."""

from pathlib import Path

import pytest
import yaml

from rollup_operator.model.job_view import JobView
from rollup_operator.model.validation import InvalidSpec, check
from support.api import Api

SAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "samples"


def test_what_is_to_start_from_is_valid(api: Api):
    for path in sorted(SAMPLES.glob("*.yaml")):
        body = api.create(yaml.safe_load(path.read_text()))
        if body["kind"] == "RollupJob":
            check(JobView.of(body))


def test_what_is_wrong_on_purpose_lies_apart_and_is_found_wanting(api: Api):
    [path] = SAMPLES.glob("*/*.yaml")
    assert path.parent.name == "invalid"
    with pytest.raises(
        InvalidSpec, match=r"^spec\.groups\.dateHistogram\.timeZone: 'America/New_Yrok' is no time zone"
    ):
        check(JobView.of(api.create(yaml.safe_load(path.read_text()))))
