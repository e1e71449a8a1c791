"""HTTP sessions of a cluster, made from the RollupStore's spec and the Secrets that it names.

Secrets are read when a session is made, and again when the cluster refuses one: they are not watched, and what is in
them gets into no log, no error and no `repr`.
"""

import asyncio
import base64
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from rollup_operator import __version__
from rollup_operator.client_session import client_session
from rollup_operator.model.store import ClusterStore as ClusterSpec
from rollup_operator.model.store import SecretRef
from rollup_operator.stores.errors import SecretInvalid, StoreUnsuitable
from rollup_operator.stores.opensearch.client import Cluster
from rollup_operator.stores.opensearch.hosts import FilteringResolver, HostNotAllowed, HostRules
from rollup_operator.stores.opensearch.wire import WireConnector

ReadSecret = Callable[[str], Awaitable[Mapping[str, bytes]]]
"""Reads the data of a Secret in the RollupStore's namespace, by its name. Raises SecretInvalid."""

CONNECTIONS = 256
"""At a time, to all hosts of a cluster together."""

KEEP_SECONDS = 30.0
"""How long an idle connection is kept: less than what balancers allow, which cut without a word."""

LONGEST_HEADER = 2**16
"""Clusters warn of each deprecated thing in a header of its own, in whole sentences."""


@dataclass(frozen=True, slots=True)
class Material:
    """What Secrets say."""

    authorization: str | None = field(default=None, repr=False)
    ca: str | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    """Client certificate and key in one PEM."""


