"""The one error that this package raises on purpose."""


class ControlPlaneError(Exception):
    """Something that the user can put right; the message says what and how."""
