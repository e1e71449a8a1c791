"""Makes what a release consists of: wheel, image, chart, CRDs, the kubectl plugin for krew, and their checksums.

It is a tool of this repository, no part of the operator.
"""

from operator_release.build import make
from operator_release.errors import ReleaseError

__all__ = ["ReleaseError", "make"]
