"""Reads Secrets, one at a time, by name. They are never listed, watched or kept."""

import base64
import binascii

from rollup_operator.kube.client import Body, KubeClient, KubeError
from rollup_operator.kube.paths import secret_path


async def read_secret(kube: KubeClient, namespace: str, name: str) -> Body:
    """Return a Secret, its data decoded to bytes. Raises KubeError, NotFound where there is none."""
    body = await kube.get(secret_path(namespace, name))
    data = body.get("data") or {}
    try:
        return {**body, "data": {str(key): base64.b64decode(value) for key, value in data.items()}}
    except (binascii.Error, TypeError) as e:
        raise KubeError(500, "Invalid", f"the data of Secret {name!r} cannot be read") from e
