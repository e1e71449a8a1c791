"""The indices that a job reads: what they are, and their buckets page by page."""
