"""The error of this package."""


class ImageError(Exception):
    """The image cannot be made; the text says why and what would help."""
