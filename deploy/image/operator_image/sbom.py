"""What the image holds, as a CycloneDX document."""

import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from operator_image.debian import RELEASE, DebianPackage
from operator_image.python import Wheel

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "rollup-operator.dev")


def document(
    *,
    version: str,
    architecture: str,
    digest: str,
    created: str,
    debian: Sequence[DebianPackage],
    wheels: Sequence[Wheel],
) -> dict[str, Any]:
    """Describe one image; the same image has the same document."""
    operator = {
        "type": "container",
        "bom-ref": "image",
        "name": "rollup-operator",
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}],
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    components = [_debian(each, architecture) for each in debian] + [_wheel(each) for each in wheels]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}",
        "version": 1,
        "metadata": {"timestamp": created, "component": operator},
        "components": components,
        "dependencies": [{"ref": "image", "dependsOn": [each["bom-ref"] for each in components]}],
    }


def _debian(package: DebianPackage, architecture: str) -> dict[str, Any]:
    url = f"pkg:deb/debian/{package.name}@{quote(package.version, safe='+~.-')}?arch={architecture}&distro={RELEASE}"
    return {"type": "library", "bom-ref": url, "purl": url, "name": package.name, "version": package.version}


def _wheel(wheel: Wheel) -> dict[str, Any]:
    url = f"pkg:pypi/{wheel.name.lower().replace('_', '-')}@{wheel.version}"
    component = {"type": "library", "bom-ref": url, "purl": url, "name": wheel.name, "version": wheel.version}
    return component | ({"licenses": [{"expression": wheel.license}]} if wheel.license else {})
