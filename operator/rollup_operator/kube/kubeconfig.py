"""Reads kubeconfigs and the pod's service account with the package `kubernetes`.

The package takes 0.13 s to import, and only this module needs it. It reads and merges files, chooses a context, reads
certificates and tokens, and runs the commands of exec plugins (client.authentication.k8s.io/v1 and v1beta1). This
module adds what the package leaves to its caller: when to log in again, impersonation, and errors that say what to
fix.
"""

import os
import shutil
import ssl
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import Configuration
from kubernetes.config import ConfigException
from kubernetes.config.dateutil import parse_rfc3339
from kubernetes.config.exec_provider import ExecProvider
from kubernetes.config.incluster_config import InClusterConfigLoader
from kubernetes.config.kube_config import ConfigNode, KubeConfigLoader, KubeConfigMerger

from rollup_operator.kube.connection import Connection, proxy_of
from rollup_operator.kube.credentials import (
    Credential,
    CredentialError,
    FixedHeaders,
    NoConnection,
    RenewedLogin,
    ServerName,
    basic,
    impersonation,
)
from rollup_operator.net.tls import load_pair, verifying

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

TOKEN_LIFE = 60.0
"""Seconds until a token file is read again: projected tokens rotate."""

EXEC_GROUP = "client.authentication.k8s.io"
EXEC_VERSIONS = (f"{EXEC_GROUP}/v1", f"{EXEC_GROUP}/v1beta1")

LEEWAY = 5.0
"""Seconds before its end when a credential counts as expired: the request takes a while to arrive."""


def find_connection(kubeconfig: str | None = None, context: str | None = None) -> Connection:
    """Use `kubeconfig`, else the files of $KUBECONFIG, else ~/.kube/config, else the pod's service account.

    Raises NoConnection saying what was looked for.
    """
    if kubeconfig:
        return from_kubeconfig(Path(kubeconfig), context=context)
    if files := [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]:
        return from_kubeconfig(*files, context=context)
    home = Path.home() / ".kube" / "config"
    if home.exists():
        return from_kubeconfig(home, context=context)
    if (SERVICE_ACCOUNT / "token").exists():
        return from_service_account(SERVICE_ACCOUNT)
    raise NoConnection("no API server is known: set KUBECONFIG or --kubeconfig, or run in a pod with a service account")


def from_service_account(folder: Path) -> Connection:
    """Connect as the pod's service account. Raises NoConnection."""
    loader = InClusterConfigLoader(token_filename=str(folder / "token"), cert_filename=str(folder / "ca.crt"))
    configuration = Configuration()
    try:
        loader.load_and_set(configuration)
        namespace = (folder / "namespace").read_text().strip()
        tls = verifying(cafile=configuration.ssl_ca_cert)
    except (ConfigException, OSError, ValueError) as e:
        raise NoConnection(f"the pod's service account cannot be used: {e}") from e
    login = RenewedLogin(partial(_read_token, loader, configuration))
    return Connection(str(configuration.host), tls, middlewares=(login,), namespace=namespace, login=login)


def from_kubeconfig(*files: Path, context: str | None = None) -> Connection:
    """Connect as kubeconfigs say: with a token, a client certificate, a password or a command that logs in.

    Files that do not exist are skipped, unless none does. The first file to name something wins, and paths are
    relative to the file that names them. Raises NoConnection for a file or a way of logging in that cannot be used.
    """
    found = [file for file in files if file.exists()]
    if not found:
        raise NoConnection(f"no kubeconfig: there is no file {' and no file '.join(map(str, files))}")
    where = f"kubeconfig {os.pathsep.join(map(str, found))}"
    try:
        return _connection(where, _merged(found), context)
    except (AttributeError, KeyError, TypeError) as e:  # the package takes the shape of what it reads for granted
        raise NoConnection(f"{where} is no kubeconfig: {e}") from e
    except NoConnection:
        raise
    except (ConfigException, OSError, ValueError, yaml.YAMLError) as e:  # ssl.SSLError is an OSError
        raise NoConnection(f"{where} cannot be used: {e}") from e


def _merged(files: Sequence[Path]) -> ConfigNode:
    merger = KubeConfigMerger("")
    current = None
    for file in files:
        merger.load_config(str(file))
        # As for kubectl, the first counts here, too; the package takes the last.
        current = current or merger.config_files[str(file)].get("current-context")
    merger.config.value["current-context"] = current
    return merger.config


