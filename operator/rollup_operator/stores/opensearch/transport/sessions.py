"""HTTP sessions of a cluster, made from the RollupStore's spec and the Secrets that it names.

Secrets are read when a session is made, and again when the cluster refuses one. They are not watched, and their
content gets into no log, no error and no `repr`, not even if a host repeats it. No login is sent to a host without
TLS, where anybody on the path could read it, unless the host is on this machine or a setting allows it.

Requests to Amazon OpenSearch Service are signed with the keys of a Secret, or with the operator's own identity if an
administrator lets the namespace use it.
"""

import asyncio
import ssl
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import aiohttp
from yarl import URL

from rollup_operator import __version__
from rollup_operator.model.store import ClusterStoreSpec as ClusterSpec
from rollup_operator.model.store import OpenSearchStore, SecretRef
from rollup_operator.net.client_session import client_session
from rollup_operator.sharing.shares import Account, unbounded
from rollup_operator.stores.errors import SecretInvalid, StoreUnsuitable
from rollup_operator.stores.host_rules import HostNotAllowed, HostRules, is_this_machine
from rollup_operator.stores.opensearch.transport import signing
from rollup_operator.stores.opensearch.transport.aws_identity import AwsIdentity
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.login import Login, Secret, login, signing_keys
from rollup_operator.stores.opensearch.transport.resolver import FilteringResolver, Lookups
from rollup_operator.stores.opensearch.transport.signing import Keys, Signer
from rollup_operator.stores.opensearch.transport.tls import Contexts, Trust, UnusableAuthority, UnusablePair
from rollup_operator.stores.opensearch.transport.wire import WireConnector
from rollup_operator.stores.redaction import Redactor
from rollup_operator.stores.secrets import ReadSecret

CONNECTIONS = 256
"""At a time, to all hosts of a cluster together."""

KEEP_SECONDS = 30.0
"""How long an idle connection is kept: less than what balancers allow, which cut without a word."""

LONGEST_HEADER = 2**16
"""Clusters warn of each deprecated thing in a separate header, in whole sentences."""


@dataclass(frozen=True, slots=True)
class KnownLogin:
    """The content of Secrets."""

    login: Login | Keys | None
    trust: bytes
    """Digest: what it is of may be as large as a Secret is, and there may be thousands of clients."""


