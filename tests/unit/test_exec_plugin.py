"""Logging in with a command: the protocol of client.authentication.k8s.io, with real commands and a real server."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web

from rollup_operator.kube.client import KubeClient, KubeError, Unreachable
from rollup_operator.kube.connection import Connection, NoConnection
from rollup_operator.kube.kubeconfig import EXEC_VERSIONS, from_kubeconfig

V1, V1BETA1 = EXEC_VERSIONS


@dataclass
class Server:
    """Takes one token, and keeps what it was sent."""

    url: str = ""
    token: str = "token-1"
    seen: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        sent = request.headers.get("Authorization", "")
        self.seen.append(sent)
        if sent != f"Bearer {self.token}":
            return web.json_response({"reason": "Unauthorized", "message": "Unauthorized"}, status=401)
        return web.json_response({"path": request.path})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/k8s/clusters/c-1"
    yield made
    await runner.cleanup()


Connect = Callable[..., Connection]


@pytest.fixture
def connect(server: Server, tmp_path: Path) -> Connect:
    """Make a connection whose command runs `code`; `calls` counts the lines that the code left in `calls`."""

    def make(code: str, cluster: dict[str, Any] | None = None, **said: Any) -> Connection:
        command = tmp_path / "bin" / "login"
        command.parent.mkdir(exist_ok=True)
        head = f"#!{sys.executable}\nimport json, os, sys\nfolder = {str(tmp_path)!r}\n"
        head += "open(folder + '/calls', 'a').write(os.environ['KUBERNETES_EXEC_INFO'] + '\\n')\n"
        head += "n = len(open(folder + '/calls').readlines())\n"
        head += "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        head += "def give(**status): print(json.dumps(dict(kind='ExecCredential', apiVersion=info['apiVersion'], "
        head += "status=status)))\n"
        command.write_text(head + code)
        command.chmod(0o755)
        whole = {"apiVersion": V1, "command": "bin/login", "interactiveMode": "Never"} | said
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "me"}}],
            "clusters": [{"name": "c", "cluster": {"server": server.url} | (cluster or {})}],
            "users": [{"name": "me", "user": {"exec": {k: v for k, v in whole.items() if v is not None}}}],
        }
        (tmp_path / "config").write_text(json.dumps(config))
        return from_kubeconfig(tmp_path / "config")

    return make


def calls(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


@pytest.mark.parametrize("version", EXEC_VERSIONS)
async def test_the_command_is_run_once_and_given_what_it_needs(
    server: Server, connect: Connect, tmp_path: Path, version: str
) -> None:
    connection = connect(
        "give(token='token-' + os.environ['WHICH'] + sys.argv[1])",
        {"extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}]},
        apiVersion=version,
        env=[{"name": "WHICH", "value": ""}],
        args=["1"],
        provideClusterInfo=True,
        interactiveMode="IfAvailable" if version == V1 else None,
    )
    async with KubeClient(connection) as kube:
        for _ in range(3):
            assert await kube.get("/apis/x") == {"path": "/k8s/clusters/c-1/apis/x"}
    assert server.seen == ["Bearer token-1"] * 3
    (info,) = calls(tmp_path)
    assert (info["apiVersion"], info["kind"]) == (version, "ExecCredential")
    cluster = info["spec"]["cluster"]
    assert (cluster["server"], cluster["config"]) == (server.url, {"audience": "x"})
    assert info["spec"]["interactive"] is False


async def test_the_cluster_is_passed_only_when_asked_for(connect: Connect, tmp_path: Path) -> None:
    async with KubeClient(connect("give(token='token-1')")) as kube:
        await kube.get("/apis/x")
    assert "cluster" not in calls(tmp_path)[0]["spec"]


async def test_a_token_that_has_expired_is_renewed_before_it_is_sent(
    server: Server, connect: Connect, tmp_path: Path
) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat(timespec="seconds").replace("+00:00", "Z")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds").replace("+00:00", "Z")
    connection = connect(f"give(token='token-1', expirationTimestamp={soon!r} if n < 3 else {later!r})")
    async with KubeClient(connection) as kube:
        for _ in range(5):
            await kube.get("/apis/x")
    assert len(calls(tmp_path)) == 3
    assert server.seen == ["Bearer token-1"] * 5


async def test_a_clock_that_is_ahead_runs_the_command_no_more_often(
    server: Server, connect: Connect, tmp_path: Path
) -> None:
    """To it every token has expired already; the server, which knows better, refuses one that has."""
    past = (datetime.now(UTC) - timedelta(days=4 * 365)).isoformat(timespec="seconds").replace("+00:00", "Z")
    connection = connect(f"give(token=f'token-{{n}}', expirationTimestamp={past!r})")
    async with KubeClient(connection) as kube:
        for _ in range(3):
            await kube.get("/apis/x")
        server.token = "token-2"
        await kube.get("/apis/x")
    assert len(calls(tmp_path)) == 2


async def test_a_token_that_is_refused_is_renewed_once(server: Server, connect: Connect, tmp_path: Path) -> None:
    connection = connect("give(token=f'token-{n}')")
    async with KubeClient(connection) as kube:
        await kube.get("/apis/x")
        server.token = "token-2"
        assert (await kube.post("/apis/x", {}))["path"].endswith("/apis/x")
        server.token = "never"
        with pytest.raises(KubeError) as caught:
            await kube.get("/apis/x")
        assert caught.value.status == 401
    assert len(calls(tmp_path)) == 3


async def test_a_token_file_that_has_rotated_is_read_again_once_its_token_is_refused(
    server: Server, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("token-1\n")
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "me"}}],
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "me", "user": {"tokenFile": "token", "token": "of before"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    async with KubeClient(from_kubeconfig(tmp_path / "config")) as kube:
        await kube.get("/apis/x")
        server.token = "token-2"
        token.write_text("token-2\n")
        assert (await kube.post("/apis/x", {}))["path"].endswith("/apis/x")
        server.token = "token-3"
        with pytest.raises(KubeError, match="Unauthorized"):
            await kube.get("/apis/x")
        token.unlink()
        with pytest.raises(Unreachable, match="the token cannot be read"):
            await kube.get("/apis/x")
    assert server.seen == [f"Bearer token-{n}" for n in (1, 1, 2, 2, 2)]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.exit(7)", "process returned 7"),
        ("print('hello')", "failed to decode process output"),
        ("print('{}')", "malformed response. missing key"),
        ("info['apiVersion'] = 'other/v2'; give(token='x')", "other/v2 does not match"),
        ("give()", "neither a token nor a client certificate"),
        ("give(clientCertificateData='x')", "neither a token nor a client certificate"),
        ("give(clientCertificateData='x', clientKeyData='y')", "client certificate that cannot be used"),
        ("give(token='x', expirationTimestamp='soon')", "printed no ExecCredential"),
    ],
)
async def test_a_command_that_fails_is_named_and_nothing_is_sent(
    server: Server, connect: Connect, code: str, message: str
) -> None:
    async with KubeClient(connect(code)) as kube:
        with pytest.raises(Unreachable, match=message) as caught:
            await kube.get("/apis/x")
    assert not caught.value.sent
    assert "user 'me'" in str(caught.value)
    assert "login" in str(caught.value)
    assert server.seen == []


async def test_a_command_that_hangs_holds_no_request_that_is_given_up(connect: Connect, tmp_path: Path) -> None:
    """Nor the end of the process: the thread that waits for it is a daemon."""
    pipe = tmp_path / "pid"
    os.mkfifo(pipe)
    connection = connect("import time; open(folder + '/pid', 'w').write(str(os.getpid())); time.sleep(600)")
    async with KubeClient(connection) as kube:
        request = asyncio.create_task(kube.get("/apis/x"))
        command = psutil.Process(int(await asyncio.to_thread(pipe.read_text)))
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
    (waiting,) = (thread for thread in threading.enumerate() if thread.name == "login")
    assert waiting.daemon
    command.kill()
    await asyncio.to_thread(waiting.join)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"command": None}, ["exec.command is missing"]),
        (
            {"command": "no-such-login", "installHint": "brew install it"},
            ["'no-such-login'", "not installed", "brew install it"],
        ),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, ["v1alpha1", "not supported", V1, V1BETA1]),
        ({"interactiveMode": None}, ["interactiveMode", "Never, IfAvailable or Always"]),
        ({"interactiveMode": "Sometimes"}, ["'Sometimes'"]),
        ({"interactiveMode": "Always"}, ["terminal"]),
    ],
)
def test_what_cannot_work_is_reported_before_anything_is_tried(
    connect: Connect, said: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(NoConnection) as caught:
        connect("", **said)
    assert "user 'me'" in str(caught.value)
    for word in words:
        assert word in str(caught.value)
