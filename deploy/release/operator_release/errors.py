"""Why a release cannot be made."""


class ReleaseError(Exception):
    """The tree is not in the state that a release needs, or a tool failed; the message says which."""
