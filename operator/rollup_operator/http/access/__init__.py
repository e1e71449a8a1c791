"""Who calls, and what they may do, read and wait for."""
