"""What makes a plain node look like a secured one: certificates of a made-up authority, users, keys and rights.

authority = Authority.make(tmp_path / "ca")
security = Security(users={"rollup": "secret"})
async with StoreProxy(node.url, tls=authority.serving(), guard=security.judge) as proxy: ...
"""

import base64
import re
import ssl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from support.store_faults import error_body
from support.store_proxy import Request


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a folder; needs the command openssl, 3.0 or newer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate = folder / "ca.crt"
        """By which clients verify what it has issued."""

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Make a new one, in a folder that is not there yet."""
        folder.mkdir(parents=True)
        authority = cls(folder)
        authority._new("ca", "A test's authority", {"basicConstraints": "critical,CA:TRUE"}, signed=False)
        return authority

    def issue(self, name: str, *, hosts: str = "IP:127.0.0.1,DNS:localhost") -> Pair:
        """Issue a certificate whose common name is `name`, good for servers at `hosts` and for clients."""
        uses = {"subjectAltName": hosts, "extendedKeyUsage": "serverAuth,clientAuth"}
        return self._new(name, name, {**uses, "basicConstraints": "CA:FALSE"}, signed=True)

    def serving(self, *, clients: "Authority | None" = None, required: bool = False) -> ssl.SSLContext:
        """The server's end with a certificate of this authority.

        With `clients` it asks for a certificate of that authority, and insists on one if that is `required`. Another
        `load_cert_chain` on it counts for the connections that come after.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = self.issue("node")
        context.load_cert_chain(pair.certificate, pair.key)
        if clients is not None:
            context.load_verify_locations(clients.certificate)
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        return context

    def trusting(self, pair: Pair | None = None) -> ssl.SSLContext:
        """A client's end that trusts this authority alone, and shows a certificate if one is given."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context

    def _new(self, file: str, name: str, extensions: Mapping[str, str], *, signed: bool) -> Pair:
        pair = Pair(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        # A configuration of its own, for the system's adds extensions that contradict these.
        settings = self._folder / f"{file}.cnf"
        lines = [f"{key} = {value}" for key, value in extensions.items()]
        settings.write_text(
            "\n".join(["[req]", "distinguished_name = dn", "x509_extensions = ext", "[dn]", "[ext]", *lines])
        )
        command += ["-config", str(settings), "-subj", f"/CN={name}", "-days", "2"]
        command += ["-keyout", str(pair.key), "-out", str(pair.certificate)]
        if signed:
            command += ["-CA", str(self.certificate), "-CAkey", str(self._folder / "ca.key")]
        subprocess.run(command, check=True, capture_output=True)
        return pair


@dataclass
class Security:
    """Who may come in, and what each may not do. All may be changed while requests go on."""

    users: dict[str, str] = field(default_factory=dict)
    """Passwords by name, for basic authentication."""
    api_keys: dict[str, str] = field(default_factory=dict)
    """What goes into `Authorization: ApiKey ...` as it stands there, and whose it is."""
    tokens: dict[str, str] = field(default_factory=dict)
    """Bearer tokens, and whose they are."""
    certificates: set[str] = field(default_factory=set)
    """Common names of client certificates that are good for a user of that name."""
    opensearch: bool = True
    """Whether it speaks as OpenSearch's security plugin does, or as Elasticsearch."""
    seen: list[str] = field(default_factory=list)
    """Who came, in order; an empty text for nobody known."""
    _forbidden: list[tuple[str, str, re.Pattern[str]]] = field(default_factory=list)

    def forbid(self, who: str, method: str = "", path: str = "") -> None:
        """Take the right to requests that match from somebody."""
        self._forbidden.append((who, method, re.compile(path)))

    def allow_all(self) -> None:
        """Give all rights back."""
        self._forbidden.clear()

    def judge(self, request: Request) -> tuple[int, Any] | None:
        """The refusal of a request, None if it may go on: a StoreProxy's guard."""
        who = self._who(request)
        self.seen.append(who)
        if not who:
            reason = f"unable to authenticate user for REST request [{request.target}]"
            return 401, "Unauthorized" if self.opensearch else error_body(401, "security_exception", reason)
        for name, method, pattern in self._forbidden:
            if name == who and method in ("", request.method) and pattern.search(request.target):
                reason = (
                    f"no permissions for [{request.target}] and User [name={who}, requestedTenant=null]"
                    if self.opensearch
                    else f"action [{request.target}] is unauthorized for user [{who}]"
                )
                return 403, error_body(403, "security_exception", reason)
        return None

    def _who(self, request: Request) -> str:
        kind, _, value = request.head.headers.get("authorization", "").partition(" ")
        match kind.lower():
            case "basic":
                name, _, password = base64.b64decode(value).decode().partition(":")
                return name if self.users.get(name) == password else ""
            case "apikey":
                return self.api_keys.get(value, "")
            case "bearer":
                return self.tokens.get(value, "")
            case _:
                return request.subject if request.subject in self.certificates else ""
