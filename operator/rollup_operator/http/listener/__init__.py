"""Sockets, connections and certificates."""
