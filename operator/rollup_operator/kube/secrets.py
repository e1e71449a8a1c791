"""Reading Secrets: one at a time, by name. They are never listed, watched or kept."""

import base64
import binascii
from urllib.parse import quote

from rollup_operator.kube.client import KubeClient, KubeError


async def read_secret(kube: KubeClient, namespace: str, name: str) -> dict[str, bytes]:
    """Return the data of a Secret. Raises KubeError, NotFound where there is none."""
    body = await kube.get(f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets/{quote(name, safe='')}")
    data = body.get("data") or {}
    try:
        return {str(key): base64.b64decode(value) for key, value in data.items()}
    except (binascii.Error, TypeError) as e:
        raise KubeError(500, "Invalid", f"the data of Secret {name!r} cannot be read") from e
