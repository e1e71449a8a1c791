"""Splits a search between the documents of jobs and the rows of their source. Pure."""
