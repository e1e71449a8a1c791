"""Finds the jobs that a call names, writes to them, waits for them, and shows them."""
