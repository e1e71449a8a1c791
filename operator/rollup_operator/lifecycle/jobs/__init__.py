"""One job: its states, its actor, its run; and the registry of all jobs."""
