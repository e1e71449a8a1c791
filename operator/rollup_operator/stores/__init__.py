"""Stores hold the data: the protocol that a run uses, and its implementations."""
