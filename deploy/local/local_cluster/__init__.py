"""A real Kubernetes node on this machine, as a library and as `python -m local_cluster`. Linux, root.

Standard library only, so that it runs before anything is installed.
"""

from local_cluster.cluster import Cluster, stop
from local_cluster.errors import ClusterError
from local_cluster.needs import why_not

__all__ = ["Cluster", "ClusterError", "stop", "why_not"]
