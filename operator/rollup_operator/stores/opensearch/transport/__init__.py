"""Requests to a cluster: which host, which connection, what its answer or error means."""
