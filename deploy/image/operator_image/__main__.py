"""The command: `python -m operator_image`."""

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from operator_image import archive, debian, python, sbom
from operator_image.errors import ImageError

_PROJECT = Path(__file__).resolve().parents[3]
_USER = 65532
_FIRST_TIME = 315532800  # 1980, where nothing says another


def main(arguments: list[str] | None = None) -> int:
    """Make the image; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        make(options.arch, options.output, options.epoch)
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def make(architecture: str, output: Path, epoch: int) -> Path:
    """Make the archive and its SBOM in the folder `output`, say what came of it, return the archive's path."""
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
        wheels = python.install(_PROJECT / "requirements/run.txt", architecture, roots["wheels"])
        python.copy_operator(source, roots["operator"])
        if architecture == _own_architecture():
            python.compile_all(list(roots.values()), roots["debian"])
        else:
            print(f"note: no bytecode in it, which needs a machine that is {architecture}; it starts more slowly")
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
        "Volumes": {"/data": {}},
        "Labels": {
            "org.opencontainers.image.title": "rollup-operator",
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.licenses": "Apache-2.0",
        },
    }
    digest = archive.write(path, f"rollup-operator:{version}", architecture, layers, config, created)
    bill = sbom.document(
        version=version, architecture=architecture, digest=digest, created=created, debian=packages, wheels=wheels
    )
    path.with_suffix(".cdx.json").write_text(json.dumps(bill, indent=2) + "\n")
    sizes = ", ".join(f"{each.holds} {len(each.content) / 1e6:.0f}" for each in layers)
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB uncompressed ({sizes}), {digest}")
    print(f"{path.with_suffix('.cdx.json')}: {len(bill['components'])} components")
    return path


def _own_architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m operator_image",
        description="Make the operator's image as an archive that docker load, podman load, skopeo and ctr take.",
    )
    parser.add_argument("--arch", choices=["amd64", "arm64"], default=_own_architecture(), help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder (default: %(default)s)")
    parser.add_argument(
        "--epoch",
        type=int,
        default=int(os.environ.get("SOURCE_DATE_EPOCH", _FIRST_TIME)),
        help="time of every file, in seconds (default: $SOURCE_DATE_EPOCH, else 1980)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
