"""The tables and files that a job reads: found, checked, and read page by page."""
