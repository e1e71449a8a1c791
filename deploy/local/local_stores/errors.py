"""The errors that this package raises on purpose."""


class StoreNodeError(Exception):
    """Something that the user can put right; the message says what and how."""


class ToolMissing(StoreNodeError):
    """This machine has no JDK or no Maven that would do."""