class Connections:
    """Makes sessions for one spec."""

    def __init__(self, kind: str, spec: ClusterSpec, *, read_secret: ReadSecret, rules: HostRules) -> None:
        """`kind` is the field of the RollupStore that `spec` stands in.

        Raises StoreUnsuitable for a host that is no URL or may not be connected to. No I/O.
        """
        for number, host in enumerate(spec.hosts):
            try:
                rules.check_url(host)
            except (HostNotAllowed, ValueError) as e:
                raise StoreUnsuitable(f"spec.{kind}.hosts[{number}]: {e}") from e
        self._kind, self._spec, self._read_secret, self._rules = kind, spec, read_secret, rules
        self._material: Material | None = None

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the base URLs as they go over the wire, without a slash at the end."""
        return tuple(str(URL(host)).rstrip("/") for host in self._spec.hosts)

    def cluster(self, may_run: Callable[[], bool] = lambda: True) -> Cluster:
        """Return a client over them. `may_run` is asked before each request of a run."""
        timeout = float(self._spec.request_timeout_seconds)
        return Cluster(self.hosts, make_session=self.open, is_stale=self.is_stale, may_run=may_run, timeout=timeout)

    async def open(self) -> aiohttp.ClientSession:
        """Read the Secrets and return a session made from them. Raises SecretInvalid."""
        material = await self._read()
        context = await asyncio.to_thread(self._context, material)  # reads the system's authorities
        self._material = material
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        headers["User-Agent"] = f"rollup-operator/{__version__}"
        if material.authorization is not None:
            headers["Authorization"] = material.authorization
        return client_session(
            connector=WireConnector(
                ssl=context,
                limit=CONNECTIONS,
                keepalive_timeout=KEEP_SECONDS,
                resolver=FilteringResolver(self._rules),
            ),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
            trust_env=False,
        )

    async def is_stale(self) -> bool:
        """Whether the Secrets say something else than when the newest session was made. Raises SecretInvalid."""
        return await self._read() != self._material

    async def _read(self) -> Material:
        spec = self._spec
        authorization = await self._login(spec.credentials_secret_ref)
        ca = await self._authority(spec.ca_secret_ref)
        return Material(authorization, ca, await self._certificate(spec.client_certificate_secret_ref))

    async def _login(self, ref: SecretRef | None) -> str | None:
        return None if ref is None else authorization(await self._secret(ref, "credentialsSecretRef"))

    async def _authority(self, ref: SecretRef | None) -> str | None:
        if ref is None:
            return None
        return (await self._secret(ref, "caSecretRef")).text("ca.crt")

    async def _certificate(self, ref: SecretRef | None) -> bytes | None:
        if ref is None:
            return None
        secret = await self._secret(ref, "clientCertificateSecretRef")
        return f"{secret.text('tls.crt')}\n{secret.text('tls.key')}\n".encode()

    async def _secret(self, ref: SecretRef, of: str) -> "Secret":
        where = f"Secret {ref.name!r} (spec.{self._kind}.{of})"
        try:
            return Secret(where, await self._read_secret(ref.name))
        except SecretInvalid as e:
            raise type(e)(f"{where}: {e}") from e

    def _context(self, material: Material) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cadata=material.ca)
        except (ssl.SSLError, ValueError) as e:
            name = self._spec.ca_secret_ref.name if self._spec.ca_secret_ref is not None else ""
            raise SecretInvalid(
                f"Secret {name!r} (spec.{self._kind}.caSecretRef): ca.crt cannot be used: {_why(e)}; give the "
                "certificates of the authority in PEM"
            ) from e
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # From Python 3.13 on the default refuses certificates without key identifiers, which many clusters' are.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self._spec.insecure_skip_tls_verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if material.certificate is not None:
            try:
                _load_pair(context, material.certificate)
            except (ssl.SSLError, ValueError) as e:
                name = self._spec.client_certificate_secret_ref.name if self._spec.client_certificate_secret_ref else ""
                raise SecretInvalid(
                    f"Secret {name!r} (spec.{self._kind}.clientCertificateSecretRef): tls.crt and tls.key cannot be "
                    f"used: {_why(e)}; give the certificate with its chain and its unencrypted key, both in PEM"
                ) from e
        return context


@dataclass(frozen=True, slots=True)
class Secret:
    """The data of one Secret. `where` says which, for errors."""

    where: str
    data: Mapping[str, bytes] = field(repr=False)

    def text(self, key: str) -> str:
        """Return the text of a key without line ends around it. Raises SecretInvalid where there is none."""
        text = self.data.get(key, b"").decode(errors="replace").strip("\r\n")
        if "\ufffd" in text:
            raise SecretInvalid(f"{self.where}: {key} is no text in UTF-8")
        if not text:
            raise SecretInvalid(f"{self.where}: {key} is {'empty' if key in self.data else 'missing'}")
        return text


def authorization(secret: Secret) -> str:
    """Return the header that logs in as a Secret says: with a password, an API key or a bearer token.

    Raises SecretInvalid unless there is exactly one of these.
    """
    kinds = [kind for kind in (("username", "password"), ("apiKey",), ("token",)) if secret.data.keys() & set(kind)]
    if len(kinds) != 1:
        found = ", ".join(key for kind in kinds for key in kind if key in secret.data) or "nothing of it"
        raise SecretInvalid(f"{secret.where}: give either username and password, or apiKey, or token; there is {found}")
    match kinds[0]:
        case ("username", "password"):
            name, password = secret.text("username"), secret.text("password")
            if ":" in name:
                raise SecretInvalid(f"{secret.where}: username has a colon, which basic authentication cannot carry")
            return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"
        case ("apiKey",):
            key = _header_text(secret, "apiKey")
            # As Elasticsearch hands it out, encoded; or id and key as they were before that.
            return f"ApiKey {base64.b64encode(key.encode()).decode() if ':' in key else key}"
        case _:
            return f"Bearer {_header_text(secret, 'token')}"


def _header_text(secret: Secret, key: str) -> str:
    text = secret.text(key).strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise SecretInvalid(f"{secret.where}: {key} has characters that no header can carry")
    return text


def _load_pair(context: ssl.SSLContext, pem: bytes) -> None:
    """Load a certificate with its key. OpenSSL takes them from files only."""
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(pem)
        pair.flush()
        # Without a password, OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(pair.name, password="")


def _why(error: Exception) -> str:
    """Say what is wrong with a PEM in OpenSSL's word for it, never with a piece of it."""
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else "it is no PEM"
