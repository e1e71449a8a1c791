"""OpenSearch and Elasticsearch as a store: sources, rollup indices and claims are indices of one cluster."""

from rollup_operator.stores.host_rules import HostRules
from rollup_operator.stores.opensearch.store import ClusterStore, Kind
from rollup_operator.stores.opensearch.transport.aws_identity import Identities
from rollup_operator.stores.opensearch.transport.resolver import Lookups
from rollup_operator.stores.opensearch.transport.sessions import Connections
from rollup_operator.stores.opensearch.transport.tls import Contexts

__all__ = ["ClusterStore", "Connections", "Contexts", "HostRules", "Identities", "Kind", "Lookups"]
