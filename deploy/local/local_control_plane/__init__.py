"""A real etcd and kube-apiserver on this machine, as a library and as `python -m local_control_plane`.

Standard library only, so that it runs before anything is installed.
"""

from local_control_plane.build import binaries, built
from local_control_plane.errors import ControlPlaneError
from local_control_plane.plane import ControlPlane, stop

__all__ = ["ControlPlane", "ControlPlaneError", "binaries", "built", "stop"]
