"""Who may talk to the API server: tokens, the service-account key, kubeconfigs. All random, made anew at each start."""

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

ADMIN = "admin"
USERS: Mapping[str, Sequence[str]] = {
    ADMIN: ("system:masters",),
    "viewer": ("viewers",),
    "editor": ("editors",),
    "nobody": (),
}
"""Each user and its groups. Only the admin may do anything before a test or a manifest grants it."""

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_PEM_BEGIN = "-----BEGIN CERTIFICATE-----"


def make_tokens() -> dict[str, str]:
    """Make a fresh token for each user."""
    return {user: secrets.token_urlsafe(32) for user in USERS}


def token_file(tokens: Mapping[str, str]) -> str:
    """Return the text for kube-apiserver's --token-auth-file: token, user, uid, groups."""
    return "".join(f'{token},{user},{user},"{",".join(USERS[user])}"\n' for user, token in tokens.items())


def signing_key() -> str:
    """Make a private P-256 key in PEM, for signing service-account tokens."""
    # SEC 1: SEQUENCE { INTEGER 1, OCTET STRING key, [0] { OID prime256v1 } }. The public half is optional and Go
    # computes it, so that no library or openssl command is needed here.
    scalar = (secrets.randbelow(_P256_ORDER - 1) + 1).to_bytes(32, "big")
    body = bytes.fromhex("020101") + bytes.fromhex("0420") + scalar + bytes.fromhex("a00a06082a8648ce3d030107")
    text = base64.encodebytes(bytes([0x30, len(body)]) + body).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{text}-----END EC PRIVATE KEY-----\n"


def authority(bundle: Path) -> str:
    """Return the CA in PEM out of the bundle that kube-apiserver writes: its own certificate, then the CA's."""
    return _PEM_BEGIN + bundle.read_text().rpartition(_PEM_BEGIN)[2]


def kubeconfig(server: str, authority_pem: str, tokens: Mapping[str, str], current: str) -> str:
    """Return a kubeconfig with one context per token, `current` chosen. It is JSON, which every YAML reader takes."""
    cluster = {
        "server": server,
        "certificate-authority-data": base64.b64encode(authority_pem.encode()).decode(),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}} for user, token in tokens.items()],
        "contexts": [{"name": user, "context": {"cluster": "local", "user": user}} for user in tokens],
        "current-context": current,
    }
    return json.dumps(config, indent=2) + "\n"
