"""Which API server, and as whom: kubeconfigs as kubectl reads them."""

import base64
import json
import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from rollup_operator.kube.connection import Connection, NoConnection, from_kubeconfig
from rollup_operator.kube.credentials import BearerToken
from rollup_operator.kube.kubeconfig import choose, files_named


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


def one_token(connection: Connection) -> str:
    (middleware,) = connection.middlewares
    assert isinstance(middleware, BearerToken)
    return middleware.current()


def test_the_current_context_is_meant_unless_one_is_named(tmp_path: Path) -> None:
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
    assert one_token(there) == "secret"


def test_of_several_files_the_first_to_name_something_wins_and_paths_are_the_files_own(
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
    found = Connection.find()
    assert found.server == "https://127.0.0.1:6443"
    assert one_token(found) == "from a file"
    assert Connection.find(context="here").server == found.server
    alone = Connection.find(str(second))
    assert (alone.server, one_token(alone)) == ("https://second.example", "secret")


def test_without_a_word_the_home_folder_is_looked_at(tmp_path: Path) -> None:
    with pytest.raises(NoConnection, match="set KUBECONFIG or --kubeconfig"):
        Connection.find()
    kubeconfig(tmp_path / "home" / ".kube" / "config")
    assert one_token(Connection.find()) == "secret"


@pytest.mark.parametrize(
    ("parts", "context", "told"),
    [
        ({"current": None}, None, ["no current-context", "--context", "there is here"]),
        ({}, "elsewhere", ["no context named 'elsewhere'", "there is here"]),
        ({"clusters": []}, None, ["no cluster named 'local'"]),
        ({"users": []}, None, ["no user named 'me'"]),
        ({"users": [{"user": {}}]}, None, ["each of its users needs a name"]),
        ({"clusters": [entry("cluster", "local")]}, None, ["cluster 'local' has no server"]),
        ({"clusters": [entry("cluster", "local", server="127.0.0.1:6443")]}, None, ["no https:// URL"]),
        ({"contexts": [entry("context", "here", user="me")]}, None, ["context 'here' names no cluster"]),
        ({"users": [entry("user", "me", auth_provider={"name": "gcp"})]}, None, ["'me'", "auth-provider", "exec"]),
        (
            {"clusters": [entry("cluster", "local", server="https://x", certificate_authority_data="bm9uZQ==")]},
            None,
            ["context 'here'", "certificate cannot be used"],
        ),
        (
            {"clusters": [entry("cluster", "local", server="https://x", certificate_authority="gone.crt")]},
            None,
            ["certificate cannot be used"],
        ),
        ({"users": [entry("user", "me", client_certificate_data="bm9uZQ==")]}, None, ["certificate cannot be used"]),
        (
            {"clusters": [entry("cluster", "local", server="https://x", proxy_url="socks5://proxy:1080")]},
            None,
            ["proxy-url 'socks5://proxy:1080'", "only http and https"],
        ),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, parts: dict[str, Any], context: str | None, told: list[str]
) -> None:
    file = kubeconfig(tmp_path / "config", **parts)
    with pytest.raises(NoConnection) as caught:
        from_kubeconfig(file, context=context)
    for word in told:
        assert word in str(caught.value)


@pytest.mark.parametrize(("text", "told"), [("{a: [", "is no YAML"), ("- 1\n", "holds no mapping")])
def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(NoConnection, match=told) as caught:
        choose([file])
    assert str(file) in str(caught.value)
    with pytest.raises(NoConnection, match="there is no file"):
        choose([tmp_path / "missing"])


def test_a_list_of_files_has_no_empty_parts() -> None:
    assert files_named(os.pathsep.join(["a", "", "b"])) == [Path("a"), Path("b")]
    assert files_named("") == []


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
