"""Brings jobs to their desired state: the state table, one actor per job, and the index of all jobs."""
