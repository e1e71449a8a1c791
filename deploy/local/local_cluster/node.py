"""The node's first process: PID 1 of its own mount, network, PID, IPC and UTS namespaces.

It makes the namespaces into a node, starts the programs and lives by its lifeline (local_tools.lifeline). When it
ends, however that happens, the kernel ends all that runs in them, pods too.
"""

import argparse
import contextlib
import http.client
import os
import resource
import secrets
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from local_cluster import configuration
from local_cluster.archive import pause_archive
from local_cluster.layout import NODE_ADDRESS, POD_RANGE, SERVER, SERVICE_RANGE, SOCKET, Layout
from local_cluster.needs import plugins, search_path
from local_control_plane import api, credentials
from local_control_plane.build import target
from local_tools.folder import write_private
from local_tools.lifeline import Lifeline, Stop, tail

_POLL_SECONDS = 0.05
_LOG_LINES = 12
_NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts")
# The kubelet insists on these; it is shown them, and the machine keeps its own.
_SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}


class _Failed(Exception):
    """A program ended by itself or did not become ready."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name} {what}")
        self.name = name


class _Node:
    def __init__(self, layout: Layout, programs: Mapping[str, str], deadline: float) -> None:
        self._layout = layout
        self._programs = programs
        self._deadline = deadline
        self._running: dict[int, str] = {}
        self._lifeline = Lifeline()

    def run(self) -> None:
        """Start everything, say so on standard output, and return when asked to end. Raises _Failed."""
        try:
            self._make_namespaces_a_node()
            self._start()
            self._lifeline.ready()
            while True:
                self._lifeline.wait(None)
                self._reap()
        except Stop:
            pass

    def _make_namespaces_a_node(self) -> None:
        layout = self._layout
        _command("mount", "--make-rprivate", "/")
        _command("mount", "--make-rshared", "/")  # the kubelet shares volumes with pods that way
        _command("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
        _command("mount", "--bind", str(layout.logs), "/var/log")
        for folder in ("/run/lock", "/run/sysctl", "/var/log/pods"):
            Path(folder).mkdir(parents=True, exist_ok=True)
        for name, value in _SYSCTLS.items():
            _cover(Path("/proc/sys") / name, f"{value}\n")
        # No name server: a look-up (of a registry, say, for an image that was not loaded) fails at once.
        _cover(Path("/etc/hosts"), f"127.0.0.1 localhost\n{NODE_ADDRESS} {layout.name}\n")
        _cover(Path("/etc/resolv.conf").resolve(), "")
        socket.sethostname(layout.name)
        _command("ip", "link", "set", "lo", "up")
        _command("ip", "link", "add", "cni0", "type", "bridge")
        _command("ip", "addr", "add", f"{NODE_ADDRESS}/{POD_RANGE.rpartition('/')[2]}", "dev", "cni0")
        _command("ip", "link", "set", "cni0", "up")
        _command("ip", "route", "add", "default", "dev", "cni0")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        _make_cgroups(layout.name)

    def _start(self) -> None:
        layout, data = self._layout, self._layout.data
        tokens = {user: secrets.token_urlsafe(32) for user in ("admin", "node")}
        key, token_file, certificates = data / "service-account.key", data / "tokens.csv", data / "certificates"
        write_private(key, credentials.signing_key())
        write_private(
            token_file,
            f"{tokens['admin']},admin,admin,system:masters\n"
            f"{tokens['node']},system:node:{layout.name},node,system:nodes\n",
        )
        write_private(layout.token, tokens["admin"])
        networks = data / "networks"
        networks.mkdir()
        (networks / "10-bridge.conflist").write_text(configuration.network())
        plugin_folder = plugins()
        assert plugin_folder is not None
        write_private(data / "containerd.toml", configuration.containerd(data, plugin_folder, networks))
        open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        write_private(data / "kubelet.json", configuration.kubelet(layout.name, open_files=open_files))
        self._spawn("etcd", *configuration.etcd_flags(data))
        self._spawn("containerd", "--config", str(data / "containerd.toml"))
        self._spawn("kube-apiserver", *configuration.api_server_flags(certificates, SERVICE_RANGE, key, token_file))
        pause_archive(Path(self._programs["pause"]), configuration.PAUSE_IMAGE, target()[1], data / "pause.tar")

        self._await("kube-apiserver", (certificates / "apiserver.key").exists)
        authority = credentials.authority(certificates / "apiserver.crt")
        write_private(layout.authority, authority)
        context = ssl.create_default_context(cadata=authority)
        self._await("kube-apiserver", lambda: _is_ready(context, tokens["admin"]))
        for user, path in {"admin": layout.kubeconfig, "node": data / "kubelet.kubeconfig"}.items():
            write_private(path, credentials.kubeconfig(SERVER, authority, {user: tokens[user]}, user))
        admin = ("--kubeconfig", str(layout.kubeconfig))
        self._spawn(
            "kube-controller-manager",
            *(*admin, "--leader-elect=false", "--root-ca-file", str(layout.authority)),
            *("--service-account-private-key-file", str(key)),
        )
        self._spawn("kube-scheduler", *admin, "--leader-elect=false")
        self._await("containerd", lambda: Path(SOCKET).exists())
        self._await("containerd", lambda: _import(data / "pause.tar"))
        self._spawn(
            "kubelet",
            *("--config", str(data / "kubelet.json"), "--kubeconfig", str(data / "kubelet.kubeconfig")),
            *("--root-dir", str(data / "kubelet"), "--hostname-override", layout.name, "--node-ip", NODE_ADDRESS),
        )
        self._spawn("kube-proxy", *configuration.proxy_flags(layout.kubeconfig, layout.name))
        self._await("kubelet", lambda: _node_is_ready(context, tokens["admin"], layout.name))

    def _spawn(self, name: str, *flags: str) -> None:
        with self._layout.log(name).open("wb") as log:
            process = subprocess.Popen(
                [self._programs.get(name, name), *flags],
                cwd=self._layout.data,
                # Nothing else of the user's: these programs follow proxy settings, and take variables for flags.
                env={"PATH": search_path(), "HOME": str(self._layout.data)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        process.returncode = 0  # `_reap` waits for it, as for every process that is left to PID 1
        self._running[process.pid] = name

    def _await(self, name: str, condition: Callable[[], bool]) -> None:
        while not condition():
            self._lifeline.wait(_POLL_SECONDS)
            self._reap()
            if time.monotonic() >= self._deadline:
                raise _Failed(name, "did not become ready in time")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._running:
                name = self._running.pop(pid)
                raise _Failed(name, f"ended by itself with exit code {os.waitstatus_to_exitcode(status)}")


def _command(*words: str) -> None:
    subprocess.run(words, check=True, env={"PATH": search_path()}, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def _cover(path: Path, text: str) -> None:
    """Let the node see another file at `path`; the machine's own stays as it is."""
    cover = Path("/run/sysctl") / path.relative_to("/")
    cover.parent.mkdir(parents=True, exist_ok=True)
    cover.write_text(text)
    _command("mount", "--bind", str(cover), str(path))


