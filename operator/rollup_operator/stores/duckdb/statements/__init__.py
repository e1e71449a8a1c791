"""Statements as text: pages of a job, searches, and what they are made of. Pure."""
