"""Makes the archive: what goes into which layer."""

import datetime
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from operator_image import archive, debian, python, sbom

_PROJECT = Path(__file__).resolve().parents[3]
_USER = 65532
FIRST_TIME = 315532800
"""1980, in seconds: the time of every file where nothing says another. A zip knows no earlier one."""


def make(*, output: Path, architecture: str = "", epoch: int | None = None) -> Path:
    """Make the archive and its SBOM in the folder `output`, say on standard error what came of it, return its path.

    `architecture` is amd64 or arm64, this machine's by default; `epoch`, in seconds, is the time of every file,
    SOURCE_DATE_EPOCH or 1980 by default. Raises ImageError.
    """
    architecture = architecture or own_architecture()
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", FIRST_TIME)) if epoch is None else epoch
    source = _PROJECT / "operator/rollup_operator"
    version = python.operator_version(source)
    created = datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rollup-operator/image"
    output.mkdir(parents=True, exist_ok=True)
    packages = debian.fetch(architecture, cache)
    with tempfile.TemporaryDirectory(prefix="operator-image-") as work:
        roots = {name: Path(work) / name for name in ("debian", "wheels", "operator")}
        for root in roots.values():
            root.mkdir()
        debian.unpack(packages, roots["debian"])
        (roots["debian"] / "data").mkdir()
        wheels = python.install(_PROJECT / "requirements/image.txt", architecture, roots["wheels"])
        python.copy_operator(source, roots["operator"])
        if architecture == own_architecture():
            for root in roots.values():
                python.compile_all(root, roots["debian"])
        else:
            _say(f"note: no bytecode in it, which needs a machine that is {architecture}; it starts more slowly")
        owners = {"data": _USER}
        layers = [archive.layer(root, name, epoch=epoch, owners=owners) for name, root in roots.items()]
    path = output / f"rollup-operator-{version}-{architecture}.tar"
    config = {
        "Entrypoint": ["/usr/bin/rollup-operator"],
        "Cmd": ["run"],
        "User": f"{_USER}:{_USER}",
        "WorkingDir": "/",
        "Env": [
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "LANG=C.UTF-8",
            "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
        ],
        "ExposedPorts": {"8443/tcp": {}, "8080/tcp": {}},
        "Labels": {
            "org.opencontainers.image.title": "rollup-operator",
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.licenses": "Apache-2.0",
        },
    }
    digest = archive.write(path, f"localhost/rollup-operator:{version}", architecture, layers, config, created)
    bill = sbom.document(
        version=version, architecture=architecture, digest=digest, created=created, debian=packages, wheels=wheels
    )
    path.with_suffix(".cdx.json").write_text(json.dumps(bill, indent=2) + "\n")
    sizes = ", ".join(f"{each.holds} {len(each.content) / 1e6:.0f}" for each in layers)
    _say(f"{path}: {path.stat().st_size / 1e6:.0f} MB uncompressed ({sizes}), {digest}")
    _say(f"{path.with_suffix('.cdx.json')}: {len(bill['components'])} components")
    return path


def own_architecture() -> str:
    """Return this machine's architecture as image registries name it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
