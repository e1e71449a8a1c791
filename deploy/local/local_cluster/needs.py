"""What a node needs of the machine, beside the programs that are built from Go modules."""

import os
import shutil
import sys
from pathlib import Path

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
"""What runs on the node, as local_control_plane builds it."""
TOOLS = ("kubectl", "pause")
"""What else it builds for the node."""
CNI_FOLDERS = (Path("/opt/cni/bin"), Path("/usr/lib/cni"), Path("/usr/libexec/cni"))

_COMMANDS = ("containerd", "runc", "ctr", "nft", "ip", "unshare", "nsenter", "mount")
_PLUGINS = ("bridge", "host-local", "loopback")
PACKAGES = ("containerd", "runc", "containernetworking-plugins", "nftables", "iproute2", "util-linux")
"""Of Debian and Ubuntu."""


def why_not() -> str | None:
    """Say why no node can run on this machine, and the cure; None if one can."""
    if sys.platform != "linux":
        return "a node needs Linux"
    if os.geteuid() != 0:
        return "a node needs root, for namespaces, cgroups and mounts"
    missing = [name for name in _COMMANDS if shutil.which(name, path=search_path()) is None]
    if plugins() is None:
        missing.append("the CNI plugins " + ", ".join(_PLUGINS))
    return (
        f"missing: {', '.join(missing)}; on Debian and Ubuntu: apt-get install {' '.join(PACKAGES)}"
        if missing
        else None
    )


def plugins() -> Path | None:
    """Return the folder of the CNI plugins, None if there is none."""
    return next((each for each in CNI_FOLDERS if all(os.access(each / name, os.X_OK) for name in _PLUGINS)), None)


def search_path() -> str:
    """Return where commands are looked for: what PATH says, and the administrator's folders."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
