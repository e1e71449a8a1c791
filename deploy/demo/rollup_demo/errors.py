"""The errors that the demo raises on purpose."""


class DemoError(Exception):
    """Something is not as the demo promises; the message says what."""


class UsageError(Exception):
    """The demo was asked for something that it cannot do; the message says what would do."""
