"""OpenSearch and Elasticsearch as a store: sources, rollup indices and claims are indices of one cluster."""

from rollup_operator.stores.opensearch.aws_identity import Identities
from rollup_operator.stores.opensearch.connection import Connections
from rollup_operator.stores.opensearch.hosts import HostRules
from rollup_operator.stores.opensearch.lookups import Lookups
from rollup_operator.stores.opensearch.store import ClusterStore, Kind
from rollup_operator.stores.opensearch.tls import Contexts

__all__ = ["ClusterStore", "Connections", "Contexts", "HostRules", "Identities", "Kind", "Lookups"]
