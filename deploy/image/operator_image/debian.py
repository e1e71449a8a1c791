"""The lowest layer: the interpreter and the libraries that it loads, from Debian's packages."""

import io
import os
import re
import shutil
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from operator_image.errors import ImageError

RELEASE = "bookworm"
_LISTS_SECONDS = 24 * 3600.0
MIRROR = "http://deb.debian.org"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_NAMES = Path(__file__).with_name("debian.txt")
# Documents but the licences, tables of other encodings and languages: nothing that the operator reads.
_LEFT_OUT = re.compile(
    r"usr/share/(man|info|locale|lintian|bug|menu|doc-base)/|usr/share/doc/(?!.*/copyright$)|.*/gconv/"
)


@dataclass(frozen=True)
class DebianPackage:
    """One package, as apt fetched and verified it."""

    name: str
    version: str
    file: Path


def fetch(architecture: str, cache: Path) -> list[DebianPackage]:
    """Fetch the packages of debian.txt, in its order, with apt and its signed lists. Raises ImageError.

    apt works in folders of its own below `cache`: what the machine has installed, or of which architecture it is, has
    no say. ROLLUP_IMAGE_MIRROR names another mirror of Debian's archive.
    """
    for command in ("apt-get", "dpkg-deb"):
        if shutil.which(command) is None:
            raise ImageError(f"{command}: not found; make the image on Debian or Ubuntu, or with the Dockerfile")
    if not _KEYRING.exists():
        raise ImageError(f"{_KEYRING}: not found; apt-get install debian-archive-keyring")
    root = cache / f"apt-{RELEASE}-{architecture}"
    for folder in ("state/lists/partial", "cache/archives/partial", "debs"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "status").touch()
    mirror = os.environ.get("ROLLUP_IMAGE_MIRROR", MIRROR)
    signed = f"[signed-by={_KEYRING}]"
    (root / "sources.list").write_text(
        f"deb {signed} {mirror}/debian {RELEASE} main\n"
        f"deb {signed} {mirror}/debian {RELEASE}-updates main\n"
        f"deb {signed} {mirror}/debian-security {RELEASE}-security main\n"
    )
    names = [line for line in _NAMES.read_text().splitlines() if line and not line.startswith("#")]
    updated = root / "updated"
    if not updated.exists() or time.time() - updated.stat().st_mtime > _LISTS_SECONDS:
        _apt(root, architecture, "update")
        updated.touch()
    # 'URL' name_version_architecture.deb size hash; a colon of the version is %3a there. Of a file that is in the
    # folder already it says nothing.
    words = _apt(root, architecture, "--print-uris", "download", *names)
    listed = re.findall(r"(?m)^'\S+' (([^_\s]+)_([^_\s]+)_\w+\.deb) ", words)
    _apt(root, architecture, "download", *names, into="debs")
    found = {name: DebianPackage(name, unquote(version), root / "debs" / file) for file, name, version in listed}
    missing = [name for name in names if name not in found or not found[name].file.exists()]
    if missing:
        raise ImageError(f"apt-get did not fetch {', '.join(missing)} of {RELEASE}")
    return [found[name] for name in names]


def unpack(packages: list[DebianPackage], root: Path) -> None:
    """Unpack them below `root` and make the few files that their scripts would have made."""
    for package in packages:
        command = ["dpkg-deb", "--fsys-tarfile", str(package.file)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode != 0:
            raise ImageError(f"{package.file}: dpkg-deb cannot read it; remove it and try again")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(root, filter=_wanted)  # noqa: S202  (the filter keeps every member below root)
    certificates = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    _write(root / "etc/ssl/certs/ca-certificates.crt", "".join(each.read_text() for each in certificates))
    _write(
        root / "etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/data:/sbin/nologin\n"
    )
    _write(root / "etc/group", "root:x:0:\nnonroot:x:65532:\n")
    _write(root / "etc/nsswitch.conf", "hosts: files dns\n")
    (root / "tmp").mkdir(exist_ok=True)


def _wanted(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
    name = member.name.removeprefix("./")
    return None if _LEFT_OUT.match(name) else tarfile.tar_filter(member, path)


def _apt(root: Path, architecture: str, *words: str, into: str = ".") -> str:
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Dir::State": root / "state",
        "Dir::State::status": root / "status",
        "Dir::Cache": root / "cache",
        "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
    }
    command = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items()), *words]
    done = subprocess.run(command, cwd=root / into, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"apt-get {words[0]}: exit code {done.returncode}\n{done.stderr.strip()}")
    return done.stdout


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
