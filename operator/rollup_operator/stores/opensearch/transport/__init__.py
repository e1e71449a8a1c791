"""Requests to a cluster: which host, which connection, and the meaning of its answer or error."""