def _connection(where: str, whole: ConfigNode, name: str | None) -> Connection:
    names = ", ".join(sorted(str(entry.value["name"]) for entry in whole.value["contexts"]))
    if not (name or whole.value["current-context"]):
        raise NoConnection(f"{where} has no current-context: name one with --context; there is {names}")
    try:
        loader = KubeConfigLoader(whole, active_context=name, config_base_path=None)
        context = loader.current_context["context"]
        cluster = whole["clusters"].get_with_name(context["cluster"])["cluster"]
        # A context without a user is somebody anonymous, as for kubectl.
        user = whole["users"].get_with_name(context["user"])["user"] if context.get("user") else None
    except ConfigException as e:
        raise NoConnection(f"{where}: {e}; there is context {names}") from e
    server = str(cluster.value.get("server") or "")
    if not server.startswith(("https://", "http://")):
        raise NoConnection(f"{where}: the server {server!r} of cluster {context['cluster']!r} is no https:// URL")
    said = {} if user is None else user.value
    for key in ("client-certificate", "client-key", "tokenFile"):
        if said.get(key):  # the package takes the folder of the cluster's file
            said[key] = os.path.join(_folder(user), said[key])
    log_in = _own_ways(said, context.get("user"))
    by_command = said.pop("exec", None)  # else the package would run the command here
    configuration = Configuration()
    loader.load_and_set(configuration)
    tls = verifying(cafile=configuration.ssl_ca_cert)
    if not configuration.verify_ssl:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    if configuration.cert_file:
        tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    if log_in is None and said.get("tokenFile"):
        log_in = RenewedLogin(partial(_read_token, loader, configuration))
    elif log_in is None and configuration.api_key:
        log_in = FixedHeaders([("Authorization", configuration.api_key["BearerToken"])])
    elif log_in is None and by_command:
        log_in = RenewedLogin(_Command(str(context["user"]), by_command, _folder(user), cluster, tls))
    other, expected = impersonation(said), configuration.tls_server_name
    # Who logs in comes last: it may send the request twice.
    middlewares = (ServerName(expected) if expected else None, other, log_in)
    return Connection(
        server,
        tls,
        middlewares=tuple(middleware for middleware in middlewares if middleware is not None),
        namespace=context.get("namespace") or "default",
        proxy=proxy_of(server, cluster.value.get("proxy-url")),
        login=log_in if other is None else None,
    )


def _folder(node: ConfigNode) -> str:
    return os.path.dirname(os.path.abspath(str(node.path)))


def _own_ways(user: dict[str, Any], name: str | None) -> RenewedLogin | FixedHeaders | None:
    """Remove from `user` what the package handles differently from kubectl."""
    if "auth-provider" in user:
        raise NoConnection(
            f"user {name!r} of the kubeconfig logs in through an auth-provider, which is not supported: use an exec "
            "plugin, or a token (kubectl create token)"
        )
    if user.get("tokenFile"):
        user.pop("token", None)
    elif not user.get("token") and user.get("username"):
        return basic(user.pop("username"), user.pop("password", None) or "")  # its encoding is Latin-1
    return None


def _read_token(loader: InClusterConfigLoader | KubeConfigLoader, configuration: Configuration) -> Credential:
    try:
        loader.load_and_set(configuration)
    except (ConfigException, OSError, ValueError) as e:
        raise CredentialError(f"the token cannot be read: {e}") from e
    _, _, token = configuration.api_key["BearerToken"].partition(" ")
    return Credential(f"Bearer {token.strip()}", time.monotonic() + TOKEN_LIFE)


class _Command:
    """Logs in with a command: `aws`, `gke-gcloud-auth-plugin`, `kubelogin`."""

    def __init__(self, user: str, said: dict[str, Any], folder: str, cluster: ConfigNode, tls: ssl.SSLContext) -> None:
        """Raises NoConnection for what cannot work."""
        command, version, self._at = said.get("command"), said.get("apiVersion"), f"user {user!r} of the kubeconfig"
        if not command:
            raise NoConnection(f"{self._at}: exec.command is missing")
        if version not in EXEC_VERSIONS:
            supported = " and ".join(EXEC_VERSIONS)
            raise NoConnection(f"{self._at}: exec.apiVersion {version!r} is not supported, only {supported}")
        if shutil.which(os.path.join(folder, command) if os.sep in command else command) is None:
            hint = f"\n{said['installHint'].strip()}" if said.get("installHint") else ""
            raise NoConnection(f"{self._at} logs in with the command {command!r}, which is not installed{hint}")
        mode = said.get("interactiveMode") or ("IfAvailable" if version == EXEC_VERSIONS[1] else None)
        if mode not in ("Never", "IfAvailable", "Always"):
            raise NoConnection(f"{self._at}: exec.interactiveMode is {mode!r}: it must be Never, IfAvailable or Always")
        if mode == "Always" and not sys.stdout.isatty():
            raise NoConnection(f"{self._at} logs in by asking at a terminal, and standard output is none")
        self._said, self._folder, self._cluster, self._tls = said, folder, cluster, tls
        self._at += f": the command {command!r}"

    def __call__(self) -> Credential:
        """Run the command, which may take long. Raises CredentialError."""
        provider = ExecProvider(ConfigNode("exec", self._said), self._folder, self._cluster)
        try:
            status = provider.run()
            token, certificate, key = (status.get(name) for name in ("token", "clientCertificateData", "clientKeyData"))
            if bool(certificate) != bool(key) or not (token or certificate):
                raise CredentialError(f"{self._at} printed neither a token nor a client certificate with its key")
            until = _until(status.get("expirationTimestamp"))
            if certificate:
                load_pair(self._tls, f"{certificate}\n{key}\n".encode())
        except ssl.SSLError as e:
            raise CredentialError(f"{self._at} gave a client certificate that cannot be used: {e}") from e
        except ConfigException as e:
            raise CredentialError(f"{self._at}: {e}") from e
        except (OSError, ValueError, TypeError, AttributeError) as e:  # the package takes a lot for granted
            raise CredentialError(f"{self._at} failed, or printed no ExecCredential with a status: {e!r}") from e
        return Credential(f"Bearer {token}" if token else None, until)


def _until(expiry: str | None) -> float:
    """Return when a credential expires, by the monotonic clock."""
    lasts = (parse_rfc3339(expiry) - datetime.now(tz=UTC)).total_seconds() if expiry else 0
    # In the past: this machine's clock is ahead, and only the API server, by a 401, can say when it has expired.
    return time.monotonic() + lasts - LEEWAY if lasts > 0 else float("inf")
