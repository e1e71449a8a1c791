"""Reads requests: the body of a search, its aggregations and its query. Pure."""