def _make_cgroups(name: str) -> None:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():  # v2: one tree
        (root / name).mkdir(exist_ok=True)
        for each in ("cpuset", "cpu", "memory", "pids"):
            with contextlib.suppress(OSError):  # a controller that is not there is not needed
                (root / "cgroup.subtree_control").write_text(f"+{each}")
        return
    for controller in root.iterdir():  # v1: a tree for each controller
        own = controller / name
        if (controller / "cgroup.procs").exists():
            own.mkdir(exist_ok=True)
            for each in ("cpuset.cpus", "cpuset.mems"):
                if (controller / each).exists():
                    (own / each).write_text((controller / each).read_text())


def _import(archive: Path) -> bool:
    command = ["ctr", "--address", SOCKET, "--namespace", "k8s.io", "images", "import", str(archive)]
    return subprocess.run(command, capture_output=True, env={"PATH": search_path()}, check=False).returncode == 0


def _is_ready(context: ssl.SSLContext, token: str) -> bool:
    try:
        return api.request(SERVER, context, token, "GET", "/readyz", timeout=2)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def _node_is_ready(context: ssl.SSLContext, token: str, name: str) -> bool:
    status, node = api.request(SERVER, context, token, "GET", f"/api/v1/nodes/{name}")
    conditions = node.get("status", {}).get("conditions", []) if status == 200 else []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def main() -> int:
    """Run one node; its folder must be prepared, and this process the first of new namespaces."""
    parser = argparse.ArgumentParser(description="Run one node; started by local_cluster itself.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--program", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--timeout", type=float, required=True)
    options = parser.parse_args()
    if os.getpid() != 1:
        again = [sys.executable, "-m", "local_cluster.node", *sys.argv[1:]]
        os.execvp("unshare", ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--mount-proc", *again])  # noqa: S606  (words, no shell)
    layout = Layout(options.directory)
    programs = dict(each.split("=", 1) for each in options.program)
    try:
        _Node(layout, programs, time.monotonic() + options.timeout).run()
    except _Failed as failure:
        log = layout.log(failure.name)
        Lifeline.failed(f"{failure}. The end of its log, {log}:\n{tail(log, _LOG_LINES)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
