"""No name becomes more of a path of the API server than one of its segments."""

import time
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from rollup_operator.kube import paths
from rollup_operator.model.names import is_name, is_namespace
from rollup_operator.stores.errors import SourceInvalid
from rollup_operator.stores.opensearch.source import sources
from support import bodies
from support.http_calls import call, served
from support.http_double import Cluster

HELPERS = {
    "jobs": (paths.jobs_path, "/apis/rollup-operator.dev/v1alpha1/namespaces/{}/rollupjobs/{}"),
    "stores": (paths.stores_path, "/apis/rollup-operator.dev/v1alpha1/namespaces/{}/rollupstores/{}"),
    "secrets": (paths.secret_path, "/api/v1/namespaces/{}/secrets/{}"),
    "leases": (paths.leases_path, "/apis/coordination.k8s.io/v1/namespaces/{}/leases/{}"),
    "events": (lambda namespace, _: paths.events_path(namespace), "/apis/events.k8s.io/v1/namespaces/{}/events"),
    "events-about": (lambda namespace, _: paths.events_about_path(namespace), "/api/v1/namespaces/{}/events"),
}
BASE = URL("https://api.example/prefix/")

texts = st.text(max_size=20) | st.text("ab.-/%2f?#\\ \n\0A", max_size=12)


@pytest.mark.parametrize("helper", HELPERS)
@given(namespace=texts, name=texts)
@example(namespace="team-a", name="..")
@example(namespace="..", name="a")
@example(namespace="a", name="../../../../../../api/v1/namespaces/team-b/secrets/b-login")
@example(namespace="a", name="..%2f..%2fsecrets")
@example(namespace="a", name="x?watch=true")
@example(namespace="a", name="x\n")
@example(namespace="a.b", name="a.b")
@example(namespace="a", name="a..b")
def test_a_path_has_the_segments_that_were_meant(helper: str, namespace: str, name: str) -> None:
    make, form = HELPERS[helper]
    try:
        path = make(namespace, name)
    except paths.InvalidName:
        assert not (is_namespace(namespace) and is_name(name))
        return
    assert path == form.format(namespace, name)
    url = BASE.join(URL(path.lstrip("/")))
    assert (url.query_string, url.fragment) == ("", "")
    assert unquote(url.raw_path) == f"/prefix{path}"


@pytest.mark.parametrize("make", [is_name, is_namespace])
@pytest.mark.parametrize("text", ["a" * 10**6 + "!", "a-" * 10**6, "a." * 10**6, "-" * 10**6])
def test_a_long_text_is_no_name(make: Any, text: str) -> None:
    began = time.thread_time()
    assert not make(text)
    assert time.thread_time() - began < 0.1


def test_an_error_does_not_repeat_a_long_text() -> None:
    with pytest.raises(paths.InvalidName) as error:
        paths.jobs_path("a", "x/" * 5000)
    assert len(str(error.value)) < 200


class Silent:
    """A cluster to which nothing may be sent."""

    async def call(self, *_: object, **__: object) -> None:
        raise AssertionError("something was sent")


@pytest.mark.parametrize("pattern", ["..", "a,..", ".", "../_cluster/settings", "a/b", "logs-*,../x/*.parquet", "/"])
async def test_a_pattern_is_one_part_of_a_clusters_path(pattern: str) -> None:
    cluster: Any = Silent()
    with pytest.raises(SourceInvalid, match="name indices"):
        await sources.fields(cluster, pattern, "out")
    with pytest.raises(SourceInvalid, match="name indices"):
        await sources.search(cluster, pattern, {}, doing="searching", opaque_id="x")


STORES = [
    "../../../../../../api/v1/namespaces/team-b/secrets/b-login",
    "../../../../../../apis/rollup-operator.dev/v1alpha1/rollupjobs?watch=true",
    "../../../../../../healthz",
    "..",
    "x/status",
    "x%2f..%2f..",
    "x?y",
    "x#y",
]


@pytest.mark.parametrize("name", STORES)
async def test_a_preview_names_no_store_outside(name: str) -> None:
    cluster = Cluster()
    groups = {"dateHistogram": {"field": "timestamp", "fixedInterval": "1h"}}
    body = bodies.job("p", storeRef={"name": name}, indexPattern="sensor-*", groups=groups, metrics=None)
    async with served(cluster) as client:
        status, answer = await call(client, "POST", "/_rollup/job/_preview", body)
    assert status == 400
    assert "spec.storeRef.name: cannot be the name of an object" in answer["error"]["reason"]
    assert not [path for path in cluster.reads if "rollupstores" in path or ".." in path]
