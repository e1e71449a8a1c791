"""RollupStore: where source and result are."""

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from rollup_operator.model.base import Part, fixed
from rollup_operator.model.status import Condition


class DuckDBStore(Part):
    """An embedded DuckDB database: no server, one machine."""

    database: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        default="rollup.duckdb",
        description="File name of the database, below the operator's data folder of the namespace. The file belongs to "
        "the operator. Immutable.",
        json_schema_extra=fixed(
            "database", of="store", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$"
        ),
    )


class RollupStoreSpec(Part):
    """What a RollupStore asks for: exactly one kind of store."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "has(self.duckdb)", "message": "exactly one kind of store must be set: duckdb"},
            ]
        }
    )

    duckdb: DuckDBStore | None = Field(default=None, description="An embedded DuckDB database.")
    max_concurrent_runs: Annotated[int, Field(ge=1, le=64)] = Field(
        default=4, description="How many runs may use the store at once; the others wait their turn."
    )


class RollupStoreStatus(Part):
    """What is observed of a RollupStore."""

    observed_generation: Annotated[int, Field(ge=-1)] = Field(
        default=-1,
        description="The generation of the spec that this status was decided on; -1: not seen yet.",
    )
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        default=[],
        description="Ready: the store can be used.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    distribution: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="What the store turned out to be, for instance duckdb."
    )
    version: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="Its version, as it says itself."
    )
