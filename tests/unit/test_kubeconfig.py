"""Which API server, and as whom: kubeconfigs as kubectl reads them."""

import base64
import json
import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from rollup_operator.kube.connection import Connection, NoConnection
from rollup_operator.kube.kubeconfig import find_connection, from_kubeconfig, from_service_account
from support.store_front import Authority


def entry(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, kind: {key.replace("_", "-"): value for key, value in fields.items()}}


def kubeconfig(path: Path, *, current: str | None = "here", **parts: list[dict[str, Any]]) -> Path:
    """Write a kubeconfig with one context, `here`, unless `parts` say otherwise."""
    whole = {
        "clusters": [entry("cluster", "local", server="https://127.0.0.1:6443")],
        "users": [entry("user", "me", token="secret")],
        "contexts": [entry("context", "here", cluster="local", user="me")],
    } | parts
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole | ({"current-context": current} if current else {})))
    return path


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "KUBECONFIG":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


async def sent_headers(connection: Connection) -> "dict[str, list[str]]":
    """What the connection's middlewares make of a request."""
    sent: dict[str, list[str]] = {}

    async def handler(request: Any) -> Any:
        for name, value in request.headers.items():
            sent.setdefault(name, []).append(value)
        sent["server name"] = [request.server_hostname]

    async with connection.session(connections=1) as session:
        session._middlewares = (*connection.middlewares, lambda request, _: handler(request))
        with pytest.raises(AttributeError):  # the answer is None
            await session.get("api")
    return sent


async def one_token(connection: Connection) -> str:
    (sent,) = (await sent_headers(connection))["Authorization"]
    assert sent.startswith("Bearer ")
    return sent.removeprefix("Bearer ")


async def test_the_current_context_is_meant_unless_one_is_named(tmp_path: Path) -> None:
    file = kubeconfig(
        tmp_path / "config",
        clusters=[
            entry("cluster", "a", server="https://a.example:1"),
            entry("cluster", "b", server="https://b.example:2/k8s/clusters/b"),
        ],
        contexts=[
            entry("context", "here", cluster="a", user="me"),
            entry("context", "there", cluster="b", user="me", namespace="team"),
        ],
    )
    here, there = from_kubeconfig(file), from_kubeconfig(file, context="there")
    assert (here.server, here.namespace) == ("https://a.example:1", "default")
    assert (there.server, there.namespace) == ("https://b.example:2/k8s/clusters/b", "team")
    assert await one_token(there) == "secret"


async def test_of_several_files_the_first_to_name_something_wins_and_paths_are_the_files_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kubeconfig(tmp_path / "one" / "config", current=None, users=[entry("user", "me", tokenFile="token")])
    (tmp_path / "one" / "token").write_text("from a file\n")
    second = kubeconfig(
        tmp_path / "two" / "config",
        current="there",
        clusters=[entry("cluster", "local", server="https://second.example")],
        contexts=[entry("context", "there", cluster="local", user="me")],
    )
    missing = tmp_path / "missing"
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(["", str(missing), str(first), str(second)]))
    found = find_connection()
    assert found.server == "https://127.0.0.1:6443"
    assert await one_token(found) == "from a file"
    assert find_connection(context="here").server == found.server
    alone = find_connection(str(second))
    assert (alone.server, await one_token(alone)) == ("https://second.example", "secret")


async def test_without_a_word_the_home_folder_is_looked_at(tmp_path: Path) -> None:
    with pytest.raises(NoConnection, match="set KUBECONFIG or --kubeconfig"):
        find_connection()
    kubeconfig(tmp_path / "home" / ".kube" / "config")
    assert await one_token(find_connection()) == "secret"


@pytest.mark.parametrize(
    ("parts", "context", "words"),
    [
        ({"current": None}, None, ["no current-context", "--context", "there is here"]),
        ({}, "elsewhere", ["name elsewhere in", "contexts", "there is context here"]),
        ({"clusters": []}, None, ["name local in", "clusters"]),
        ({"users": []}, None, ["name me in", "users"]),
        ({"users": [{"user": {}}]}, None, ["users list to have 'name' key"]),
        ({"clusters": [entry("cluster", "local")]}, None, ["cluster 'local' is no https:// URL"]),
        ({"clusters": [entry("cluster", "local", server="127.0.0.1:6443")]}, None, ["no https:// URL"]),
        ({"contexts": [entry("context", "here", user="me")]}, None, ["Expected key cluster"]),
        ({"users": [entry("user", "me", auth_provider={"name": "gcp"})]}, None, ["'me'", "auth-provider", "exec"]),
        (
            {"clusters": [entry("cluster", "local", server="https://x", certificate_authority_data="bm9uZQ==")]},
            None,
            ["cannot be used", "no certificate"],
        ),
        (
            {"clusters": [entry("cluster", "local", server="https://x", certificate_authority="gone.crt")]},
            None,
            ["cannot be used", "gone.crt"],
        ),
        ({"users": [entry("user", "me", client_certificate_data="bm9uZQ==")]}, None, ["cannot be used", "PEM"]),
        (
            {"clusters": [entry("cluster", "local", server="https://x", proxy_url="socks5://proxy:1080")]},
            None,
            ["proxy-url 'socks5://proxy:1080'", "only http and https"],
        ),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, parts: dict[str, Any], context: str | None, words: list[str]
) -> None:
    file = kubeconfig(tmp_path / "config", **parts)
    with pytest.raises(NoConnection) as caught:
        from_kubeconfig(file, context=context)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("{a: [", "cannot be used"), ("- 1\n", "is no kubeconfig"), ("", "file is empty")]
)
def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(NoConnection, match=message) as caught:
        from_kubeconfig(file)
    assert str(file) in str(caught.value)
    with pytest.raises(NoConnection, match="there is no file"):
        from_kubeconfig(tmp_path / "missing")


