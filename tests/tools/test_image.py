"""The image's archive and its SBOM: what they hold, and that the same parts make the same bytes."""

import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from operator_image import archive, sbom
from operator_image.debian import DebianPackage
from operator_image.python import Wheel

CREATED = "1980-01-01T00:00:00Z"


def tree(folder: Path, *, in_order: list[str], at: int) -> Path:
    """A folder of the same files, made in some order at some time."""
    folder.mkdir()
    for name in in_order:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        os.utime(path, (at, at))
    (folder / "link").symlink_to("usr/b")
    return folder


def made(folder: Path, *roots: Path) -> tuple[Path, str]:
    layers = [archive.layer(root, f"layer {i}", epoch=7, owners={"usr": 65532}) for i, root in enumerate(roots)]
    output = folder / "image.tar"
    digest = archive.write(output, "operator:1", "amd64", layers, {"User": "65532:65532"}, CREATED)
    return output, digest


def read(image: Path) -> dict[str, bytes]:
    with tarfile.open(image) as tar:
        return {each.name: tar.extractfile(each).read() for each in tar.getmembers()}  # type: ignore[union-attr]


def loaded(files: dict[str, bytes], digest: str) -> Any:
    return json.loads(files[f"blobs/sha256/{digest.removeprefix('sha256:')}"])


def test_the_same_files_make_the_same_bytes_in_whatever_order_and_at_whatever_time(tmp_path: Path) -> None:
    names = ["usr/a", "usr/b", "etc/c"]
    images = []
    for number, (order, at) in enumerate([(names, 1_000_000_000), (names[::-1], 1_700_000_000)]):
        root = tree(tmp_path / f"tree-{number}", in_order=order, at=at)
        (tmp_path / f"out-{number}").mkdir()
        images.append(made(tmp_path / f"out-{number}", root))
    assert images[0][1] == images[1][1]
    assert images[0][0].read_bytes() == images[1][0].read_bytes()


def test_another_file_makes_another_digest(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", in_order=["usr/a", "usr/b"], at=1)
    first = made(tmp_path, root)[1]
    (root / "usr/a").write_text("other")
    assert made(tmp_path, root)[1] != first


def test_it_is_an_oci_layout_and_a_docker_archive_of_the_same_layers(tmp_path: Path) -> None:
    roots = [tree(tmp_path / name, in_order=["usr/a", "usr/b", f"only/{name}"], at=1) for name in ("lower", "upper")]
    image, digest = made(tmp_path, *roots)
    files = read(image)
    for name, content in files.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(content).hexdigest() == name.removeprefix("blobs/sha256/")
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["digest"] == digest
    assert entry["annotations"]["io.containerd.image.name"] == "operator:1"
    manifest = loaded(files, digest)
    config = loaded(files, manifest["config"]["digest"])
    assert config["config"] == {"User": "65532:65532"}
    assert config["rootfs"]["diff_ids"] == [each["digest"] for each in manifest["layers"]]
    (docker,) = json.loads(files["manifest.json"])
    assert docker["RepoTags"] == ["operator:1"]
    assert docker["Layers"] == [f"blobs/sha256/{each['digest'].removeprefix('sha256:')}" for each in manifest["layers"]]


def test_a_layer_has_owners_by_number_one_time_and_links(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", in_order=["usr/a", "usr/b"], at=1)
    os.link(root / "usr/b", root / "usr/c")
    path = tmp_path / "layer.tar"
    path.write_bytes(archive.layer(root, "", epoch=7, owners={"usr": 65532}).content)
    with tarfile.open(path) as tar:
        members = {each.name: each for each in tar.getmembers()}
        assert tar.extractfile("usr/c").read() == b"usr/b"  # type: ignore[union-attr]
    assert list(members) == sorted(members)
    assert {(each.mtime, each.uname, each.gname) for each in members.values()} == {(7, "", "")}
    assert (members["usr"].uid, members["usr"].gid, members["usr/a"].uid) == (65532, 65532, 0)
    assert members["link"].linkname == "usr/b"
    assert members["usr/c"].isreg()


def test_the_sbom_names_every_part_and_is_the_same_for_the_same_image() -> None:
    def document() -> dict[str, Any]:
        return sbom.document(
            version="1",
            architecture="arm64",
            digest="sha256:" + "a" * 64,
            created=CREATED,
            debian=[DebianPackage("libssl3", "3.0.17-1~deb12u2", Path("x.deb"))],
            wheels=[Wheel("pydantic_core", "2.50.4", "MIT"), Wheel("kopf", "1.45.2", "")],
        )

    found = document()
    assert [each["purl"] for each in found["components"]] == [
        "pkg:deb/debian/libssl3@3.0.17-1~deb12u2?arch=arm64&distro=bookworm",
        "pkg:pypi/pydantic-core@2.50.4",
        "pkg:pypi/kopf@1.45.2",
    ]
    assert found["components"][1]["licenses"] == [{"expression": "MIT"}]
    assert "licenses" not in found["components"][2]
    (dependency,) = found["dependencies"]
    assert dependency["dependsOn"] == [each["bom-ref"] for each in found["components"]]
    assert found == document()
