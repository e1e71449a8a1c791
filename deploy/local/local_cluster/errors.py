"""The error of this package."""


class ClusterError(Exception):
    """A cluster cannot be started, found or asked; the text says why and what would help."""
