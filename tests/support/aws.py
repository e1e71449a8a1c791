"""The door of Amazon OpenSearch Service: lets requests through that are signed as AWS documents it, computed here anew.

domain = Domain("eu-central-1", {"AKIDEXAMPLE": Key("secret")})
async with StoreProxy(node.url, guard=domain.judge) as proxy: ...

Its refusals are AWS's own words, with the whole request in them where AWS repeats it.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from support.store_proxy import Request

UNRESERVED = "-_.~"
MINUTES = 5
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/([0-9]{8})/([^/]+)/([^/]+)/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)


@dataclass
class Key:
    """A secret access key; with a token it is that of a session."""

    secret: str
    token: str = ""
    expired: bool = False


def canonical_request(method: str, target: str, headers: Mapping[str, str], signed: list[str], body: bytes) -> str:
    """The canonical form of a request, by names of headers in lower case."""
    parts = urlsplit(target)
    path = quote(parts.path, safe="/" + UNRESERVED)  # as sent, and for all services but S3 quoted once more
    pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
    query = sorted((_quoted(name), _quoted(value)) for name, _, value in pairs)
    lines = [f"{name}:{' '.join(headers[name].split())}\n" for name in signed]
    return "\n".join([
        method,
        path,
        "&".join(f"{name}={value}" for name, value in query),
        "".join(lines),
        ";".join(signed),
        hashlib.sha256(body).hexdigest(),
    ])  # fmt: skip


def signature(canonical: str, at: str, secret: str, *, region: str, service: str) -> str:
    """The signature of a canonical request, with a secret access key."""
    scope = (at[:8], region, service, "aws4_request")
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, f"AWS4-HMAC-SHA256\n{at}\n{'/'.join(scope)}\n{digest}".encode(), "sha256").hex()


@dataclass
class Domain:
    """Who may come in. All may be changed while requests go on."""

    region: str
    keys: dict[str, Key] = field(default_factory=dict)
    service: str = "es"
    now: Callable[[], float] = time.time
    seen: list[str] = field(default_factory=list)
    """The access key of each request that was let in, in order."""
    _forbidden: list[tuple[str, re.Pattern[str]]] = field(default_factory=list)

    def forbid(self, action: str, target: str = "") -> None:
        """Take the right to an action (`ESHttpPost`) on targets that match from everybody."""
        self._forbidden.append((action, re.compile(target)))

    def allow_all(self) -> None:
        """Give all rights back."""
        self._forbidden.clear()

    def judge(self, request: Request) -> tuple[int, Any] | None:
        """The refusal of a request, None if it may go on: a StoreProxy's guard."""
        headers, method = request.head.headers, request.method
        found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        if found is None:
            return 403, {"message": "Missing Authentication Token"}
        name, day, region, service, names, given = found.groups()
        at, signed = headers.get("x-amz-date", ""), names.split(";")
        if (key := self.keys.get(name)) is None or headers.get("x-amz-security-token", "") != key.token:
            return 403, {"message": "The security token included in the request is invalid."}
        if key.expired:
            return 403, {"message": "The security token included in the request is expired"}
        if (region, service) != (self.region, self.service):
            return 403, {"message": f"Credential should be scoped to a valid region, not '{region}'. "}
        must = {"host", *(header for header in headers if header.startswith("x-amz-"))}
        if not must <= set(signed) or signed != sorted(signed) or at[:8] != day:
            return 403, {"message": "'Host', 'X-Amz-Date' and 'x-amz-*' must be signed headers."}
        canonical = canonical_request(method, request.target, headers, signed, request.body)
        if not hmac.compare_digest(signature(canonical, at, key.secret, region=region, service=service), given):
            return 403, {
                "message": "The request signature we calculated does not match the signature you provided. Check your "
                "AWS Secret Access Key and signing method. Consult the service documentation for details.\n\nThe "
                f"Canonical String for this request should have been\n'{canonical}'\n\nThe String-to-Sign should have "
                f"been\n'AWS4-HMAC-SHA256\n{at}\n{day}/{region}/{service}/aws4_request\n"
                f"{hashlib.sha256(canonical.encode()).hexdigest()}'\n"
            }
        if (refusal := self._late(at)) is not None:
            return 403, {"message": refusal}
        action = f"ESHttp{method.capitalize()}"
        if any(action == of and what.search(request.target) for of, what in self._forbidden):
            who = "User: arn:aws:iam::123456789012:user/rollup"
            why = f"because no identity-based policy allows the es:{action} action"
            return 403, {"Message": f"{who} is not authorized to perform: es:{action} {why}"}
        self.seen.append(name)
        return None

    def _late(self, at: str) -> str | None:
        signed_at = datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        now, reach = self.now(), MINUTES * 60
        if signed_at < now - reach:
            return f"Signature expired: {at} is now earlier than {_time(now - reach)} ({_time(now)} - {MINUTES} min.)"
        if signed_at > now + reach:
            latest = f"{_time(now + reach)} ({_time(now)} + {MINUTES} min.)"
            return f"Signature not yet current: {at} is still later than {latest}"
        return None


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")


def _quoted(text: str) -> str:
    return quote(unquote(text), safe=UNRESERVED)
