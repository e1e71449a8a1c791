"""Sources of many fields and jobs that name many: to compare them takes no time from anybody else."""

import time

from rollup_operator.indexer.source_check import find_broken_rules
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.source_rules import SourceField, check_rules
from support.hostile_cluster import JOB
from support.portions import watched

COLUMNS = 30_000
NAMED = 256
"""Metrics of a job, the most that it may have."""
FIELDS = {f"column_{n:05d}_of_many_in_this_table": SourceField(frozenset({"double"})) for n in range(COLUMNS)}


def naming(name: str) -> RollupJobSpec:
    """A job with as many metrics as one may have, of fields that no source has."""
    given = JOB.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    metrics = [{"field": name.format(n), "metrics": ["min"]} for n in range(NAMED)]
    return RollupJobSpec.model_validate(given | {"metrics": metrics})


def test_many_missing_fields_are_told_of_many_that_there_are() -> None:
    began = time.process_time()
    (rule,) = check_rules(naming("colunm_{:05d}_of_many_in_this_table"), FIELDS)
    assert time.process_time() - began < 1
    assert rule.manifest.count("the source has no field") > NAMED
    assert "'colunm_00001_of_many_in_this_table': did you mean 'column_00001_of_many_in_this_table'" in rule.manifest
    assert len(rule.manifest) < 100 * NAMED


def test_names_of_many_parts_are_looked_for_in_what_is_nested() -> None:
    name = "{}" + ".a" * 250
    nested = {f"{NAMED - 1}" + ".a" * 200: SourceField(frozenset({"nested"}))}
    began = time.process_time()
    (rule,) = check_rules(naming(name), nested)
    assert time.process_time() - began < 0.5
    assert "lies within" in rule.manifest


class Wide:
    """A store with a source of many columns."""

    async def fields(self, *_: object, **__: object) -> dict[str, SourceField]:
        return FIELDS


async def test_other_work_goes_on_while_the_fields_of_a_job_are_looked_for() -> None:
    async with watched() as loop:
        (rule,) = await find_broken_rules(Wide(), naming("x{}"))  # type: ignore[arg-type]
    assert rule.manifest
    assert loop.longest < 0.05
