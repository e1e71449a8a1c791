"""Turns a Secret into the login header or the signing keys, or says why it may not be used. Pure.

A Secret may name its hosts in the annotation `rollup-operator.dev/hosts`: a user who may create a RollupStore can
then send it to those hosts only. Credentials of the Kubernetes cluster itself are sent to no store.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rollup_operator.model.base import SECRET_HOSTS
from rollup_operator.stores.errors import SecretInvalid
from rollup_operator.stores.host_rules import HostRules
from rollup_operator.stores.opensearch.transport.signing import Keys
from rollup_operator.stores.secrets import SecretContent

_OF_THE_CLUSTER = frozenset(
    {"kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"}
)
"""Types of Secrets that are of use to any recipient, and that no owner means for a store."""


LONGEST_HOSTS = 4096
"""Characters of the annotation: each name in it takes some microseconds of the event loop."""


@dataclass(frozen=True, slots=True)
class Secret:
    """The data of one Secret. `where` says which, for errors."""

    where: str
    data: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def of(cls, where: str, content: SecretContent, hosts: Sequence[str]) -> "Secret":
        """Return the data of one that may be shown to all of these hosts, given as URLs. Raises SecretInvalid."""
        if content.kind in _OF_THE_CLUSTER:
            raise SecretInvalid(
                f"{where}: it is of the type {content.kind}, which is sent to no store: put the credentials of the "
                "store into a Secret of type Opaque"
            )
        if (names := content.annotations.get(SECRET_HOSTS)) is not None:
            if len(names) > LONGEST_HOSTS:
                raise SecretInvalid(f"{where}: its annotation {SECRET_HOSTS} is longer than {LONGEST_HOSTS} characters")
            try:
                rules = HostRules.read([name for name in map(str.strip, names.split(",")) if name])
            except ValueError as e:
                raise SecretInvalid(f"{where}: its annotation {SECRET_HOSTS} cannot be used: {e}") from e
            if other := next((host for host in hosts if not rules.has(host)), None):
                raise SecretInvalid(
                    f"{where}: its annotation {SECRET_HOSTS} does not have {other}: add it there, or take it out of "
                    "the RollupStore's hosts"
                )
        return cls(where, content.data)

    def text(self, key: str) -> str:
        """Return the text of a key without line ends around it. Raises SecretInvalid where there is none."""
        text = self.data.get(key, b"").decode(errors="replace").strip("\r\n")
        if "\ufffd" in text:
            raise SecretInvalid(f"{self.where}: {key} is no text in UTF-8")
        if not text:
            raise SecretInvalid(f"{self.where}: {key} is {'empty' if key in self.data else 'missing'}")
        return text


@dataclass(frozen=True, slots=True)
class Login:
    """How to log in."""

    header: str = field(repr=False)
    """Value of the header Authorization."""
    secrets: tuple[str, ...] = field(repr=False)
    """What must never be shown."""
    keys: str
    """The keys of the Secret that it is made of, for people."""


LONGEST = 2**14
"""Bytes of the header: clusters take no longer ones, and it is kept, in many forms, for each client."""

_HEADERS = (("username", "password"), ("apiKey",), ("token",))
_SIGNS = ("accessKeyId", "secretAccessKey", "sessionToken")


def login(secret: Secret) -> Login:
    """Return the header that logs in as a Secret says: with a password, an API key or a bearer token.

    Raises SecretInvalid unless there is exactly one of these, and not too long.
    """
    _check_size(secret)
    kinds = [kind for kind in _HEADERS if secret.data.keys() & set(kind)]
    if not kinds and secret.data.keys() & set(_SIGNS):
        raise SecretInvalid(f"{secret.where}: it has keys of AWS, which sign requests: set spec.opensearch.aws.region")
    if len(kinds) != 1:
        found = ", ".join(key for kind in kinds for key in kind if key in secret.data) or "nothing of it"
        raise SecretInvalid(f"{secret.where}: give either username and password, or apiKey, or token; there is {found}")
    match kinds[0]:
        case ("username", "password"):
            name, password = secret.text("username"), secret.text("password")
            if ":" in name:
                raise SecretInvalid(f"{secret.where}: username has a colon, which basic authentication cannot carry")
            shown = base64.b64encode(f"{name}:{password}".encode()).decode()
            return Login(f"Basic {shown}", (shown, password), "username and password")
        case ("apiKey",):
            key = _header_text(secret, "apiKey")
            # As Elasticsearch hands it out, encoded; or id and key as they were before that.
            shown = base64.b64encode(key.encode()).decode() if ":" in key else key
            return Login(f"ApiKey {shown}", (shown, key, *_inner(shown)), "apiKey")
        case _:
            token = _header_text(secret, "token")
            return Login(f"Bearer {token}", (token,), "token")


def signing_keys(secret: Secret) -> Keys:
    """Return the keys that sign requests to AWS. Raises SecretInvalid unless they are there, and nothing else is."""
    _check_size(secret)
    if others := [key for kind in _HEADERS for key in kind if key in secret.data]:
        raise SecretInvalid(
            f"{secret.where}: there is {', '.join(others)}: with spec.opensearch.aws give accessKeyId and "
            "secretAccessKey alone, or take aws out of the spec"
        )
    token = _header_text(secret, "sessionToken") if "sessionToken" in secret.data else None
    return Keys(_header_text(secret, "accessKeyId"), secret.text("secretAccessKey").strip(), token)


def _check_size(secret: Secret) -> None:
    keys = (*(key for kind in _HEADERS for key in kind), *_SIGNS)
    if (size := sum(len(secret.data.get(key, b"")) for key in keys)) > LONGEST:
        raise SecretInvalid(f"{secret.where}: the login has {size} bytes: no cluster takes more than {LONGEST}")


def _inner(key: str) -> Iterator[str]:
    """Yield the secret part of an API key, whose other part is its id."""
    try:
        _, colon, inner = base64.b64decode(key, validate=True).decode().partition(":")
    except ValueError:
        return
    if colon:
        yield inner


def _header_text(secret: Secret, key: str) -> str:
    text = secret.text(key).strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise SecretInvalid(f"{secret.where}: {key} has characters that no header can carry")
    return text
