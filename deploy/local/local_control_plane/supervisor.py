"""The process that runs one control plane and takes it down: etcd and kube-apiserver never outlive their use.

It lives by its lifeline (local_tools.lifeline). Whatever ends it, even SIGKILL, its children go with it (Linux: by the
kernel's hand).
"""

import argparse
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from local_control_plane import api, credentials
from local_control_plane.state import SUPERVISOR, Record, StateFolder
from local_tools.folder import write_private
from local_tools.lifeline import Lifeline, Stop, tail
from local_tools.ports import free_ports
from local_tools.process import ProcessId, die_with_parent

_PORT_ATTEMPTS = 5
_POLL_SECONDS = 0.05
_LOG_LINES = 12


class _Failed(Exception):
    """A process ended by itself or did not become ready."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name} {what}")
        self.name = name


class Supervisor:
    """Runs etcd and kube-apiserver in one state folder until its lifeline is cut."""

    def __init__(self, state: StateFolder, programs: Mapping[str, str], api_server_flags: Sequence[str]) -> None:
        self._state = state
        self._programs = programs
        self._flags = api_server_flags
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._server: str | None = None
        self._die_with_parent = die_with_parent()
        self._lifeline = Lifeline()

    def run(self, timeout: float) -> None:
        """Start everything, say so on standard output, and return when asked to end. Raises _Failed."""
        try:
            self._start_on_free_ports(time.monotonic() + timeout)
            self._lifeline.ready()
            while True:
                self._lifeline.wait(None)
                self._check()
        except Stop:
            pass
        finally:
            self._kill_children()

    def _start_on_free_ports(self, deadline: float) -> None:
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            try:
                self._start(free_ports(3), deadline)
                return
            except _Failed as failure:
                self._kill_children()
                lost_port = "address already in use" in tail(self._state.log(failure.name), 50)
                if not lost_port or attempt == _PORT_ATTEMPTS:
                    raise
                for half_made in (self._state.etcd_data, self._state.certificates):
                    shutil.rmtree(half_made, ignore_errors=True)

    def _start(self, ports: Sequence[int], deadline: float) -> None:
        state = self._state
        client, peer = (f"http://127.0.0.1:{port}" for port in ports[:2])
        tokens = credentials.make_tokens()
        write_private(state.tokens, json.dumps(tokens))
        write_private(state.token_file, credentials.token_file(tokens))
        write_private(state.signing_key, credentials.signing_key())
        # Durability would cost an fsync for every write, and this data never outlives its process.
        self._spawn(
            "etcd",
            *("--data-dir", str(state.etcd_data), "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}", "--quota-backend-bytes", str(8 << 30)),
        )
        # No controller manager means no default service accounts, for which that admission plugin would wait.
        self._spawn(
            "kube-apiserver",
            *("--etcd-servers", client, "--cert-dir", str(state.certificates)),
            *(
                "--secure-port",
                str(ports[2]),
                "--bind-address",
                "127.0.0.1",
                "--advertise-address",
                "127.0.0.1",
            ),
            *("--service-cluster-ip-range", "10.0.0.0/24", "--disable-admission-plugins", "ServiceAccount"),
            *("--service-account-issuer", "https://kubernetes.default.svc"),
            *("--service-account-key-file", str(state.signing_key)),
            *("--service-account-signing-key-file", str(state.signing_key)),
            *("--token-auth-file", str(state.token_file), "--authorization-mode", "RBAC"),
            *("--max-requests-inflight", "4000", "--max-mutating-requests-inflight", "2000"),
            *self._flags,
        )
        server = f"https://127.0.0.1:{ports[2]}"
        authority = self._await_authority(deadline)
        self._await_ready(server, authority, tokens[credentials.ADMIN], deadline)
        write_private(state.authority, authority)
        write_private(state.kubeconfig, credentials.kubeconfig(server, authority, tokens, credentials.ADMIN))
        for user in tokens.keys() - {credentials.ADMIN}:
            text = credentials.kubeconfig(server, authority, {user: tokens[user]}, user)
            write_private(state.user_kubeconfig(user), text)
        self._server = server
        self._record()

    def _await_authority(self, deadline: float) -> str:
        # kube-apiserver writes the certificates before the key, so the key says that they are whole.
        while not (self._state.certificates / "apiserver.key").exists():
            self._pause(deadline)
        return credentials.authority(self._state.certificates / "apiserver.crt")

    def _await_ready(self, server: str, authority: str, token: str, deadline: float) -> None:
        context = ssl.create_default_context(cadata=authority)
        while True:
            try:
                if api.request(server, context, token, "GET", "/readyz", timeout=2)[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            self._pause(deadline)

    def _pause(self, deadline: float) -> None:
        self._lifeline.wait(_POLL_SECONDS)
        self._check()
        if time.monotonic() >= deadline:
            raise _Failed("kube-apiserver", "did not become ready in time")

    def _check(self) -> None:
        for name, child in self._children.items():
            if child.poll() is not None:
                raise _Failed(name, f"ended by itself with exit code {child.returncode}")

    def _spawn(self, name: str, *flags: str) -> None:
        with self._state.log(name).open("wb") as log:
            self._children[name] = subprocess.Popen(
                [self._programs[name], *flags],
                cwd=self._state.path,
                # Nothing of the user's: etcd takes ETCD_* for flags, and both follow proxy settings.
                env={"PATH": os.defpath, "HOME": str(self._state.path)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=self._die_with_parent,  # noqa: PLW1509  (this process has one thread)
            )
        self._record()

    def _record(self) -> None:
        pids = {SUPERVISOR: os.getpid(), **{name: child.pid for name, child in self._children.items()}}
        self._state.write(Record(self._server, {name: ProcessId.of(pid) for name, pid in pids.items()}))

    def _kill_children(self) -> None:
        # At once: their data is thrown away, so there is nothing to finish.
        for child in self._children.values():
            child.kill()
        for child in self._children.values():
            child.wait()
        self._children.clear()


def main() -> int:
    """Run one control plane; the state folder must be prepared."""
    parser = argparse.ArgumentParser(description="Run one control plane; started by local_control_plane itself.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--program", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--timeout", type=float, required=True)
    parser.add_argument("--temporary", action="store_true", help="remove the folder in the end")
    parser.add_argument("--api-server-flag", action="append", default=[])
    options = parser.parse_args()
    state = StateFolder(options.directory)
    state.write(Record(None, {SUPERVISOR: ProcessId.of(os.getpid())}))
    try:
        programs = dict(each.split("=", 1) for each in options.program)
        Supervisor(state, programs, options.api_server_flag).run(options.timeout)
    except _Failed as failure:
        log = state.log(failure.name)
        text = f"{failure}. The end of its log, {log}:\n{tail(log, _LOG_LINES)}"
        Lifeline.failed(text)
        state.erase()  # the logs stay
        return 1
    if options.temporary:
        shutil.rmtree(state.path, ignore_errors=True)
    else:
        state.erase()
    return 0


if __name__ == "__main__":
    sys.exit(main())
