"""Real OpenSearch and Elasticsearch nodes on this machine, as a library and as `python -m local_stores`.

Standard library only, so that it runs before anything is installed.
"""

from local_stores.errors import StoreNodeError, ToolMissing
from local_stores.kinds import KINDS
from local_stores.node import Node

__all__ = ["KINDS", "Node", "StoreNodeError", "ToolMissing"]
