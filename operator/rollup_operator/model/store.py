"""RollupStore: where source and result are."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, ValidationError
from pydantic.config import JsonDict

from rollup_operator.model.base import CONTROL, Part, fixed, matching, stays
from rollup_operator.model.names import ObjectName
from rollup_operator.model.status import Condition

_HOST_URL = rf"^https?://[^\s/?#@{CONTROL}]+$"
_SCHEME = matching("^https?://")
# No rule about the old value, as in `in_words`: items of a set have none. An unchanged list passes.
_HOST_RULES: JsonDict = {
    "pattern": None,
    "x-kubernetes-validations": [
        {
            "rule": _SCHEME,
            "message": "a host begins with http:// or https://, as in https://search.example.org:9200",
        },
        {
            "rule": f"!{_SCHEME} || {matching(_HOST_URL)}",
            "message": "a host has a name and a port after http:// or https://, and no login, no path, no query and no "
            "blank; the login goes into the Secret of credentialsSecretRef",
        },
    ],
}
_DATABASE = (
    matching("^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$"),
    "database is the name of a file, as in rollup.duckdb or team/rollup.duckdb: letters, digits, '_', '-' and '.', "
    "each part beginning with a letter or a digit",
)

HostUrl = Annotated[str, StringConstraints(max_length=512, pattern=_HOST_URL), Field(json_schema_extra=_HOST_RULES)]


class DuckDBStoreSpec(Part):
    """An embedded DuckDB database: no server, one machine."""

    database: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        default="rollup.duckdb",
        description="File name of the database, below the folder of the namespace's databases in the operator's own "
        "tree. Immutable.",
        json_schema_extra=fixed("database", _DATABASE, of="store"),
    )


class SecretRef(Part):
    """Names a Secret of the same namespace."""

    name: ObjectName = Field(description="Name of the Secret.")


_IN_A_SECRET: JsonDict = {
    "x-kubernetes-validations": [
        {
            "rule": "false",
            "message": "a store's username and password stand in a Secret: create one with both, and write its name as "
            "credentialsSecretRef.name",
        }
    ]
}


class ClusterStoreSpec(Part):
    """An OpenSearch or Elasticsearch cluster: its indices are sources and hold the results."""

    hosts: Annotated[list[HostUrl], Field(min_length=1, max_length=16)] = Field(
        description="Base URLs of the cluster's nodes, for instance https://search.example.org:9200. The first that "
        "answers is used.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    credentials_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret with username and password, or apiKey, or token; with aws, accessKeyId and "
        "secretAccessKey. Read when a connection is made and when the cluster refuses it.",
    )
    username: Annotated[str, StringConstraints(max_length=256)] | None = Field(
        default=None, description="Refused: see credentialsSecretRef.", json_schema_extra=_IN_A_SECRET
    )
    password: Annotated[str, StringConstraints(max_length=256)] | None = Field(
        default=None, description="Refused: see credentialsSecretRef.", json_schema_extra=_IN_A_SECRET
    )
    ca_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret with ca.crt, the authority that signed the cluster's certificate. Default: the "
        "certificate authorities of the system.",
    )
    client_certificate_secret_ref: SecretRef | None = Field(
        default=None, description="Secret with tls.crt and tls.key: the client certificate for the cluster."
    )
    insecure_skip_tls_verify: bool = Field(
        default=False, description="Do not verify the cluster's certificate. For trials only."
    )
    request_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=120, description="How long one search or one write may take."
    )


class AwsSigning(Part):
    """How requests to Amazon OpenSearch Service are signed."""

    region: Annotated[str, StringConstraints(max_length=32, pattern=r"^[a-z]{2,8}(-[a-z]{2,16}){1,3}-[0-9]{1,2}$")] = (
        Field(description="AWS Region of the domain, for instance eu-central-1.")
    )


class OpenSearchStore(ClusterStoreSpec):
    """An OpenSearch cluster, of one's own or of Amazon OpenSearch Service."""

    aws: AwsSigning | None = Field(
        default=None,
        description="Sign each request with AWS Signature Version 4, for a domain of Amazon OpenSearch Service. The "
        "Secret of credentialsSecretRef then has accessKeyId, secretAccessKey and, for a session, sessionToken. "
        "Without credentialsSecretRef the operator's own AWS identity signs, in namespaces that its setting "
        "store_aws_namespaces names.",
    )


class RollupStoreSpec(Part):
    """What a RollupStore asks for: exactly one kind of store."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "[has(self.duckdb), has(self.opensearch), has(self.elasticsearch)].exists_one(k, k)",
                    "message": "exactly one kind of store must be set: duckdb, opensearch or elasticsearch",
                },
                stays("duckdb", of="store"),
                stays("opensearch", of="store"),
                stays("elasticsearch", of="store"),
            ]
        }
    )

    duckdb: DuckDBStoreSpec | None = Field(default=None, description="An embedded DuckDB database.")
    opensearch: OpenSearchStore | None = Field(default=None, description="An OpenSearch cluster, 1.0 or newer.")
    elasticsearch: ClusterStoreSpec | None = Field(default=None, description="An Elasticsearch cluster, 7.10 or newer.")
    max_concurrent_runs: Annotated[int, Field(ge=1, le=64)] = Field(
        default=4, description="How many runs may use the store at once; the others wait their turn."
    )

    @property
    def place(self) -> tuple[DuckDBStoreSpec | None, OpenSearchStore | None, ClusterStoreSpec | None]:
        """Return what a client is made from: other fields may change without a new client."""
        return self.duckdb, self.opensearch, self.elasticsearch


class RollupStoreStatus(Part):
    """What is observed of a RollupStore."""

    @classmethod
    def published(cls, raw: Mapping[str, Any]) -> Self:
        """Read a status as it was published; one that this version cannot read counts as none."""
        try:
            return cls.model_validate(raw)
        except ValidationError:
            return cls()

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
        default=None, description="What kind of store was found, for instance duckdb."
    )
    version: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="Version that the store reports."
    )
    health: Literal["green", "yellow", "red"] | None = Field(
        default=None, description="Health that the cluster reports. Absent: not a cluster."
    )
    results: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None,
        description="Folder of the results, below the operator's data root: <rollupIndex>/<job id>.parquet. Absent: "
        "they are in the rollup indices of a cluster.",
    )