async def test_a_password_impersonation_and_another_server_name_are_heeded(tmp_path: Path) -> None:
    file = kubeconfig(
        tmp_path / "config",
        clusters=[entry("cluster", "local", server="https://127.0.0.1:6443", tls_server_name="kubernetes.default")],
        users=[
            {
                "name": "me",
                "user": {
                    "username": "me",
                    "password": "pä",
                    "as": "ops",
                    "as-uid": "7",
                    "as-groups": ["a", "b"],
                    "as-user-extra": {"example.com/scopes": ["x", "y"]},
                },
            }
        ],
    )
    sent = await sent_headers(from_kubeconfig(file))
    assert sent["Authorization"] == ["Basic " + base64.b64encode("me:pä".encode()).decode()]
    assert sent["Impersonate-User"] == ["ops"]
    assert sent["Impersonate-Uid"] == ["7"]
    assert sent["Impersonate-Group"] == ["a", "b"]
    assert sent["Impersonate-Extra-example.com%2Fscopes"] == ["x", "y"]
    assert sent["server name"] == ["kubernetes.default"]


def test_a_cluster_may_be_trusted_blindly(tmp_path: Path) -> None:
    file = kubeconfig(
        tmp_path / "config", clusters=[entry("cluster", "local", server="https://x", insecure_skip_tls_verify=True)]
    )
    found = from_kubeconfig(file)
    assert (found.ssl.check_hostname, found.ssl.verify_mode) == (False, ssl.CERT_NONE)


@pytest.mark.parametrize(
    ("server", "configured", "environment", "proxy"),
    [
        ("https://far.example", None, {}, None),
        ("https://far.example", "http://own:3128", {"HTTPS_PROXY": "http://other:3128"}, "http://own:3128"),
        ("https://far.example", None, {"HTTPS_PROXY": "http://other:3128"}, "http://other:3128"),
        ("https://far.example", None, {"HTTPS_PROXY": "http://other:3128", "NO_PROXY": ".example"}, None),
        ("https://127.0.0.1:6443", None, {"HTTPS_PROXY": "http://other:3128"}, None),
        ("https://localhost:6443", None, {"HTTPS_PROXY": "http://other:3128"}, None),
    ],
)
def test_the_proxy_is_the_clusters_or_the_environments(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    configured: str | None,
    environment: dict[str, str],
    proxy: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cluster = {"server": server} | ({"proxy_url": configured} if configured else {})
    assert (
        from_kubeconfig(kubeconfig(tmp_path / "config", clusters=[entry("cluster", "local", **cluster)])).proxy == proxy
    )


async def test_a_certificate_lies_beside_the_file_that_names_it(tmp_path: Path) -> None:
    """Even where another file names the cluster."""
    kept = Authority.make(tmp_path / "users").issue("client")
    users = kubeconfig(
        tmp_path / "users" / "config",
        clusters=[],
        contexts=[],
        current=None,
        users=[
            entry("user", "me", client_certificate=kept.certificate.name, client_key=kept.key.name),
        ],
    )
    clusters = kubeconfig(tmp_path / "clusters" / "config", users=[])
    assert from_kubeconfig(clusters, users).login is None


def test_of_several_files_the_first_current_context_counts(tmp_path: Path) -> None:
    clusters = [entry("cluster", "local", server="https://second.example")]
    first, second = kubeconfig(tmp_path / "1"), kubeconfig(tmp_path / "2", current="other", clusters=clusters)
    assert from_kubeconfig(first, second).server == "https://127.0.0.1:6443"


async def test_a_pod_connects_as_its_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = tmp_path / "pod"
    Authority.make(pod)
    (pod / "token").write_text("projected\n")
    (pod / "namespace").write_text("rollups\n")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NoConnection, match="service account cannot be used"):
        from_service_account(pod)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    found = from_service_account(pod)
    assert (found.server, found.namespace) == ("https://[fd00::1]:443", "rollups")
    assert await one_token(found) == "projected"
