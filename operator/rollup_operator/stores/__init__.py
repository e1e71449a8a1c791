"""Where the data is: the protocol that a run needs, and its implementations."""
