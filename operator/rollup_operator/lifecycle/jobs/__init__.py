"""One job: its states, its actor, its run, and the registry of them all."""