class Connections:
    """Makes sessions for one spec."""

    def __init__(
        self,
        kind: str,
        spec: ClusterSpec,
        *,
        read_secret: ReadSecret,
        rules: HostRules,
        plain_credentials: bool = False,
        lookups: Lookups | None = None,
        contexts: Contexts | None = None,
        identity: Callable[[str], AwsIdentity] | None = None,
        who: Hashable = "",
    ) -> None:
        """`kind` is the field of the RollupStore that `spec` stands in, `who` whose it is among those of `lookups`.

        All clients of a process share `lookups` and `contexts`. `identity`: the operator's own in a Region of AWS;
        None: this store may not use it.

        `plain_credentials`: a login may be sent without TLS. Raises StoreUnsuitable for a host that is no URL, may not
        be connected to, or may not be sent the login, and where requests cannot be signed as asked for. No I/O.
        """
        self._aws = spec.aws if isinstance(spec, OpenSearchStore) else None
        self._identity: AwsIdentity | None = None
        if self._aws is not None and not signing.is_installed():
            raise StoreUnsuitable(
                f"spec.{kind}.aws: requests cannot be signed, as botocore is not installed: install "
                "rollup-operator[aws]"
            )
        if self._aws is not None and spec.credentials_secret_ref is None:
            if identity is None:
                raise StoreUnsuitable(
                    f"spec.{kind}.aws: name the Secret with the keys in credentialsSecretRef; the operator's own AWS "
                    "identity is only for namespaces that its setting store_aws_namespaces names"
                )
            self._identity = identity(self._aws.region)
        secret = (spec.credentials_secret_ref or self._aws) is not None and not plain_credentials
        for number, host in enumerate(spec.hosts):
            try:
                rules.check_url(host)
            except (HostNotAllowed, ValueError) as e:
                raise StoreUnsuitable(f"spec.{kind}.hosts[{number}]: {e}") from e
            if secret and URL(host).scheme != "https" and not is_this_machine(host):
                raise StoreUnsuitable(
                    f"spec.{kind}.hosts[{number}]: without TLS anybody on the network path can read the login"
                    f"{' of credentialsSecretRef' if spec.credentials_secret_ref else ''}: use https://, or let the "
                    "operator's setting store_plain_credentials allow it"
                )
            if _is_serverless(host):
                raise StoreUnsuitable(
                    f"spec.{kind}.hosts[{number}]: it is a collection of OpenSearch Serverless, which has no task "
                    "list, and only a task list shows that a job is stopped: use a domain of Amazon OpenSearch Service"
                )
        self._kind, self._spec, self._read_secret, self._rules = kind, spec, read_secret, rules
        self._known: KnownLogin | None = None
        self._redactor = Redactor()
        self._lookups, self._contexts, self._who = lookups or Lookups(), contexts or Contexts(), who

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the base URLs as they go over the wire, without a slash at the end."""
        return tuple(str(URL(host)).rstrip("/") for host in self._spec.hosts)

    def cluster(
        self,
        may_run: Callable[[], bool] = lambda: True,
        *,
        answers: Account | None = None,
        pages: Account | None = None,
        searches: Account | None = None,
    ) -> Cluster:
        """Return a client over them. `may_run` is called before each request of a run.

        `answers`, `pages` and `searches` bound the bytes of each; None: nothing does.
        """
        return Cluster(
            self.hosts,
            make_session=self.open,
            is_stale=self.is_stale,
            may_run=may_run,
            timeout=float(self._spec.request_timeout_seconds),
            answers=answers or unbounded(),
            pages=pages or unbounded(),
            searches=searches or unbounded(),
            redact=self.redact,
            whose_login=self.whose_login,
        )

    def redact(self, text: str) -> str:
        """Remove from a text the credentials of the newest session and of the one before it."""
        if self._aws is not None:
            text = signing.without_signature(text)
        if self._identity is not None:
            text = self._identity.redact(text)
        return self._redactor(text)

    def whose_login(self) -> str:
        """Say which login the cluster has refused, and what to do. Empty for AWS, which says so itself."""
        field = f"spec.{self._kind}.credentialsSecretRef"
        if self._aws is not None:
            return ""
        if (ref := self._spec.credentials_secret_ref) is None:
            return f"the cluster wants a login: name a Secret with username and password, apiKey or token in {field}"
        known = self._known.login if self._known is not None else None
        keys = known.keys if isinstance(known, Login) else "the login"
        return f"the cluster does not accept {keys} of Secret {ref.name!r} ({field}): correct them there"

    async def open(self) -> aiohttp.ClientSession:
        """Read the Secrets and return a session made from them. Raises SecretInvalid."""
        how, trust = await self._read()
        context = await asyncio.to_thread(self._context, trust)  # reads the system's authorities
        before = None if self._known is None else self._known.login
        self._redactor = Redactor.of(secret for each in (how, before) if each is not None for secret in each.secrets)
        self._known = KnownLogin(how, trust.digest)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        headers["User-Agent"] = f"rollup-operator/{__version__}"
        if isinstance(how, Login):
            headers["Authorization"] = how.header
        return client_session(
            middlewares=await self._middlewares(how),
            connector=WireConnector(
                ssl=context,
                limit=CONNECTIONS,
                keepalive_timeout=KEEP_SECONDS,
                resolver=FilteringResolver(self._rules, self._lookups, self._who),
            ),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
            trust_env=False,
        )

    async def is_stale(self) -> bool:
        """Whether the Secrets have changed since the newest session was made. Raises SecretInvalid."""
        how, trust = await self._read()
        return KnownLogin(how, trust.digest) != self._known

    async def _middlewares(self, how: Login | Keys | None) -> tuple[aiohttp.ClientMiddlewareType, ...]:
        """Return what signs, if anything does."""
        if self._aws is None:
            return ()
        await asyncio.to_thread(signing.load)
        if self._identity is not None:
            return (Signer(self._aws.region, self._identity.keys),)
        assert isinstance(how, Keys)
        keys = how

        async def of_secret() -> Keys:
            return keys

        return (Signer(self._aws.region, of_secret),)

    async def _read(self) -> tuple[Login | Keys | None, Trust]:
        spec = self._spec
        how = await self._login(spec.credentials_secret_ref)
        ca = await self._authority(spec.ca_secret_ref)
        certificate = await self._certificate(spec.client_certificate_secret_ref)
        return how, Trust(ca, certificate, verify=not spec.insecure_skip_tls_verify)

    async def _login(self, ref: SecretRef | None) -> Login | Keys | None:
        if ref is None:
            return None
        secret = await self._secret(ref, "credentialsSecretRef")
        return login(secret) if self._aws is None else signing_keys(secret)

    async def _authority(self, ref: SecretRef | None) -> str | None:
        if ref is None:
            return None
        return (await self._secret(ref, "caSecretRef")).text("ca.crt")

    async def _certificate(self, ref: SecretRef | None) -> bytes | None:
        if ref is None:
            return None
        secret = await self._secret(ref, "clientCertificateSecretRef")
        return f"{secret.text('tls.crt')}\n{secret.text('tls.key')}\n".encode()

    async def _secret(self, ref: SecretRef, of: str) -> Secret:
        where = self._where(ref, of)
        try:
            content = await self._read_secret(ref.name)
        except SecretInvalid as e:
            raise type(e)(f"{where}: {e}") from e
        return Secret.of(where, content, self._spec.hosts)

    def _context(self, trust: Trust) -> ssl.SSLContext:
        try:
            return self._contexts.of(trust)
        except UnusableAuthority as e:
            raise SecretInvalid(
                f"{self._where(self._spec.ca_secret_ref, 'caSecretRef')}: ca.crt cannot be used: {e}; give the "
                "certificates of the authority in PEM"
            ) from e
        except UnusablePair as e:
            raise SecretInvalid(
                f"{self._where(self._spec.client_certificate_secret_ref, 'clientCertificateSecretRef')}: tls.crt and "
                f"tls.key cannot be used: {e}; give the certificate with its chain and its unencrypted key, both in PEM"
            ) from e

    def _where(self, ref: SecretRef | None, of: str) -> str:
        return f"Secret {ref.name if ref is not None else ''!r} (spec.{self._kind}.{of})"


def _is_serverless(url: str) -> bool:
    return (URL(url).host or "").lower().rstrip(".").endswith(".aoss.amazonaws.com")
