"""Layers and the archive, whose bytes depend on the files alone: sorted, one time for all, owners by number."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Layer:
    """One layer: an uncompressed tar, and what it holds in a few words."""

    content: bytes
    holds: str

    @property
    def digest(self) -> str:
        """Its SHA-256 in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


def layer(root: Path, holds: str, *, epoch: int, owners: Mapping[str, int]) -> Layer:
    """Pack a folder. `owners` gives user and group of single paths, all others are root's; `epoch` is every time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            entry = archive.gettarinfo(path, name)
            entry.mtime = epoch
            entry.uid = entry.gid = owners.get(name, 0)
            entry.uname = entry.gname = ""
            if entry.islnk():  # one of two names of a file; which one comes first is not the file's
                entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", path.stat().st_size
            if entry.isreg():
                with path.open("rb") as file:
                    archive.addfile(entry, file)
            else:
                archive.addfile(entry)
    return Layer(buffer.getvalue(), holds)


def write(
    output: Path, reference: str, architecture: str, layers: list[Layer], config: Mapping[str, Any], created: str
) -> str:
    """Write an archive that is an OCI layout and a docker archive at once; return the manifest's digest.

    `docker load`, `podman load`, `skopeo` and `ctr images import` take it.
    """
    blobs: dict[str, bytes] = {each.digest: each.content for each in layers}

    def descriptor(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    image = {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{each.digest}" for each in layers]},
        "history": [{"created": created, "created_by": each.holds} for each in layers],
    }
    config_descriptor = descriptor(_CONFIG_TYPE, _json(image))
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": config_descriptor,
        "layers": [descriptor(_LAYER_TYPE, each.content) for each in layers],
    }
    manifest_descriptor = descriptor(_MANIFEST_TYPE, _json(manifest))
    annotations = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
    }
    platform = {"architecture": architecture, "os": "linux"}
    index = {
        "schemaVersion": 2,
        "mediaType": _INDEX_TYPE,
        "manifests": [manifest_descriptor | {"annotations": annotations, "platform": platform}],
    }
    docker = {
        "Config": f"blobs/sha256/{config_descriptor['digest'][7:]}",
        "RepoTags": [reference],
        "Layers": [f"blobs/sha256/{each.digest}" for each in layers],
    }
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(index),
        "manifest.json": _json([docker]),
        **{f"blobs/sha256/{digest}": content for digest, content in sorted(blobs.items())},
    }
    part = output.with_name(output.name + ".part")
    with tarfile.open(part, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    part.replace(output)
    return str(manifest_descriptor["digest"])


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
