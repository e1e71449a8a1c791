"""The indices that a job reads: their properties, and their buckets page by page."""
