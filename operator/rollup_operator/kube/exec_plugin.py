"""Logs in with a command, as the `exec` of a kubeconfig's user says: `aws`, `gke-gcloud-auth-plugin`, `kubelogin`.

The protocol is Kubernetes' own, client.authentication.k8s.io/v1 and v1beta1: the command prints an ExecCredential with
a token, a client certificate, or both. It is run when the first request needs it, again when what it gave expires, and
once more when the API server answers 401.
"""

import asyncio
import math
import os
import shutil
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp
import orjson

from rollup_operator.kube.credentials import CredentialError, NoConnection

GROUP = "client.authentication.k8s.io"
VERSIONS = (f"{GROUP}/v1", f"{GROUP}/v1beta1")
CLUSTER_CONFIG = f"{GROUP}/exec"
"""Name of the extension of a kubeconfig's cluster whose content is handed to the command."""

LEEWAY = 5.0
"""Seconds before its end that a credential counts as expired: the request has a way to go."""


@dataclass(frozen=True)
class Credential:
    """What the command printed."""

    token: str | None = None
    certificate: str | None = None
    """Certificate and key in PEM, one after the other."""
    ends: float = math.inf
    """When it expires, by the monotonic clock."""


@dataclass
class ExecPlugin:
    """Middleware that logs in with a command. One for each user, in one event loop."""

    user: str
    command: str
    arguments: list[str]
    environment: Mapping[str, str]
    version: str
    info: Mapping[str, Any]
    """`spec` of KUBERNETES_EXEC_INFO."""
    interactive: bool
    """Whether the command may ask the person at the terminal."""
    install: Callable[[str], None]
    """Called with a new client certificate, before the next request."""
    _credential: Credential | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Log in if need be, then go on; once more after a 401. Raises CredentialError."""
        used = await self._current()
        self._add(used, request)
        answer = await handler(request)
        if answer.status != 401:
            return answer
        renewed = await self._current(instead_of=used)
        answer.release()
        self._add(renewed, request)
        return await handler(request)

    def _add(self, credential: Credential, request: aiohttp.ClientRequest) -> None:
        if credential.token:
            request.headers["Authorization"] = f"Bearer {credential.token}"

    async def _current(self, instead_of: Credential | None = None) -> Credential:
        """Return a credential that has not expired, and is not the one that was refused."""
        async with self._turn:
            known = self._credential
            if known is None or known is instead_of or time.monotonic() > known.ends - LEEWAY:
                known = await self._run()
                if known.certificate is not None:
                    try:
                        self.install(known.certificate)
                    except ssl.SSLError as e:
                        raise self._error(f"gave a client certificate that cannot be used: {e}") from e
                self._credential = known
            return known

    async def _run(self) -> Credential:
        said = {"apiVersion": self.version, "kind": "ExecCredential", "spec": self.info}
        environment = {**os.environ, **self.environment, "KUBERNETES_EXEC_INFO": orjson.dumps(said).decode()}
        try:
            process = await asyncio.create_subprocess_exec(
                self.command,
                *self.arguments,
                env=environment,
                stdin=None if self.interactive else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
            )
        except OSError as e:
            raise self._error(f"cannot be started: {e.strerror}") from e
        try:
            output, _ = await process.communicate()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            raise self._error(f"failed with exit code {process.returncode}")
        return self._read(output)

    def _read(self, output: bytes) -> Credential:
        try:
            printed = orjson.loads(output)
            kind, version, status = printed["kind"], printed["apiVersion"], printed["status"]
            token, certificate, key = (status.get(name) for name in ("token", "clientCertificateData", "clientKeyData"))
            expiry = status.get("expirationTimestamp")
            lasts = math.inf if not expiry else datetime.fromisoformat(expiry).timestamp() - time.time()
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise self._error(f"printed no ExecCredential with a status: {e!r}") from e
        if (kind, version) != ("ExecCredential", self.version):
            raise self._error(f"printed a {kind} of {version}, where an ExecCredential of {self.version} is expected")
        if bool(certificate) != bool(key) or not (token or certificate):
            raise self._error("printed neither a token nor a client certificate with its key")
        if lasts <= 0:  # this machine's clock is ahead: only the API server, by a 401, can say when it has expired
            lasts = math.inf
        return Credential(token, f"{certificate}\n{key}\n" if certificate else None, time.monotonic() + lasts)

    def _error(self, what: str) -> CredentialError:
        return CredentialError(f"user {self.user!r} of the kubeconfig: the command {self.command!r} {what}")


def exec_plugin(
    user: str, said: Mapping[str, Any], cluster: Mapping[str, Any], install: Callable[[str], None]
) -> ExecPlugin:
    """Read the `exec` of a kubeconfig's user. Raises NoConnection for what cannot be used, with the install hint."""
    at = f"user {user!r} of the kubeconfig"
    command, version = said.get("command"), said.get("apiVersion")
    if not isinstance(command, str) or not command:
        raise NoConnection(f"{at}: exec.command is missing")
    if version not in VERSIONS:
        raise NoConnection(
            f"{at}: exec.apiVersion {version!r} is not supported, only {' and '.join(VERSIONS)}: "
            f"have {command!r} write the kubeconfig anew"
        )
    if shutil.which(command) is None:
        hint = f"\n{said['installHint'].strip()}" if said.get("installHint") else ""
        raise NoConnection(f"{at} logs in with the command {command!r}, which is not installed{hint}")
    interactive = _interactive(at, said.get("interactiveMode"), version)
    info: dict[str, Any] = {"interactive": interactive}
    if said.get("provideClusterInfo"):
        info["cluster"] = _cluster_info(cluster)
    environment = {entry["name"]: entry["value"] for entry in said.get("env") or ()}
    arguments = [str(argument) for argument in said.get("args") or ()]
    return ExecPlugin(user, command, arguments, environment, version, info, interactive, install)


def _interactive(at: str, mode: str | None, version: str) -> bool:
    terminal = sys.stdin is not None and sys.stdin.isatty()
    if mode is None and version == VERSIONS[1]:
        mode = "IfAvailable"
    if mode not in ("Never", "IfAvailable", "Always"):
        raise NoConnection(f"{at}: exec.interactiveMode is {mode!r}: it must be Never, IfAvailable or Always")
    if mode == "Always" and not terminal:
        raise NoConnection(f"{at} logs in by asking at a terminal, and standard input is none")
    return mode != "Never" and terminal


def _cluster_info(cluster: Mapping[str, Any]) -> dict[str, Any]:
    names = ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url")
    found = {name: cluster[name] for name in names if cluster.get(name)}
    for extension in cluster.get("extensions") or ():
        if extension.get("name") == CLUSTER_CONFIG:
            found["config"] = extension.get("extension")
    return found
