"""Makes the operator's image without a container engine: `python -m operator_image`.

Standard library only. The Dockerfile beside this package makes an image of the same parts where an engine is at hand.
"""

from operator_image.build import make, own_architecture
from operator_image.errors import ImageError

__all__ = ["ImageError", "make", "own_architecture"]
